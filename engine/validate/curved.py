"""A spherical and a cylindrical seam in the crystal: forces on lattice sites, stress at rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms

from duetto.experts.base import max_cutoff
from duetto.validate.case import Case
from duetto.validate.seam import LARGEST_FORCE, stresses_of, without_stress
from duetto.validate.subject import Array

SHAPES = {"sphere": (0, 1, 2), "cylinder": (0, 1)}
"""Axes along which the distance from the complex region's middle is taken."""

CELLS_ALONG = 2
"""Cells of a cylinder along its axis, its period: nothing changes along it."""

OFF_SITE = 0.37
"""Å along each axis from a lattice site to the middle: no two shells of sites are alike."""


def measure(case: Case) -> dict[str, Any]:
    """Complex inside a sphere and inside a cylinder of one radius, in a crystal unstressed by HF.

    Returns:
        `curved_seam`: for `sphere` and `cylinder` the atoms and the complex ones among them,
        `residual_force_mev_per_angstrom`, the largest force on lattice sites, where it ought to be
        nil, `relaxation_angstrom`, how far the atoms move until they are at rest,
        `interface_stress_mpa`, the largest component of any shell's stress then, and
        `shell_stress_mpa`, its mean diagonal by `radius_angstrom`.
    """
    cell = without_stress(case)
    return {"curved_seam": {shape: _measured(case, cell, axes) for shape, axes in SHAPES.items()}}


def _measured(case: Case, cell: Atoms, axes: tuple[int, ...]) -> dict[str, Any]:
    radius = case.config.seam.radius_A
    crystal = _around(case, cell, radius, axes)
    distance = _from_middle(crystal, axes)
    weights = (distance <= radius).astype(np.float64)
    forces = case.subject.evaluate(crystal, weights).forces.numpy()
    rest, _ = case.subject.relaxed(crystal, weights, LARGEST_FORCE)
    moved = np.linalg.norm(rest.positions - crystal.positions, axis=1)
    return {
        "radius_angstrom": radius,
        "atoms": len(crystal),
        "complex_atoms": int(weights.sum()),
        "residual_force_mev_per_angstrom": 1e3 * float(np.linalg.norm(forces, axis=1).max()),
        "relaxation_angstrom": float(moved.max()),
        **_shells(case, rest, weights, distance, radius, float(cell.cell.lengths()[0])),
    }


def _around(case: Case, cell: Atoms, radius: float, axes: tuple[int, ...]) -> Atoms:
    """Crystal enough that the seam's images do not see each other."""
    experts = case.subject.pair.experts
    clear = max(max_cutoff(experts[role]) for role in ("hf", "lf"))
    cells = math.ceil(2 * (radius + clear) / cell.cell.lengths()[0])
    return cell.repeat(tuple(cells if axis in axes else CELLS_ALONG for axis in range(3)))


def _from_middle(crystal: Atoms, axes: tuple[int, ...]) -> Array:
    """(A,) Å from the middle of the cell, along these axes."""
    across = list(axes)
    apart = crystal.positions[:, across] - crystal.cell.lengths()[across] / 2 - OFF_SITE
    period = crystal.cell.lengths()[across]
    return np.asarray(np.linalg.norm(apart - period * np.rint(apart / period), axis=1))


def _shells(
    case: Case, rest: Atoms, weights: Array, distance: Array, radius: float, length: float
) -> dict[str, Any]:
    """Stress of shells half a lattice constant thick, none of them across the seam."""
    member = np.floor((distance - radius) / (length / 2)).astype(np.int64)
    member[weights == 1.0] = np.minimum(member[weights == 1.0], -1)
    kinds = np.unique(member)
    stresses = stresses_of(case, rest, weights, [member == k for k in kinds])
    return {
        "interface_stress_mpa": float(np.abs(stresses).max()),
        "shell_stress_mpa": {
            "radius_angstrom": [float(distance[member == k].mean()) for k in kinds],
            "mean_normal": stresses[:, :3].mean(axis=1).tolist(),
        },
    }
