"""What a step of one atom of each type costs, measured: the weights of LAMMPS's load balancing."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from duetto.frontends.lammps.system import System
from duetto.frontends.lammps.unified import DuettoUnified
from duetto.potential.neighbors import NeighborList

Array = NDArray[np.float64]

SAMPLE = 64
"""Centres of a type that are timed; fewer where there are fewer."""

REPEATS = 3


def measured_costs(unified: DuettoUnified, system: System) -> tuple[list[float], list[float]]:
    """Seconds per step of an atom of each type, over those of the cheapest, to two digits.

    Args:
        unified: the potential with the system's types, warmed up.
        system: the atoms; a sample of every type is evaluated with the neighbours that it has.

    Returns:
        By type, with the weights that the atoms have; and, where weights follow seeds, by HF.
    """
    types = range(len(system.types))
    seconds = [_seconds(unified, system, t, system.weights) for t in types]
    hf = []
    if unified.follow is not None:
        seconds = [_seconds(unified, system, t, np.floor(system.weights)) for t in types]
        hf = [_seconds(unified, system, t, np.ones(len(system.weights))) for t in types]
    cheapest = max(min(seconds), 1e-12)
    by_type, by_hf = ([float(f"{s / cheapest:.2g}") for s in some] for some in (seconds, hf))
    return by_type, by_hf


def _seconds(unified: DuettoUnified, system: System, kind: int, weights: Array) -> float:
    """The shortest of a few evaluations, per centre."""
    numbers = system.numbers - 1
    members = np.flatnonzero(numbers == kind)
    centres = members[:: -(-len(members) // SAMPLE)]
    ranges = np.zeros(len(numbers))
    ranges[centres] = unified.cutoffs[kind].max()
    neighbors = NeighborList(ranges, np.asarray(system.atoms.pbc), 0.0)
    positions, cell = system.atoms.positions, system.atoms.cell.array
    neighbors.rebuild(positions, cell)
    row = np.repeat(np.arange(len(centres)), np.diff(neighbors.first)[centres])
    vectors = positions[neighbors.neighbor] - positions[centres[row]] + neighbors.shift @ cell
    kinds, share, rows, others, edges = (
        torch.from_numpy(array).to(unified.engine.device)
        for array in (
            numbers[centres],
            weights[centres],
            row,
            numbers[neighbors.neighbor],
            vectors,
        )
    )
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        energies, _, _ = unified.engine.evaluate(kinds, share, rows, others, edges)
        energies.sum().item()  # a GPU has finished, then
        best = min(best, time.perf_counter() - began)
    return best / len(centres)
