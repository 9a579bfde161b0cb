"""What moving a layer of atoms from HF to LF would save, by the profile, and what it does save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.measure.bench.edges import count_edges
from duetto.measure.bench.force_check import tensors
from duetto.measure.bench.own_engines import same_potential
from duetto.measure.profile.regions import Profile
from duetto.partition.regions.geometric import distance_to
from duetto.potential.mixture import Potential


@dataclass(frozen=True)
class Move:
    """A layer of atoms that HF computes now, moved to LF.

    Attributes:
        layer: its thickness, Å.
        atoms: how many.
        running_ms: an evaluation before, as the profile counts stages: running time over threads.
        predicted_saving_ms: from the profile's cost per edge.
        measured_saving_ms: from doing it, old and new partition timed in turns, fastest of each.
    """

    layer: float
    atoms: int
    running_ms: float
    predicted_saving_ms: float
    measured_saving_ms: float

    def to_dict(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def outer_layer(atoms: Atoms, weights: NDArray[np.float64], thickness: float) -> NDArray[np.bool_]:
    """Complex atoms (A,) bool nearer than `thickness` Å to an atom that LF computes."""
    mixed = weights < 1.0
    if not mixed.any():
        return np.zeros(len(atoms), dtype=bool)
    near = distance_to(atoms.positions[mixed], atoms, thickness) < thickness
    return near & ~mixed


def predict_saving_ms(
    profile: Profile, potential: Potential, atoms: Atoms, moved: NDArray[np.bool_]
) -> float:
    """Time that a step would be shorter by if LF computed the moved atoms, ms.

    Each edge that HF no longer computes saves what an edge of the complex region costs, each edge
    that LF computes instead costs what one of the simple region does.

    Raises:
        InputError: there is no simple region to take LF's cost from.
    """
    per_edge = {job.name: job.ms / max(job.edges, 1) for job in profile.jobs}
    missing = {"complex HF", "simple LF"} - set(per_edge)
    if missing:
        raise InputError(f"nothing to predict from: the profile has no {', '.join(missing)}")
    counts = count_edges(potential.pair, atoms)
    saved = counts["hf"][moved].sum() * per_edge["complex HF"]
    if potential.pair.correction:  # LF computes these atoms before and after
        return float(saved)
    return float(saved - counts["lf"][moved].sum() * per_edge["simple LF"])


def move_layer(
    profile: Profile, potential: Potential, atoms: Atoms, thickness: float, rounds: int = 5
) -> Move:
    """Predict the saving of moving the outer layer of the complex region, then do it.

    Raises:
        InputError: no complex atom is that near to one that LF computes, or there is no simple
            region.
    """
    moved = outer_layer(atoms, potential.weights, thickness)
    if not moved.any():
        raise InputError(f"no complex atom is within {thickness:g} Å of one that LF computes")
    predicted = predict_saving_ms(profile, potential, atoms, moved)
    positions, cell = tensors(atoms, potential.device)
    after = same_potential(potential, np.where(moved, 0.0, potential.weights))
    before_ms, after_ms = _running_ms(
        [lambda: potential.evaluate(positions, cell), lambda: after.evaluate(positions, cell)],
        rounds,
        profile.peaks.threads,
    )
    return Move(
        layer=thickness,
        atoms=int(moved.sum()),
        running_ms=before_ms,
        predicted_saving_ms=predicted,
        measured_saving_ms=before_ms - after_ms,
    )


def _running_ms(tasks: list[Callable[[], object]], rounds: int, threads: int) -> list[float]:
    """Shortest of several rounds of each task, in turns: time the threads ran, over their number.

    That is what the profile counts for its stages, so prediction and result can be compared on a
    busy machine, too.
    """
    for task in tasks:
        task()  # builds its list and prepares what it prepares
    samples: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, times in zip(tasks, samples, strict=True):
            began = time.process_time()
            task()
            times.append(1000.0 * (time.process_time() - began) / threads)
    return [min(times) for times in samples]
