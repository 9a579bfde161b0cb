"""Weights that follow seeds: a product over the seeds near each atom, and its gradient.

    q_i = q_i^static Π_s g((|r_i − r_s| − core) / width),   w_i = 1 − q_i

over all seeds s and their periodic images, with g(x) = x³ (10 − 15 x + 6 x²), clamped to 0 below
x = 0 and to 1 above x = 1: a step with two continuous derivatives. q is what is multiplied, not w,
since 1 − w near w = 1 would lose its digits.
"""

from __future__ import annotations

import math
from typing import Any

from duetto.kernels.cpu.compiling import compiled


@compiled
def follow_seeds(
    positions: Any,
    cell: Any,
    seeds: Any,
    first: Any,
    neighbor: Any,
    shift: Any,
    core: float,
    width: float,
    q: Any,
    reached: Any,
) -> None:
    """Multiply every atom's share of LF by what each seed near it leaves.

    Args:
        positions: (A, 3) float64, Å.
        cell: (3, 3) float64, rows are the cell's vectors, Å.
        seeds: (S,) int64.
        first: (A + 1,) int64, where each seed's neighbours begin in the list.
        neighbor: (list,) int32.
        shift: (list, 3) integers, images of the neighbours.
        core: Å.
        width: Å.
        q: (A,) float64 IN and OUTPUT.
        reached: (A,) bool OUTPUT, set where a seed is closer than core + width.
    """
    for k in range(seeds.shape[0]):
        s = seeds[k]
        for slot in range(first[s], first[s + 1]):
            j = neighbor[slot]
            square = 0.0
            for c in range(3):
                d = positions[j, c] - positions[s, c]
                for axis in range(3):
                    d += shift[slot, axis] * cell[axis, c]
                square += d * d
            x = (math.sqrt(square) - core) / width
            if x < 1.0:
                reached[j] = True
                if x > 0.0:
                    q[j] *= x * x * x * (10.0 + x * (6.0 * x - 15.0))
                else:
                    q[j] = 0.0


@compiled
def pull_on_seeds(
    positions: Any,
    cell: Any,
    seeds: Any,
    first: Any,
    neighbor: Any,
    shift: Any,
    core: float,
    width: float,
    q: Any,
    difference: Any,
    forces: Any,
    virials: Any,
) -> None:
    """The part of the forces by which weights depend on positions, −Σ_i ΔE_i ∂w_i/∂R.

    Args:
        positions, cell, seeds, first, neighbor, shift, core, width: as `follow_seeds`.
        q: (A,) float64, its result.
        difference: (A,) float64, ΔE_i = E_i^HF − E_i^LF, eV; read where 0 < q < q_static alone.
        forces: (A, 3) float64, eV/Å, ADDED TO.
        virials: (A, 3, 3) float64, eV, −dE/dε, ADDED TO: half of what a pair gives to either atom;
            or (1, 3, 3), of all.
    """
    by_atom = virials.shape[0] > 1
    for k in range(seeds.shape[0]):
        s = seeds[k]
        for slot in range(first[s], first[s + 1]):
            j = neighbor[slot]
            if q[j] == 0.0:
                continue
            dx = positions[j, 0] - positions[s, 0]
            dy = positions[j, 1] - positions[s, 1]
            dz = positions[j, 2] - positions[s, 2]
            for axis in range(3):
                dx += shift[slot, axis] * cell[axis, 0]
                dy += shift[slot, axis] * cell[axis, 1]
                dz += shift[slot, axis] * cell[axis, 2]
            r = math.sqrt(dx * dx + dy * dy + dz * dz)
            x = (r - core) / width
            if x <= 0.0 or x >= 1.0:
                continue
            # ∂w/∂r = −(q/g) g'/width, with g'/g = 30 (1 − x)² / (x (10 − 15 x + 6 x²))
            rate = 30.0 * (1.0 - x) * (1.0 - x) / (x * (10.0 + x * (6.0 * x - 15.0)))
            pull = difference[j] * q[j] * rate / (width * r)
            fx, fy, fz = pull * dx, pull * dy, pull * dz
            forces[j, 0] += fx
            forces[j, 1] += fy
            forces[j, 2] += fz
            forces[s, 0] -= fx
            forces[s, 1] -= fy
            forces[s, 2] -= fz
            if by_atom:
                _add_product(0.5, dx, dy, dz, fx, fy, fz, virials[j])
                _add_product(0.5, dx, dy, dz, fx, fy, fz, virials[s])
            else:
                _add_product(1.0, dx, dy, dz, fx, fy, fz, virials[0])


@compiled
def _add_product(
    share: float, dx: float, dy: float, dz: float, fx: float, fy: float, fz: float, virial: Any
) -> None:
    """Add share · d ⊗ f to a (3, 3)."""
    virial[0, 0] += share * dx * fx
    virial[0, 1] += share * dx * fy
    virial[0, 2] += share * dx * fz
    virial[1, 0] += share * dy * fx
    virial[1, 1] += share * dy * fy
    virial[1, 2] += share * dy * fz
    virial[2, 0] += share * dz * fx
    virial[2, 1] += share * dz * fy
    virial[2, 2] += share * dz * fz
