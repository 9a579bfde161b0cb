"""Duetto: two co-trained Allegro potentials as one energy-conserving force field."""
