"""The mixture: terms, edges, neighbour list, backends."""
