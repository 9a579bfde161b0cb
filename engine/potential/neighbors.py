"""The neighbour list: one for both experts, sorted by centre, with a Verlet skin.

The search is by bins and stores nothing but the list. A general search's pairs, with both atoms in
64 bits and room to grow, took four times the memory; of 8,112 atoms within 5.5 Å they took 27 ms on
one core, and were still to be pruned to each atom's reach, where this takes 21 ms for all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.atoms.geometry import check_cell, check_positions
from duetto.atoms.periodic import complete_basis
from duetto.kernels.cpu.pairs import stayed, walk_neighbors

Array = NDArray[Any]


_MANY_CELLS = 1000
"""Within so many cells of home a fraction of the cell is known to 1e-12."""


class NeighborList:
    """Neighbours of every atom within its own range plus a skin.

    An atom's range is the largest cutoff of the experts that compute it, so a low-fidelity atom
    does not carry the neighbours that only the high-fidelity expert would see.

    Attributes:
        first: (A + 1,) int64, where each atom's neighbours begin.
        neighbor: (list,) int32.
        shift: (list, 3), periodic image of each neighbour, in cell vectors: int16, or int64 where
            atoms are further from home than that.
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
        self._box: tuple[Array, Array] | None = None  # a cell that passed, and its whole basis
        self.first = np.zeros(len(self.ranges) + 1, dtype=np.int64)
        self.neighbor = np.zeros(0, dtype=np.int32)
        self.shift = np.zeros((0, 3), dtype=np.int16)

    def serves(self, work: object, ranges: Array) -> bool:
        """Whether atoms with these ranges (A,) Å find all their neighbours here."""
        return bool((np.asarray(ranges) <= self.ranges).all())

    def is_valid(self, positions: ArrayLike | Tensor, cell: ArrayLike | Tensor) -> bool:
        """Whether every pair within range is certainly in the list."""
        positions, cell = _on_host(positions), _on_host(cell)
        if self.reference is None or self._cell is None or not np.array_equal(self._cell, cell):
            return False
        return stayed(positions, self.reference, (self.skin / 2) ** 2)

    def rebuild(self, positions: ArrayLike | Tensor, cell: ArrayLike | Tensor) -> None:
        """Search all pairs anew.

        Args:
            positions: (A, 3) float64, Å, wrapped or not.
            cell: (3, 3) float64, rows are the cell's vectors, Å.

        Raises:
            InputError: no distances are defined there, see `check_geometry`.
        """
        positions, cell = _on_host(positions), _on_host(cell)
        check_positions(positions)
        if self._box is None or not np.array_equal(self._box[0], cell):
            check_cell(cell, self.pbc)
            self._box = cell.copy(), complete_basis(cell, self.pbc)
        self.reference = self._cell = None  # not valid, should the search fail
        self.neighbor = np.zeros(0, dtype=np.int32)  # its memory is free for the new list
        self.shift = np.zeros((0, 3), dtype=np.int16)
        reach_squared = np.maximum(self.ranges + self.skin, 0.0) ** 2
        bins = _Bins(
            positions, self._box[1], self.pbc, float(self.ranges.max(initial=0.0)) + self.skin
        )
        first = np.zeros(len(positions) + 1, dtype=np.int64)
        bins.walk(reach_squared, first, self.neighbor, self.shift, write=False)
        self.first = np.cumsum(first)
        neighbor = np.empty(self.first[-1], dtype=np.int32)
        shift = np.empty((self.first[-1], 3), dtype=bins.shift_type)
        bins.walk(reach_squared, self.first, neighbor, shift, write=True)
        self.neighbor, self.shift = neighbor, shift
        self.reference, self._cell = positions.copy(), cell.copy()
        self.n_rebuilds += 1


def neighbors_of(
    centres: ArrayLike,
    reach: float,
    positions: ArrayLike | Tensor,
    cell: ArrayLike | Tensor,
    pbc: Array,
) -> NeighborList:
    """A list of the neighbours of a few atoms; of all others it is empty.

    Args:
        centres: indices of the atoms.
        reach: Å, within which neighbours are listed.
        positions: (A, 3) float64, Å.
        cell: (3, 3) float64, Å.
        pbc: (3,) bool.

    Raises:
        InputError: as `NeighborList.rebuild`.
    """
    x = _on_host(positions)
    ranges = np.zeros(len(x))
    ranges[np.asarray(centres, dtype=np.int64)] = reach
    found = NeighborList(ranges, pbc, 0.0)
    found.rebuild(x, cell)
    return found


class _Bins:
    """Atoms sorted into bins that are no thinner than the cutoff, where the cell is that wide."""

    def __init__(self, positions: Array, box: Array, pbc: Array, cutoff: float) -> None:
        """Sort.

        Args:
            positions: (A, 3) float64, Å.
            box: (3, 3) float64, not flat.
            pbc: (3,) bool.
            cutoff: the longest range, Å.

        `shift_type` is of integers that hold every neighbour's image.
        """
        A, self.box, self.periodic = len(positions), box, pbc
        inverse = np.linalg.inv(box)
        fractional = positions @ inverse
        cells = np.where(pbc, np.floor(fractional), 0.0)
        self.wrapped, fractional = positions - cells @ box, fractional - cells
        farthest = np.abs(cells).max(initial=0.0)
        if farthest > _MANY_CELLS:  # the first pass knows the fraction only roughly
            further = np.where(pbc, np.floor(self.wrapped @ inverse), 0.0)
            self.wrapped, cells = self.wrapped - further @ box, cells + further
            fractional = self.wrapped @ inverse
        low = np.where(pbc, 0.0, fractional.min(axis=0, initial=np.inf))
        span = np.where(pbc, 1.0, fractional.max(axis=0, initial=-np.inf) - low)
        height = span / np.linalg.norm(inverse, axis=0)
        self.bins = self._numbers(height, cutoff, A)
        wide = np.ceil(cutoff * self.bins / np.maximum(height, 1e-9 * cutoff + 1e-300))
        self.reach = np.where(pbc, wide, np.minimum(wide, self.bins - 1)).astype(np.int64)
        place = (fractional - low) * (self.bins / np.maximum(span, 1e-300))
        # What rounding has left outside is on the face.
        self.place = np.minimum(np.maximum(place, 0.0), self.bins - 1).astype(np.int32)
        number = np.ravel_multi_index(tuple(self.place.T), tuple(self.bins))
        self.order = np.argsort(number, kind="stable").astype(np.int32)
        counts = np.bincount(number, minlength=int(self.bins.prod()))
        self.first = np.concatenate([[0], np.cumsum(counts)])
        self.sorted = self.wrapped[self.order]
        apart = 2 * farthest + (self.reach // self.bins).max() + 2
        near = apart <= np.iinfo(np.int16).max
        self.shift_type: type[np.signedinteger[Any]] = np.int16 if near else np.int64
        # Half as wide, the walk reads the images of neighbours from half as many cache lines.
        self.images = cells.astype(np.int32 if near else np.int64)

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


def _on_host(values: ArrayLike | Tensor) -> Array:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
