"""Which expert computes which atom, and the watch over it."""
