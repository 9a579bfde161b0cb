"""The neighbour list: one for both experts, sorted by centre, with a Verlet skin.

The search is by bins and stores nothing but the list. A general search's pairs, with both atoms in
64 bits and room to grow, took four times the memory; of 8,112 atoms within 5.5 Å they took 27 ms on
one core, and were still to be pruned to each atom's reach, where this takes 21 ms for all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.kernels.cpu.pairs import walk_neighbors

Array = NDArray[Any]


class NeighborList:
    """Neighbours of every atom within its own range plus a skin.

    An atom's range is the largest cutoff of the experts that compute it, so a low-fidelity atom
    does not carry the neighbours that only the high-fidelity expert would see.

    Attributes:
        first: (A + 1,) int64, where each atom's neighbours begin.
        neighbor: (list,) int32.
        shift: (list, 3) int16, periodic image of each neighbour, in cell vectors.
        n_rebuilds: how often the list has been built.
    """

    def __init__(self, ranges: Array, pbc: Array, skin: float) -> None:
        """Prepare an empty list.

        Args:
            ranges: (A,) Å.
            pbc: (3,) bool.
            skin: Å; the list stays valid until an atom has moved half of it.
        """
        self.ranges = np.asarray(ranges, dtype=np.float64)
        self.pbc = np.asarray(pbc, dtype=bool)
        self.skin = float(skin)
        self.n_rebuilds = 0
        self.reference: Array | None = None
        self._cell: Array | None = None
        self.first = np.zeros(len(self.ranges) + 1, dtype=np.int64)
        self.neighbor = np.zeros(0, dtype=np.int32)
        self.shift = np.zeros((0, 3), dtype=np.int16)

    def is_valid(self, positions: Array, cell: Array) -> bool:
        """Whether every pair within range is certainly in the list."""
        if self.reference is None or self._cell is None or not np.array_equal(self._cell, cell):
            return False
        displacement = positions - self.reference
        return bool(np.einsum("ax,ax->a", displacement, displacement).max() < (self.skin / 2) ** 2)

    def rebuild(self, positions: Array, cell: Array) -> None:
        """Search all pairs anew.

        Args:
            positions: (A, 3) float64, Å, wrapped or not.
            cell: (3, 3) float64, rows are the cell's vectors, Å.

        Raises:
            InputError: a position or cell vector is not finite, or a periodic cell is flat.
        """
        check_geometry(positions, cell, self.pbc)
        self.reference = self._cell = None  # not valid, should the search fail
        self.neighbor = np.zeros(0, dtype=np.int32)  # its memory is free for the new list
        self.shift = np.zeros((0, 3), dtype=np.int16)
        reach_squared = (self.ranges + self.skin) ** 2
        box = complete_cell(np.where(self.pbc[:, None], cell, 0.0))
        bins = _Bins(positions, box, self.pbc, float(self.ranges.max(initial=0.0)) + self.skin)
        first = np.zeros(len(positions) + 1, dtype=np.int64)
        bins.walk(reach_squared, first, self.neighbor, self.shift, write=False)
        self.first = np.cumsum(first)
        neighbor = np.empty(self.first[-1], dtype=np.int32)
        shift = np.empty((self.first[-1], 3), dtype=np.int16)
        bins.walk(reach_squared, self.first, neighbor, shift, write=True)
        self.neighbor, self.shift = neighbor, shift
        self.reference, self._cell = positions.copy(), cell.copy()
        self.n_rebuilds += 1


class _Bins:
    """Atoms sorted into bins that are no thinner than the cutoff, where the cell is that wide."""

    def __init__(self, positions: Array, box: Array, pbc: Array, cutoff: float) -> None:
        """Sort.

        Args:
            positions: (A, 3) float64, Å.
            box: (3, 3) float64, not flat.
            pbc: (3,) bool.
            cutoff: the longest range, Å.
        """
        A, self.box, self.periodic = len(positions), box, pbc
        inverse = np.linalg.inv(box)
        fractional = positions @ inverse
        self.images = np.where(pbc, np.floor(fractional), 0.0).astype(np.int32)
        fractional -= self.images
        self.wrapped = positions - self.images @ box
        low = np.where(pbc, 0.0, fractional.min(axis=0, initial=np.inf))
        span = np.where(pbc, 1.0, fractional.max(axis=0, initial=-np.inf) - low)
        height = span / np.linalg.norm(inverse, axis=0)
        self.bins = self._numbers(height, cutoff, A)
        wide = np.ceil(cutoff * self.bins / np.maximum(height, 1e-9 * cutoff + 1e-300))
        self.reach = np.where(pbc, wide, np.minimum(wide, self.bins - 1)).astype(np.int64)
        place = (fractional - low) * (self.bins / np.maximum(span, 1e-300))
        self.place = np.minimum(place, self.bins - 1).astype(np.int32)
        number = np.ravel_multi_index(tuple(self.place.T), tuple(self.bins))
        self.order = np.argsort(number, kind="stable").astype(np.int32)
        counts = np.bincount(number, minlength=int(self.bins.prod()))
        self.first = np.concatenate([[0], np.cumsum(counts)])
        self.sorted = self.wrapped[self.order]

    @staticmethod
    def _numbers(height: Array, cutoff: float, atoms: int) -> NDArray[np.int64]:
        """How many bins along each axis: not many more than atoms, however empty the space."""
        most = np.maximum(height / max(cutoff, 1e-3), 1.0)
        while most.prod() > 4 * atoms + 64:
            most[most.argmax()] /= 2.0
        numbers: NDArray[np.int64] = most.astype(np.int64)
        return numbers

    def walk(
        self, range_squared: Array, first: Array, neighbor: Array, shift: Array, *, write: bool
    ) -> None:
        """See `duetto.kernels.cpu.pairs.walk_neighbors`."""
        walk_neighbors(
            self.wrapped,
            self.images,
            self.place,
            self.bins,
            self.reach,
            self.periodic,
            self.first,
            self.order,
            self.sorted,
            self.box,
            range_squared,
            write,
            first,
            neighbor,
            shift,
        )


def check_geometry(positions: Array, cell: Array, pbc: Array) -> None:
    """Raise InputError naming the atom or the cell vector that cannot be used."""
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise InputError(f"atom {bad[0]} has the position {positions[bad[0]]}; it must be finite")
    if not np.isfinite(cell).all():
        raise InputError("the cell has a vector that is not finite")
    periodic = cell[pbc]
    volume = np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)) if len(periodic) else 1.0
    if volume < 1e-6 * max(np.abs(periodic).max(initial=0.0), 1.0):
        axes = "".join(axis for axis, flag in zip("abc", pbc, strict=True) if flag)
        raise InputError(
            f"the cell is periodic along {axes} but its vectors there are zero or parallel: "
            f"{periodic.tolist()}"
        )
