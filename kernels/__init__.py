"""Kernels and their plain-torch references. Imports nothing of the engine."""
