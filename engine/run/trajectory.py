"""Frames of a trajectory in extended XYZ, which OVITO and ASE read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from ase import units
from ase.data import atomic_masses, atomic_numbers

from duetto.md.state import State

Array = npt.NDArray[np.float64]
Field = Literal["velocities", "momenta", "forces", "energies", "weights"]

DEFAULT_FIELDS: tuple[Field, ...] = ("velocities", "momenta", "energies", "weights")

COLUMN: dict[Field, str] = {
    "velocities": "velo:R:3",
    "momenta": "momenta:R:3",
    "forces": "forces:R:3",
    "energies": "energies:R:1",
    "weights": "w:R:1",
}
"""OVITO knows velocities as `velo`; ASE restores velocities from `momenta` alone."""


def format_frame(state: State, fields: Sequence[Field] = DEFAULT_FIELDS) -> str:
    """One frame: positions in Å as they are (not wrapped), and the columns asked for.

    Columns: `velo` in Å/fs; `momenta` in ASE's units, amu Å / (Å √(amu/eV)); `forces` in eV/Å;
    `energies` in eV; `w`. The comment line has the cell, pbc, step, time_fs, energy in eV and,
    where there is a volume, stress in eV/Å³. Masses that are not the elements' standard ones come
    as a column `masses` in amu, which ASE reads: momenta are velocities only with them.
    """
    columns = [_numpy(state, "positions"), *(_numpy(state, field) for field in fields)]
    names = ["species:S:1:pos:R:3", *(COLUMN[field] for field in fields)]
    if not _has_standard_masses(state):
        columns.append(state.masses.cpu().numpy()[:, None])
        names.append("masses:R:1")
    properties = ":".join(names)
    table = np.concatenate(columns, axis=1)
    line = "%-2s" + " %16.9f" * table.shape[1]
    rows = [
        line % (symbol, *row) for symbol, row in zip(state.species, table.tolist(), strict=True)
    ]
    return "\n".join([str(state.n_atoms), _comment(state, properties), *rows, ""])


def _has_standard_masses(state: State) -> bool:
    standard = [atomic_masses[atomic_numbers[symbol]] for symbol in state.species]
    return bool(np.array_equal(state.masses.cpu().numpy(), standard))


def _numpy(state: State, field: Field | Literal["positions"]) -> Array:
    if field == "momenta":
        momenta = state.velocities * state.masses[:, None] / units.fs
        values = momenta.cpu().numpy()
    else:
        values = getattr(state, field).cpu().numpy()
    return values.reshape(state.n_atoms, -1)


def _comment(state: State, properties: str) -> str:
    cell = state.cell.cpu().numpy()
    parts = []
    if cell.any():
        parts.append(f'Lattice="{_numbers(cell)}"')
    parts.append(f"Properties={properties}")
    parts.append(f'pbc="{" ".join("T" if periodic else "F" for periodic in state.pbc)}"')
    parts.append(f"step={state.step} time_fs={state.time_fs:.12g} energy={state.energy:.9f}")
    if state.volume is not None:
        stress = -state.virial.cpu().numpy() / state.volume
        parts.append(f'stress="{_numbers(stress)}"')
    return " ".join(parts)


def _numbers(matrix: Array) -> str:
    return " ".join(f"{value:.12g}" for value in matrix.ravel())
