"""Lattice constant, equation of state and bulk modulus."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from duetto.measure.errors.crystal import SCAN, equation_of_state
from duetto.validate.case import Case
from duetto.validate.subject import WHO, weights_of

CELLS_ACROSS = 6
"""Cells of the mixture's crystal along the normal of its seam: each half is thicker than a cutoff
of 6 Å for every metal."""

_POINTS = 13


def measure(case: Case) -> dict[str, Any]:
    """By each expert and by the mixture, half of whose crystal is complex.

    Returns:
        `lattice_constant_angstrom`, `bulk_modulus_gpa` by expert, and the curves,
        `equation_of_state`: Å³ and eV per atom, energies since the minimum.
    """
    lengths, moduli, curves = {}, {}, {}
    for who in WHO:
        crystal = cell_of(who, case.crystal)

        def energy(atoms: Atoms, who: str = who) -> float:
            return case.subject.energy(atoms, weights_of(who, atoms))

        found = equation_of_state(energy, crystal, f"{who}, {case.crystal_name}")
        lengths[who] = found["lattice_constant_angstrom"]
        moduli[who] = found["bulk_modulus_gpa"]
        curves[who] = _curve(energy, at_length(crystal, lengths[who]), found["energy_ev"])
    return {
        "lattice_constant_angstrom": lengths,
        "bulk_modulus_gpa": moduli,
        "equation_of_state": curves,
    }


def cell_of(who: str, crystal: Atoms) -> Atoms:
    """One cell for an expert, a column of cells for the mixture."""
    return crystal.repeat((1, 1, CELLS_ACROSS)) if who == "mixture" else crystal.copy()


def at_length(crystal: Atoms, length: float) -> Atoms:
    """The crystal scaled so that its first vector, of one cell, has this length in Å."""
    scaled = crystal.copy()
    factor = length / crystal.cell.lengths()[0]
    scaled.set_cell(crystal.cell.array * factor, scale_atoms=True)
    return scaled


def _curve(energy: Any, crystal: Atoms, lowest: float) -> dict[str, list[float]]:
    length, n_atoms = crystal.cell.lengths()[0], len(crystal)
    crystals = [at_length(crystal, length * (1 + s)) for s in np.linspace(-SCAN, SCAN, _POINTS)]
    return {
        "volume_angstrom3": [float(atoms.get_volume()) / n_atoms for atoms in crystals],
        "energy_ev": [energy(atoms) / n_atoms - lowest for atoms in crystals],
    }
