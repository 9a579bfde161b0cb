"""Real spherical harmonics up to degree 3, in the order and signs of e3nn.

One table, from which plain torch, the CPU's code, the GPU's code and their gradients come.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

Powers = tuple[int, int, int]
"""Exponents (a, b, c) of x^a y^b z^c."""


class Harmonic(NamedTuple):
    """`scale` · Σ coefficient · x^a y^b z^c of a unit vector."""

    scale: float
    terms: dict[Powers, int]


HARMONICS = (
    Harmonic(1.0, {(0, 0, 0): 1}),
    Harmonic(sqrt(3), {(1, 0, 0): 1}),
    Harmonic(sqrt(3), {(0, 1, 0): 1}),
    Harmonic(sqrt(3), {(0, 0, 1): 1}),
    Harmonic(sqrt(15), {(1, 0, 1): 1}),
    Harmonic(sqrt(15), {(1, 1, 0): 1}),
    Harmonic(sqrt(5) / 2, {(0, 2, 0): 2, (2, 0, 0): -1, (0, 0, 2): -1}),
    Harmonic(sqrt(15), {(0, 1, 1): 1}),
    Harmonic(sqrt(15) / 2, {(0, 0, 2): 1, (2, 0, 0): -1}),
    Harmonic(sqrt(35 / 8), {(1, 0, 2): 3, (3, 0, 0): -1}),
    Harmonic(sqrt(105), {(1, 1, 1): 1}),
    Harmonic(sqrt(21 / 8), {(1, 2, 0): 4, (3, 0, 0): -1, (1, 0, 2): -1}),
    Harmonic(sqrt(7) / 2, {(0, 3, 0): 2, (2, 1, 0): -3, (0, 1, 2): -3}),
    Harmonic(sqrt(21 / 8), {(0, 2, 1): 4, (2, 0, 1): -1, (0, 0, 3): -1}),
    Harmonic(sqrt(105) / 2, {(0, 1, 2): 1, (2, 1, 0): -1}),
    Harmonic(sqrt(35 / 8), {(0, 0, 3): 1, (2, 0, 1): -3}),
)
"""Y_lm by component: "component" normalised (mean square 1 each), the polar axis is y."""

_MONOMIALS = tuple(dict.fromkeys(powers for one in HARMONICS for powers in one.terms))
_TABLE = [[one.scale * one.terms.get(powers, 0) for one in HARMONICS] for powers in _MONOMIALS]


def slope(terms: dict[Powers, int], axis: int) -> dict[Powers, int]:
    """Derivative of a sum of monomials along an axis, the three coordinates taken as free."""
    lowered = {}
    for powers, coefficient in terms.items():
        if powers[axis] > 0:
            a, b, c = (p - (k == axis) for k, p in enumerate(powers))
            lowered[(a, b, c)] = coefficient * powers[axis]
    return lowered


def spherical_harmonics(unit: Tensor, l_max: int) -> Tensor:
    """Real spherical harmonics of unit vectors.

    Args:
        unit: (E, 3) unit vectors.
        l_max: highest degree, 0 to 3.

    Returns:
        (E, (l_max + 1)²), degrees one after the other, -l to l within each.
    """
    one = torch.ones_like(unit[:, 0])
    known: dict[Powers, Tensor] = {(0, 0, 0): one}

    def monomial(powers: Powers) -> Tensor:
        if powers not in known:
            axis = next(k for k in range(3) if powers[k])
            a, b, c = (p - (k == axis) for k, p in enumerate(powers))
            known[powers] = monomial((a, b, c)) * unit[:, axis]
        return known[powers]

    components = (l_max + 1) ** 2
    chosen = [powers for powers in _MONOMIALS if sum(powers) <= l_max]
    rows = [_TABLE[_MONOMIALS.index(powers)][:components] for powers in chosen]
    return torch.stack([monomial(powers) for powers in chosen], dim=1) @ unit.new_tensor(rows)
