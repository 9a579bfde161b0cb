"""What moving a layer of atoms from HF to LF would save, by the profile, and what it does save."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from duetto.bench.agreement import tensors
from duetto.bench.edges import count_edges
from duetto.bench.own_engines import same_potential
from duetto.errors import InputError
from duetto.potential import Potential
from duetto.profile.regions import Profile
from duetto.regions.geometric import distance_to
from duetto.throughput import time_in_turns


@dataclass(frozen=True)
class Move:
    """A layer of atoms that HF computes now, moved to LF.

    Attributes:
        layer: its thickness, Å.
        atoms: how many.
        step_ms: a step before.
        predicted_saving_ms: from the profile's cost per edge.
        measured_saving_ms: from doing it, old and new partition timed in turns, fastest of each.
    """

    layer: float
    atoms: int
    step_ms: float
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
    tasks = {
        "before": lambda: potential.evaluate(positions, cell),
        "after": lambda: after.evaluate(positions, cell),
    }
    for task in tasks.values():
        task()
    timings = time_in_turns(tasks, rounds=rounds)
    before_ms = timings["before"].minimum_ms
    return Move(
        layer=thickness,
        atoms=int(moved.sum()),
        step_ms=before_ms,
        predicted_saving_ms=predicted,
        measured_saving_ms=before_ms - timings["after"].minimum_ms,
    )
