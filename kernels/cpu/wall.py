"""ZBL repulsion of the few pairs of atoms that come close, in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from duetto.kernels.constants import COULOMB, ZBL_COEFFICIENTS, ZBL_EXPONENTS, ZBL_LENGTH, ZBL_POWER
from duetto.kernels.cpu.compiling import compiled


@compiled
def zbl_pair(r: float, zi: float, zj: float, inverse: float, p: float) -> tuple[float, float]:
    """Half the ZBL energy of a pair under its polynomial cutoff, eV, and the slope, eV/Å.

    As `kernels.folded.zbl_edge_energies`.

    Args:
        r: distance, Å.
        zi, zj: atomic numbers.
        inverse: 1/cutoff, 1/Å.
        p: exponent of the cutoff.
    """
    k = (zi**ZBL_POWER + zj**ZBL_POWER) / ZBL_LENGTH
    screening, slope = 0.0, 0.0
    for n in range(4):
        part = ZBL_COEFFICIENTS[n] * math.exp(ZBL_EXPONENTS[n] * k * r)
        screening += part
        slope += ZBL_EXPONENTS[n] * part
    bare = 0.5 * COULOMB * zi * zj / r
    x = min(r * inverse, 1.0)
    lower = x ** (p - 1.0)
    polynomial = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - p * (p + 1) / 2 * x)
    cutoff = 1.0 - lower * x * polynomial
    fall = -p * (p + 1) * (p + 2) / 2 * lower * (1.0 - x * (2.0 - x)) * inverse
    change = bare * (k * slope - screening / r)
    return bare * screening * cutoff, change * cutoff + bare * screening * fall


@compiled
def wall_of_edges(
    rows: Any, pair: Any, vectors: Any, wall: Any, energy: Any, gradient: Any
) -> None:
    """Add the wall to a chunk's energies and gradients.

    Args:
        rows: (n + 1,) start of each centre's edges.
        pair: (E,) centre type · T + neighbor type.
        vectors: (E, 3) Å.
        wall: atomic numbers (T,), radii (T, T) Å, exponent.
        energy: (n,) float64, ADDED TO.
        gradient: (E, 3), ADDED TO.
    """
    numbers, radii, p = wall
    T = numbers.shape[0]
    for row in range(rows.shape[0] - 1):
        for e in range(rows[row], rows[row + 1]):
            ti, tj = pair[e] // T, pair[e] % T
            x = np.float64(vectors[e, 0])
            y = np.float64(vectors[e, 1])
            z = np.float64(vectors[e, 2])
            square = x * x + y * y + z * z
            if square < radii[ti, tj] ** 2:
                r = math.sqrt(square)
                found, slope = zbl_pair(
                    r, np.float64(numbers[ti]), np.float64(numbers[tj]), 1.0 / radii[ti, tj], p
                )
                energy[row] += found
                gradient[e, 0] += slope * x / r
                gradient[e, 1] += slope * y / r
                gradient[e, 2] += slope * z / r


@compiled
def wall_of_centre(
    positions: Any,
    images: Any,
    slots: Any,
    i: int,
    weight: float,
    types: Any,
    wall: Any,
    low: int,
    forces: Any,
    virial: Any,
) -> float:
    """The wall's energy of one centre, eV; its weighted forces and virial are added.

    Args:
        positions: (4 A,) float64.
        images: (4 images,) float64.
        slots: the centre's, see `linear_blocks.pack_slots`.
        i: the centre.
        weight: of its energy.
        types: (A,) int64.
        wall: atomic numbers (T,), radii (T, T) Å, exponent.
        low: the atom whose force stands first in `forces`.
        forces: (any, 4) float64, ADDED TO.
        virial: (3, 3) float64, ADDED TO.
    """
    numbers, radii, p = wall
    ti, energy = types[i], 0.0
    for slot in slots:
        j, image = slot & 0xFFFFFFFF, (slot >> 32) & 0xFFFF
        x = positions[4 * j] - positions[4 * i] + images[4 * image]
        y = positions[4 * j + 1] - positions[4 * i + 1] + images[4 * image + 1]
        z = positions[4 * j + 2] - positions[4 * i + 2] + images[4 * image + 2]
        square = x * x + y * y + z * z
        radius = radii[ti, types[j]]
        if square >= radius * radius:
            continue
        r = math.sqrt(square)
        zi, zj = np.float64(numbers[ti]), np.float64(numbers[types[j]])
        found, slope = zbl_pair(r, zi, zj, 1.0 / radius, p)
        energy += found
        # Scalars, no arrays: callers that count no references can allocate none.
        pull = weight * slope / r
        add_row(forces, i - low, pull * x, pull * y, pull * z)
        add_row(forces, j - low, -pull * x, -pull * y, -pull * z)
        add_row(virial, 0, -x * pull * x, -x * pull * y, -x * pull * z)
        add_row(virial, 1, -y * pull * x, -y * pull * y, -y * pull * z)
        add_row(virial, 2, -z * pull * x, -z * pull * y, -z * pull * z)
    return energy


@compiled
def add_row(target: Any, row: int, x: float, y: float, z: float) -> None:
    """Add a vector to the first three numbers of a row of (any, 3 or more) float64."""
    target[row, 0] += x
    target[row, 1] += y
    target[row, 2] += z
