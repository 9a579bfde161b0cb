"""Compiled CPU stages of the folded form: everything that is not a matrix product.

Matrix products go to torch; what lies between them is compiled by Numba, which installs with pip
and needs no compiler. Each stage exists for one data type and one set of widths, so that every
inner loop has a fixed length and is vectorised. All work on a chunk of centres small enough to
stay in the processor's cache.
"""
