"""How far float32 may be off, of the largest force there is."""

from __future__ import annotations

import torch

FLOAT32 = 5e-5 if torch.cuda.is_available() else 1e-5
"""Sums of some 10³ float32 terms of either sign, at 6e-8 each, where arithmetic is IEEE's own, as
in the interpreter. On a chip activations are approximate instructions, good to 2⁻²², four roundings
where one was: 4e-5, and a quarter more."""
