"""How much of a force comes from atoms beyond a radius.

Two measures. Of `force_scatter`, no model whose force on an atom depends on nothing beyond a radius
can be better, on atoms whose surroundings are not known from what is inside. `local_forces` are
those of one model that has a centre's energy of its neighbours alone: the labels' own energies of
centres, averaged over what is outside. What the best such model leaves lies below its error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from duetto.errors import RunStopped

Array = NDArray[np.float64]

BOND_A = 1.5
"""Å between the carbon and the oxygen of one molecule, at most; it moves as a whole."""

CLOSEST = 0.85
"""Of the shortest distance of two species in the run: closer, a drawn frame is drawn again."""

TRIES = 100


class SiteModel(Protocol):
    """A potential whose energy is a sum over centres."""

    def forces(self, atoms: Atoms) -> Array:
        """(A, 3) forces, eV/Å."""

    def site_gradient(self, atoms: Atoms, centre: int) -> Array:
        """(A, 3) derivatives of the centre's energy, eV/Å."""


@dataclass(frozen=True)
class Surroundings:
    """A frame that is repeated, and where its atoms are in the other frames of its run.

    Attributes:
        atoms: the frame repeated, A = copies × n atoms, the first n those of the frame.
        moves: (K, n, 3) Å, from the frame to each other one, without a drift of the whole.
        leader: (A,) the atom with which an atom moves: itself, or its molecule's carbon.
        closest: shortest distance of each two species in the run's frames, Å, by their numbers.
    """

    atoms: Atoms
    moves: Array
    leader: NDArray[np.int64]
    closest: dict[tuple[int, int], float]

    @classmethod
    def of(
        cls, run: Sequence[Atoms], number: int, width: float, axes: Sequence[int] = (0, 1, 2)
    ) -> Surroundings:
        """Those of a frame of a run, repeated along some axes until the cell is `width` Å wide."""
        frame = run[number]
        repeat = [_copies(frame, axis, width) if axis in axes else 1 for axis in range(3)]
        atoms = frame.repeat(repeat)
        others = [other for k, other in enumerate(run) if k != number]
        moves = [_moved(frame, other) for other in others]
        return cls(atoms, np.array(moves), _leaders(atoms), _closest(run))

    @property
    def n_frame(self) -> int:
        """Atoms of the frame itself."""
        return self.moves.shape[1]

    def within(self, radius: float, of: Sequence[int]) -> NDArray[np.bool_]:
        """(A,) whether an atom is no farther than `radius` Å from one of some atoms."""
        return np.any([self.distances(k) <= radius for k in of], axis=0)

    def distances(self, atom: int) -> Array:
        """(A,) Å to the nearest image."""
        return np.asarray(self.atoms.get_distances(atom, range(len(self.atoms)), mic=True))

    def drawn(self, kept: NDArray[np.bool_], rng: np.random.Generator) -> Atoms:
        """Every atom that is not kept, where another frame of the run has it; molecules whole.

        Each copy of the frame takes a frame of its own.

        Raises:
            RunStopped: in each of `TRIES` draws, atoms come closer than ever in the run.
        """
        kept = kept | np.isin(self.leader, self.leader[kept])
        copy, own = np.divmod(self.leader, self.n_frame)[0], np.arange(len(kept)) % self.n_frame
        atoms = self.atoms.copy()
        for _ in range(TRIES):
            chosen = rng.integers(len(self.moves), size=len(kept) // self.n_frame)
            moved = self.moves[chosen[copy], own]
            atoms.positions = self.atoms.positions + np.where(kept[:, None], 0.0, moved)
            if self._apart(atoms):
                return atoms
        raise RunStopped(f"{atoms.get_chemical_formula()}: atoms too close in {TRIES} draws")

    def _apart(self, atoms: Atoms) -> bool:
        i, j, distance = neighbor_list("ijd", atoms, max(self.closest.values()))
        numbers = np.sort(atoms.numbers[np.stack([i, j])], axis=0)
        return all(
            (distance[(numbers[0] == a) & (numbers[1] == b)] >= CLOSEST * least).all()
            for (a, b), least in self.closest.items()
        )


def force_scatter(
    model: SiteModel,
    surroundings: Surroundings,
    targets: Sequence[int],
    radii: Sequence[float],
    rng: np.random.Generator,
) -> Array:
    """(radii, targets) variance of a force component while what is beyond a radius is drawn.

    What is within the radius of any target stays. Frame and draw are two samples of the same
    surroundings, so half of their squared difference is the variance, (eV/Å)².
    """
    whole = model.forces(surroundings.atoms)[targets]
    found = []
    for radius in radii:
        drawn = surroundings.drawn(surroundings.within(radius, targets), rng)
        found.append(((model.forces(drawn)[targets] - whole) ** 2).mean(axis=1) / 2)
    return np.array(found)


def local_forces(
    model: SiteModel, surroundings: Surroundings, radius: float, rng: np.random.Generator
) -> Array:
    """(n, 3) forces on the frame's atoms by energies of centres that see `radius` Å, eV/Å.

    An energy is one draw of what is beyond the radius, in place of its mean over draws, and its
    derivatives by atoms inside are those of the mean.
    """
    n = surroundings.n_frame
    forces = np.zeros((n, 3))
    for centre in range(n):
        seen = surroundings.within(radius, [centre])
        gradient = model.site_gradient(surroundings.drawn(seen, rng), centre)
        # What pulls at a copy of an atom, another copy of the centre does to the atom itself.
        np.subtract.at(forces, np.flatnonzero(seen) % n, gradient[seen])
    return forces


def squared_error(first: Array, second: Array, labels: Array) -> Array:
    """(n,) mean square component of labels − mean over draws, (eV/Å)², from two draws.

    The product of two draws' errors has no share of the draws' own scatter; single values may be
    negative.
    """
    return ((labels - first) * (labels - second)).mean(axis=1)


def _copies(frame: Atoms, axis: int, width: float) -> int:
    """So many that opposite faces of the cell are `width` Å apart."""
    inverse = np.linalg.inv(frame.cell.array)
    return max(1, int(np.ceil(width * np.linalg.norm(inverse[:, axis]) - 1e-9)))


def _moved(frame: Atoms, other: Atoms) -> Array:
    moves, _ = find_mic(other.positions - frame.positions, frame.cell, frame.pbc)
    return np.asarray(moves - moves.mean(axis=0))


def _leaders(atoms: Atoms) -> NDArray[np.int64]:
    leader = np.arange(len(atoms))
    i, j, distance = neighbor_list("ijd", atoms, BOND_A)
    bond = (atoms.numbers[i] == 6) & (atoms.numbers[j] == 8) & (distance <= BOND_A)
    leader[j[bond]] = i[bond]
    return leader


def _closest(run: Sequence[Atoms]) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for frame in run:
        i, j, distance = neighbor_list("ijd", frame, 3.0)
        for a, b, d in zip(frame.numbers[i], frame.numbers[j], distance, strict=True):
            pair = (int(min(a, b)), int(max(a, b)))
            found[pair] = min(found.get(pair, np.inf), float(d))
    return found
