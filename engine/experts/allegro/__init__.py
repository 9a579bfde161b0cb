"""Folded Allegro."""
