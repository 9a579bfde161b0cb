"""The table of a run: energies, temperature and pressure over time."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from duetto.md.state import State

COLUMNS = (
    "step",
    "time_fs",
    "temperature_K",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "conserved_eV",
    "pressure_GPa",
    "e_repartition_eV",
    "n_rebuilds",
)
"""`conserved_eV` is the total less what changed weights and the thermostat gave."""

HEADER = ",".join(COLUMNS) + "\n"


def thermo_row(state: State) -> str:
    """One line of `thermo.csv`; numbers are written so that reading gives the same bits.

    The pressure is empty where nothing is periodic.
    """
    kinetic_energy = state.kinetic_energy
    pressure = state.pressure_GPa(kinetic_energy)
    fields = (
        str(state.step),
        f"{state.time_fs:.12g}",
        repr(state.temperature(kinetic_energy)),
        repr(state.energy),
        repr(kinetic_energy),
        repr(state.energy + kinetic_energy),
        repr(state.conserved(kinetic_energy)),
        "" if pressure is None else repr(pressure),
        repr(state.e_repartition),
        str(state.n_rebuilds),
    )
    return ",".join(fields) + "\n"


def read_thermo(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Read `thermo.csv` as one array per column; an empty field is NaN."""
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in COLUMNS}


def energy_drift_meV_per_atom_per_ps(
    time_fs: Sequence[float] | npt.NDArray[np.float64],
    conserved_eV: Sequence[float] | npt.NDArray[np.float64],
    n_atoms: int,
) -> float:
    """Slope of a straight line through the conserved energy, meV/atom/ps; NaN below two times."""
    time_ps = np.asarray(time_fs, dtype=np.float64) / 1000.0
    energy = np.asarray(conserved_eV, dtype=np.float64) * 1000.0 / n_atoms
    time_ps, energy = time_ps - time_ps.mean(), energy - energy.mean()
    spread = float(time_ps @ time_ps)
    return float(time_ps @ energy) / spread if spread > 0.0 else float("nan")


def energy_drift_error_meV_per_atom_per_ps(
    time_fs: Sequence[float] | npt.NDArray[np.float64],
    conserved_eV: Sequence[float] | npt.NDArray[np.float64],
    n_atoms: int,
    blocks: int = 20,
) -> float:
    """Standard error of that slope, from how the means of blocks lie about a line through them.

    Blocks are taken as independent: they have to be longer than the energy's fluctuations last.

    Args:
        time_fs, conserved_eV: of every step, or of instants at even distances.
        n_atoms: atoms.
        blocks: pieces of the run, at least three of them; NaN where there are fewer instants.
    """
    if len(time_fs) < blocks:
        return float("nan")
    parts = np.array_split(np.column_stack([time_fs, conserved_eV]), blocks)
    time, energy = np.array([part.mean(axis=0) for part in parts]).T
    time, energy = (time - time.mean()) / 1000.0, 1000.0 * (energy - energy.mean()) / n_atoms
    spread = float(time @ time)
    rest = energy - (time @ energy) / spread * time
    return float(np.sqrt((rest @ rest) / (blocks - 2) / spread))
