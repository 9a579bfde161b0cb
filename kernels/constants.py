"""Constants of nature and of empirical laws, each once.

The ZBL repulsion, by Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985),
with the numbers of LAMMPS's pair_style zbl: two nuclei at a distance r have

    COULOMB · Z_i Z_j / r · Σ_k COEFFICIENTS_k exp(EXPONENTS_k (Z_i^POWER + Z_j^POWER) r / LENGTH)
"""

COULOMB = 14.399645
"""e² / (4 π ε0) in eV Å, as in LAMMPS's metal units."""

ZBL_COEFFICIENTS = (0.02817, 0.28022, 0.50986, 0.18175)
ZBL_EXPONENTS = (-0.20162, -0.40290, -0.94229, -3.19980)
ZBL_POWER = 0.23
ZBL_LENGTH = 0.46850
"""Å."""
