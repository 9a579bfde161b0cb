"""The rules a partition must keep while the atoms move, each a question to one configuration.

Each is a search for near atoms. A `Search` that is handed in remembers which pairs can matter
while the atoms move little, so that the next look costs a pass over the atoms and no tree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from duetto.atoms.describe import name_atom
from duetto.atoms.periodic import Array, Indices, across, nearest
from duetto.errors import InputError
from duetto.partition.search import Search

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

    def message(self, step: int | None = None) -> str:
        """Return the line a person reads, about the first atom; `step` of the MD, if there is."""
        others = len(self.atoms) - 1
        more = f" (and {others} more such atom{'s' if others > 1 else ''})" if others else ""
        when = "" if step is None else f"step {step}: "
        return f"guard: {when}{self.problem(0)}{more}. {self.remedy}"

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
class Kinds:
    """Which species each atom is, as numbers: strings of a million atoms are slow to compare.

    Attributes:
        symbols: (K,) the species, each once, in alphabetical order.
        number: (A,) each atom's place in `symbols`.
    """

    symbols: tuple[str, ...]
    number: Indices

    @classmethod
    def of(cls, species: Sequence[str]) -> Kinds:
        """Number the species (A,) of all atoms."""
        symbols = tuple(sorted(set(species)))
        place = {symbol: k for k, symbol in enumerate(symbols)}
        return cls(symbols, np.array([place[symbol] for symbol in species], dtype=np.int64))

    def present(self, atoms: npt.NDArray[np.bool_] | Indices) -> tuple[str, ...]:
        """The species among these atoms."""
        counts = np.bincount(self.number[atoms], minlength=len(self.symbols))
        return tuple(self.symbols[k] for k in np.flatnonzero(counts))

    def are(self, symbols: Collection[str]) -> npt.NDArray[np.bool_]:
        """(A,) whether each atom is of one of these species."""
        return np.isin(self.symbols, list(symbols))[self.number]


@dataclass(frozen=True)
class Configuration:
    """Positions (A, 3) in Å, cell (3, 3), pbc (3,), kinds (A) and weights (A,) at one step."""

    positions: Array
    cell: Array
    pbc: npt.NDArray[np.bool_]
    kinds: Kinds
    weights: Array

    def species(self, atom: int) -> str:
        """The chemical symbol of one atom."""
        return self.kinds.symbols[self.kinds.number[atom]]

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
        return name_atom(atom, self.species(atom), self.positions[atom], weight)


def find_unseen(
    now: Configuration, pair: ExpertPair, search: Search | None = None
) -> Finding | None:
    """Atoms that LF computes (w < 1) with a neighbour of a species LF never met beside theirs.

    If there are none: atoms of a species that LF never met at all, which may have no neighbour.
    """
    seen = seen_pairs(pair)
    if pair.lf is None or seen is None:
        return None
    everywhere = np.ones(len(now.weights), dtype=bool)
    limits = _unseen_limits(now.kinds.symbols, pair.lf, seen)
    atom, distance, partner = (search or Search()).closest(
        now.positions,
        now.cell,
        now.pbc,
        queries=now.weights < 1,
        points=everywhere,
        kinds=now.kinds.number,
        limits=limits,
    )
    if not len(atom):
        return _find_untrained(now, seen)

    def problem(k: int) -> str:
        i, j = int(atom[k]), int(partner[k])
        return (
            f"{now.name(i)}, which LF computes, has {now.name(j)} inside LF's cutoff, "
            f"{distance[k]:.2f} Å away; LF was never trained on {now.species(j)} "
            f"as a neighbour of {now.species(i)}"
        )

    return Finding("unseen", atom, problem, ENLARGE)


def _find_untrained(now: Configuration, seen: Collection[tuple[str, str]]) -> Finding | None:
    """Atoms that LF computes (w < 1) of a species that it never met as a centre."""
    trained = now.kinds.are({centre for centre, _ in seen})
    atoms = np.flatnonzero((now.weights < 1) & ~trained)
    if not len(atoms):
        return None

    def problem(k: int) -> str:
        atom = int(atoms[k])
        return f"{now.name(atom)}, which LF computes: LF was never trained on {now.species(atom)}"

    return Finding("unseen", atoms, problem, ENLARGE)


def find_in_shell(now: Configuration, start: Start, search: Search | None = None) -> Finding | None:
    """Atoms that LF alone computes (w = 0) closer than the shell to a watched atom."""
    if not start.shell or not start.watched:
        return None
    points = np.zeros(len(now.weights), dtype=bool)
    points[list(start.watched)] = True
    atom, distance, watched = (search or Search()).closest(
        now.positions,
        now.cell,
        now.pbc,
        queries=now.weights == 0,
        points=points,
        kinds=now.kinds.number,
        limits=np.full((len(now.kinds.symbols),) * 2, start.shell),
    )
    if not len(atom):
        return None

    def problem(k: int) -> str:
        return (
            f"{now.name(int(atom[k]))}, which LF alone computes, is {distance[k]:.2f} Å from "
            f"{now.name(int(watched[k]))}, whose surroundings up to {start.shell:.2f} Å are HF's"
        )

    return Finding("shell", atom, problem, ENLARGE)


def find_not_finite(now: Configuration) -> Finding | None:
    """Atoms whose position is not finite."""
    # A sum is finite only if every term is; positions that sum up beyond the largest number are
    # not atoms either.
    if np.isfinite(now.positions.sum()):
        return None
    bad = np.flatnonzero(~np.isfinite(now.positions).all(axis=1))
    if not len(bad):
        return None

    def problem(k: int) -> str:
        return f"{now.name(int(bad[k]))}: the position is not finite"

    return Finding("position", bad, problem, "Lower timestep_fs")


def find_lost(now: Configuration, start: Start, lost_distance: float) -> Finding | None:
    """Atoms more than `lost_distance` Å outside the first configuration's extent."""
    if not len(start.low):
        return None
    beside = across(now.positions, now.cell, now.pbc)
    low, high = np.array(start.low), np.array(start.high)
    if (low - beside.min(axis=0) <= lost_distance).all() and (
        beside.max(axis=0) - high <= lost_distance
    ).all():
        return None
    beyond = np.maximum(low - beside, beside - high)
    worst = beyond.max(axis=1, initial=0.0)
    order = np.argsort(-worst, kind="stable")[: (worst > lost_distance).sum()]

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
    from duetto.experts.base import max_cutoff  # imports torch, which reading a word needs not

    return max_cutoff(lf)


def _unseen_limits(symbols: Sequence[str], lf: Expert, seen: Collection[tuple[str, str]]) -> Array:
    """(K, K) Å, by centre and neighbour, up to which a pair counts; 0 where LF met it."""
    return np.array(
        [[0.0 if (i, j) in seen else lf_cutoff(lf, i, j) for j in symbols] for i in symbols]
    ).reshape(len(symbols), len(symbols))
