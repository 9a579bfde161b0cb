"""What computes the energy of an atom from its surroundings, and the pair file."""
