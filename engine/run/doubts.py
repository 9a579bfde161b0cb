"""What is allowed in a configuration and still hardly meant."""

from __future__ import annotations

from ase import Atoms

from duetto.partition.regions.selection import selection_warnings
from duetto.run.config import RunConfig

SHORTEST_TIMESTEP_FS = 0.05
LONGEST_TIMESTEP_FS = 10.0
LONGEST_TIMESTEP_WITH_H_FS = 2.0
"""The fastest vibration of a bond of H, 4,400 cm⁻¹ in H₂, has a period of 7.6 fs."""

HEAVIEST_H_AMU = 1.5
"""Deuterium vibrates slower by √2."""


def doubts(config: RunConfig, atoms: Atoms) -> list[str]:
    """Lines for the user about the regions and the timestep of a run of `atoms`.

    Raises:
        InputError: the regions do not fit the atoms.
    """
    lines = _of_timestep(config.timestep_fs, atoms)
    # What an updated partition selects at the start is one moment of many.
    moves = config.regions.update is not None
    return lines if moves else [*selection_warnings(config.regions, atoms), *lines]


def _of_timestep(timestep_fs: float, atoms: Atoms) -> list[str]:
    light = (atoms.symbols == "H") & (atoms.get_masses() < HEAVIEST_H_AMU)
    longest, reason = LONGEST_TIMESTEP_FS, ""
    if light.any():
        longest = LONGEST_TIMESTEP_WITH_H_FS
        reason = " with H, whose bonds vibrate in 8 to 11 fs"
    if timestep_fs < SHORTEST_TIMESTEP_FS:
        problem = f"below {SHORTEST_TIMESTEP_FS:g} fs nothing is gained"
    elif timestep_fs > longest:
        problem = f"above {longest:g} fs{reason} energy is rarely conserved"
    else:
        return []
    unit = "femtoseconds (1 fs = 0.001 ps = 1e-15 s)"
    return [f"timestep_fs: {timestep_fs:g} is read in {unit}; {problem}"]
