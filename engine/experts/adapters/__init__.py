"""Torch models of other packages as functions of a neighbour graph; one file per package."""
