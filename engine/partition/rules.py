"""The rules a partition must keep while the atoms move, each a question to one configuration.

Each is a search for nearest atoms, O(A log A), with no list of edges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from duetto.atoms.describe import name_atom, surroundings
from duetto.atoms.periodic import Array, Indices, across, nearest
from duetto.errors import InputError
from duetto.experts.base import max_cutoff

if TYPE_CHECKING:
    from duetto.experts.base import Expert
    from duetto.experts.pair import ExpertPair

ENLARGE = "Enlarge regions.complex (within.distance) or set guard: promote"


@dataclass(frozen=True)
class Finding:
    """Atoms that break one rule.

    Attributes:
        check: `unseen`, `shell` or `lost`.
        atoms: (N,) indices without repeats, the most serious first.
        problem: what is wrong with the atom at a place in `atoms`, in words.
        remedy: what to do about it, in words.
    """

    check: str
    atoms: Indices
    problem: Callable[[int], str]
    remedy: str

    def message(self, step: int) -> str:
        """Return the line a person reads, about the first atom."""
        others = len(self.atoms) - 1
        more = f" (and {others} more such atom{'s' if others > 1 else ''})" if others else ""
        return f"guard: step {step}: {self.problem(0)}{more}. {self.remedy}"

    def without(self, atoms: Collection[int]) -> Finding | None:
        """Return the finding about the other atoms; None if there are no others."""
        kept = np.flatnonzero(~np.isin(self.atoms, list(atoms)))
        if not len(kept):
            return None
        return Finding(
            self.check, self.atoms[kept], lambda k: self.problem(int(kept[k])), self.remedy
        )


@dataclass(frozen=True)
class Start:
    """What later configurations are compared with, taken from the first one.

    Attributes:
        watched: indices of the atoms whose surroundings are watched.
        shell: Å, 0 where there is nothing to check.
        low, high: Å, the atoms' extent across the periodic directions.
    """

    watched: tuple[int, ...]
    shell: float
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Configuration:
    """Positions (A, 3) in Å, cell (3, 3), pbc (3,), species (A,) and weights (A,) at one step."""

    positions: Array
    cell: Array
    pbc: npt.NDArray[np.bool_]
    species: npt.NDArray[np.str_]
    weights: Array

    def nearest(self, queries: Indices, points: Indices, limit: float) -> tuple[Array, Indices]:
        """For each query atom the distance to, and index of, the nearest other atom of `points`.

        Where there is none closer than `limit` Å: inf and -1. Images of the query atom itself
        are other atoms.
        """
        own = np.full(len(self.positions), -1)
        own[points] = np.arange(len(points))
        found = nearest(
            self.positions[queries],
            self.positions[points],
            self.cell,
            self.pbc,
            limit,
            skip_self=own[queries],
        )
        return found.distance, np.append(points, -1)[found.point]

    def name(self, atom: int) -> str:
        """Return index, species, weight and position in words."""
        weight = float(self.weights[atom])
        return name_atom(atom, self.species[atom], self.positions[atom], weight)

    def surroundings(self, atom: int, count: int = 4) -> str:
        """Return the nearest atoms and their distances in words."""
        return surroundings(atom, self.species, self.positions, self.cell, self.pbc, count)


def find_unseen(now: Configuration, pair: ExpertPair) -> Finding | None:
    """Atoms that LF computes (w < 1) with a neighbour of a species LF never met beside theirs."""
    seen = seen_pairs(pair)
    if pair.lf is None or seen is None:
        return None
    low = now.weights < 1
    rows = []
    for centre in np.unique(now.species[low]):
        queries = np.flatnonzero(low & (now.species == centre))
        for other in np.unique(now.species):
            if (centre, other) not in seen:
                points = np.flatnonzero(now.species == other)
                limit = lf_cutoff(pair.lf, str(centre), str(other))
                rows.append((queries, *now.nearest(queries, points, limit)))
    if not rows:
        return None
    atom, distance, partner = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.argsort(distance, kind="stable")[: np.isfinite(distance).sum()]
    # An atom may have met several such species: keep the closest.
    order = order[np.sort(np.unique(atom[order], return_index=True)[1])]
    if not len(order):
        return None

    def problem(k: int) -> str:
        i, j = int(atom[order[k]]), int(partner[order[k]])
        return (
            f"{now.name(i)}, which LF computes, has {now.name(j)} inside LF's cutoff, "
            f"{distance[order[k]]:.2f} Å away; LF was never trained on {now.species[j]} "
            f"as a neighbour of {now.species[i]}"
        )

    return Finding("unseen", atom[order], problem, ENLARGE)


def find_in_shell(now: Configuration, start: Start) -> Finding | None:
    """Atoms that LF alone computes (w = 0) closer than the shell to a watched atom."""
    simple = np.flatnonzero(now.weights == 0)
    if not start.shell or not len(simple):
        return None
    distance, watched = now.nearest(simple, np.array(start.watched, dtype=np.int64), start.shell)
    order = np.argsort(distance, kind="stable")[: np.isfinite(distance).sum()]
    if not len(order):
        return None

    def problem(k: int) -> str:
        i, j = int(simple[order[k]]), int(watched[order[k]])
        return (
            f"{now.name(i)}, which LF alone computes, is {distance[order[k]]:.2f} Å from "
            f"{now.name(j)}, whose surroundings up to {start.shell:.2f} Å are HF's"
        )

    return Finding("shell", simple[order], problem, ENLARGE)


def find_lost(now: Configuration, start: Start, lost_distance: float) -> Finding | None:
    """Atoms more than `lost_distance` Å outside the first configuration's extent."""
    beside = across(now.positions, now.cell, now.pbc)
    beyond = np.maximum(np.array(start.low) - beside, beside - np.array(start.high))
    worst = beyond.max(axis=1, initial=0.0)
    order = np.argsort(-worst, kind="stable")[: (worst > lost_distance).sum()]
    if not len(order):
        return None

    def problem(k: int) -> str:
        atom = int(order[k])
        return (
            f"{now.name(atom)} is {worst[atom]:.1f} Å outside the space the atoms filled at first"
        )

    remedy = "If it may leave, raise guard.lost_distance; if not, lower timestep_fs"
    return Finding("lost", order, problem, remedy)


def seen_pairs(pair: ExpertPair) -> set[tuple[str, str]] | None:
    """Return the (centre, neighbour) species LF met in training; None where the pair is silent.

    Raises:
        InputError: `provenance["lf"]["seen_pairs"]` is not a list of pairs of species.
    """
    of_lf = pair.provenance.get("lf")
    listed = of_lf.get("seen_pairs") if isinstance(of_lf, dict) else None
    if listed is None:
        return None
    try:
        return {(str(centre), str(neighbor)) for centre, neighbor in listed}
    except (TypeError, ValueError):
        raise InputError(
            "pair file: provenance.lf.seen_pairs is not a list of [centre, neighbour] species"
        ) from None


def lf_cutoff(lf: Expert, centre: str, neighbor: str) -> float:
    """Return the distance, in Å, up to which LF's energy of `centre` depends on `neighbor`.

    Where LF does not know the neighbour, its longest cutoff: up to there it would have to.
    """
    if centre in lf.species and neighbor in lf.species:
        return lf.cutoff(centre, neighbor)
    return max_cutoff(lf)
