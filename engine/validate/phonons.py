"""Phonon frequencies of both experts at the special points of the crystal's zone."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell

from duetto.errors import InputError
from duetto.validate.bulk import at_length
from duetto.validate.case import Case

DISPLACEMENT = 0.01
"""Å, forwards and backwards: the cubic terms cancel, the next err by (0.01 Å)² over the square of
the length at which forces are no longer linear, some 0.5 Å: 4e-4 of a force constant."""


def measure(case: Case) -> dict[str, Any]:
    """By finite displacements, each expert at its own lattice constant.

    A crystal that is half complex has no Bloch waves: there is no number for the mixture.

    Returns:
        `phonon_thz`: for every special point but Γ the frequencies `hf` and `lf`, ascending, THz,
        imaginary ones negative, and `largest_difference`. Nothing where `phonon_repeat` is null.

    Raises:
        InputError: phonopy is not installed.
    """
    repeat = case.config.phonon_repeat
    if repeat is None:
        return {}
    found = {who: frequencies(case, who, repeat) for who in ("hf", "lf")}
    return {
        "phonon_thz": {
            point: {
                "hf": found["hf"][point].tolist(),
                "lf": found["lf"][point].tolist(),
                "largest_difference": float(np.abs(found["lf"][point] - found["hf"][point]).max()),
            }
            for point in found["hf"]
        }
    }


def check(case: Case) -> None:
    """Raises InputError where phonons are asked for of one atom, or phonopy is not installed."""
    repeat = case.config.phonon_repeat
    if repeat is None:
        return
    if len(case.crystal) * math.prod(repeat) < 2:
        raise InputError(
            f"phonon_repeat: {list(repeat)} holds one atom, whose images move with it: no force; "
            "allowed: more cells, such as [3, 3, 3]"
        )
    _phonopy()


def frequencies(case: Case, who: str, repeat: tuple[int, int, int]) -> dict[str, Any]:
    """THz (3N,) by special point of the primitive cell."""
    phonopy, cell_type = _phonopy()
    length = case.found["lattice_constant_angstrom"][who]
    crystal = at_length(case.crystal, length)
    unit = cell_type(
        symbols=list(crystal.symbols),
        cell=crystal.cell.array,
        scaled_positions=crystal.get_scaled_positions(),
        masses=crystal.get_masses(),
    )
    with warnings.catch_warnings():  # that "auto" was the identity before version 4
        warnings.simplefilter("ignore")
        phonon = phonopy(unit, supercell_matrix=np.diag(repeat), primitive_matrix="auto")
    phonon.generate_displacements(distance=DISPLACEMENT, is_plusminus=True)
    phonon.forces = [_forces(case, who, cell) for cell in phonon.supercells_with_displacements]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    points = Cell(phonon.primitive.cell).bandpath(npoints=0).special_points
    return {
        name: np.sort(phonon.run_qpoints([q]).frequencies[0])
        for name, q in points.items()
        if np.abs(q).max() > 0
    }


def _forces(case: Case, who: str, cell: Any) -> Any:
    atoms = Atoms(list(cell.symbols), positions=cell.positions, cell=cell.cell, pbc=True)
    return case.subject.evaluate(atoms, np.full(len(atoms), float(who == "hf"))).forces.numpy()


def _phonopy() -> tuple[Any, Any]:
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError as error:
        raise InputError(
            "phonon_repeat: phonons need phonopy, which is not installed; pip install phonopy, "
            "or leave phonon_repeat out"
        ) from error
    return Phonopy, PhonopyAtoms
