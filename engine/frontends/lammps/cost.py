"""What a step of one atom of each type costs, measured: the weights of LAMMPS's load balancing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.frontends.lammps.system import System
from duetto.frontends.lammps.unified import DuettoUnified
from duetto.potential.neighbors import NeighborList

Array = NDArray[np.float64]

SAMPLE = 512
"""Centres of a type that are timed, enough that what a call costs besides counts for little; fewer
where there are fewer."""

REPEATS = 5
"""Of all types in turn, so that what else the machine does falls on all of them alike."""


def measured_costs(unified: DuettoUnified, system: System) -> tuple[list[float], list[float]]:
    """Seconds per step of an atom of each type, over those of the cheapest, to two digits.

    Args:
        unified: the potential with the system's types, warmed up.
        system: the atoms; a sample of every type is evaluated with the neighbours that it has.

    Returns:
        By type, with the weights that the atoms have; and, where weights follow seeds, by HF.
    """
    w, n = system.weights, len(system.types)
    ways = [w] if unified.follow is None else [np.floor(w), np.ones(len(w))]
    samples = [_sample(unified, system, t, weights) for weights in ways for t in range(n)]
    best = [math.inf] * len(samples)
    for _ in range(REPEATS):
        for k, sample in enumerate(samples):
            best[k] = min(best[k], _seconds(unified, sample))
    cheapest = max(min(best[:n]), 1e-12)
    costs = [float(f"{seconds / cheapest:.2g}") for seconds in best]
    return costs[:n], costs[n:]


def _seconds(unified: DuettoUnified, sample: Sequence[Tensor]) -> float:
    """Of one evaluation, per centre."""
    kinds, weights, rows, neighbors, edges = sample
    began = time.perf_counter()
    energies, _, _ = unified.engine.evaluate(kinds, weights, rows, neighbors, edges)
    energies.sum().item()  # a GPU has finished, then
    return (time.perf_counter() - began) / len(kinds)


def _sample(
    unified: DuettoUnified, system: System, kind: int, weights: Array
) -> tuple[Tensor, ...]:
    """Some centres of a type: types, weights, rows, types of neighbors, vectors."""
    numbers = system.numbers - 1
    members = np.flatnonzero(numbers == kind)
    centres = members[:: -(-len(members) // SAMPLE)]
    ranges = np.zeros(len(numbers))
    ranges[centres] = unified.cutoffs[kind].max()
    near = NeighborList(ranges, np.asarray(system.atoms.pbc), 0.0)
    positions, cell = system.atoms.positions, system.atoms.cell.array
    near.rebuild(positions, cell)
    row = np.repeat(np.arange(len(centres)), np.diff(near.first)[centres])
    vectors = positions[near.neighbor] - positions[centres[row]] + near.shift @ cell
    arrays = numbers[centres], weights[centres], row, numbers[near.neighbor], vectors
    return tuple(torch.from_numpy(array).to(unified.engine.device) for array in arrays)
