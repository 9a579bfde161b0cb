"""Compiled CPU stages of the folded form.

Compiled by Numba, which installs with pip and needs no compiler. Each stage exists for one data
type and one set of widths, so that every inner loop has a fixed length and is written in vectors.
All work on a chunk of centres small enough to stay in the processor's cache. Products of a chunk's
rows with the weights are written here, too: the matrices are small, and what follows a product is
done while its rows are in the first-level cache.
"""
