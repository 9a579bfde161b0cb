"""Elastic constants of a cubic crystal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms, units

from duetto.validate.bulk import at_length, cell_of
from duetto.validate.case import Case
from duetto.validate.subject import WHO, stress_of, weights_of

Array = npt.NDArray[np.float64]

STRAIN = 0.004
"""Step of the differences. Their fourth-order error, about (2 STRAIN)⁴ times a ratio of constants
of the order of 100, is below 1e-6 of the result."""

LARGEST_FORCE = 1e-4
"""eV/Å where atoms in a strained cell are at rest: stress changes with it by force over area,
1e-4 eV/Å / 10 Å² or 2 MPa, 1e-4 of that at STRAIN times 100 GPa."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def measure(case: Case) -> dict[str, Any]:
    """C11, C12, C44 at the lattice constant of whom it is, atoms at rest, GPa."""
    rows: dict[str, dict[str, float]] = {"c11_gpa": {}, "c12_gpa": {}, "c44_gpa": {}}
    for who in WHO:
        crystal = cell_of(who, case.crystal)
        crystal = at_length(crystal, case.found["lattice_constant_angstrom"][who])
        weights = weights_of(who, crystal)

        def stress(atoms: Atoms, weights: Array = weights) -> Array:
            atoms, _ = case.subject.relaxed(atoms, weights, LARGEST_FORCE)
            return stress_of(case.subject.evaluate(atoms, weights), atoms.get_volume())

        for key, value in cubic_constants(stress, crystal).items():
            rows[key][who] = value
    return rows


def cubic_constants(
    stress: Callable[[Atoms], Array], crystal: Atoms, step: float = STRAIN
) -> dict[str, float]:
    """C11, C12 and C44 from stresses of strained cells.

    C_ij = dσ_i/dε_j with engineering shears, by central differences of four points, averaged over
    the axes: of a column of cells that is not cubic, an average.

    Args:
        stress: (6,) eV/Å³ of a structure, in the order xx, yy, zz, yz, xz, xy.
        crystal: at rest, its cell along x, y and z.
        step: strains are one and two of it, either way.

    Returns:
        GPa.
    """
    matrix = np.empty((6, 6))
    for j in range(6):

        def at(steps: int, j: int = j) -> Array:
            return stress(strained(crystal, j, steps * step))

        matrix[:, j] = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
    normal = matrix[:3, :3]
    return {
        "c11_gpa": float(np.diag(normal).mean()) / units.GPa,
        "c12_gpa": float(normal[~np.eye(3, dtype=bool)].mean()) / units.GPa,
        "c44_gpa": float(np.diag(matrix)[3:].mean()) / units.GPa,
    }


def strained(crystal: Atoms, component: int, strain: float) -> Atoms:
    """The crystal with one component of strain, atoms carried along."""
    a, b = _VOIGT[component]
    deformation = np.eye(3)
    deformation[a, b] += strain / 2
    deformation[b, a] += strain / 2
    atoms = crystal.copy()
    atoms.set_cell(crystal.cell.array @ deformation, scale_atoms=True)
    return atoms
