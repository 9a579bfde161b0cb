"""The neighbour list of the device step: its buffers, and the launches that fill them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton.edges import filter_edges, list_work, pack_centres
from duetto.kernels.triton.expert_launch import interpreted
from duetto.kernels.triton.expert_spec import SLOTS
from duetto.kernels.triton.grid import CellGrid, plan_grid
from duetto.kernels.triton.neighbors import (
    SHIFT_BITS,
    SHIFT_MASK,
    SHIFT_OFFSET,
    bin_atoms,
    check_displacements,
    order_cells,
    search_candidates,
    sort_candidates,
)

SMALLEST_TILE = 16
N_TILES = 5
LARGEST_TILE = SMALLEST_TILE << (N_TILES - 1)
"""Edge tiles of 16, 32, 64, 128 and 256 rows."""

REBUILD_FRACTION = 0.8
"""Part of half the skin after which a rebuild is asked for. The rest is for the steps in flight."""

CENTRES_PER_BLOCK = 48
"""Centres that are packed among themselves: a multiple of 2, 3 and 4, so that where all have the
same number of edges every pack is full. More of them would not fill the tiles better."""
ATOMS_PER_BLOCK = 128
GROWTH = 1.25
MAX_GROWTHS = 12

LAUNCH = {"enable_fp_fusion": False}
"""No contraction of products and sums: whether a pair is near is decided alike on every machine."""


class CapacityError(RuntimeError):
    """The system cannot be held as it is; the message says what and how much is needed."""


@dataclass(frozen=True)
class DeviceEdges:
    """What the expert kernels read: edges by centre, and packs of centres that fit into a tile.

    A sparse matrix in compressed rows, of which row 2 c holds the edges of centre c and row
    2 c + 1 the unused slots behind them, so that selecting edges needs no sum over the centres.
    All on the device, rewritten in place every step.

    Attributes:
        rowptr: (2 C + 1,) int64.
        neighbors: (capacity,) int32, atom j.
        neighbor_types: (capacity,) int32, the type that the centre's expert gives atom j.
        vectors: (3, capacity), r_j − r_i, Å.
        row_types: (2 C,) int32, at 2 c the type that its expert gives centre c.
        work: (2 K, C, SLOTS) int32; work[k, : work_count[k]] are the packs of key k, each up to
            SLOTS rows of centres of one type and −1 behind them.
        work_count: 2 K tensors (1,) int32.
        work_capacity: how many packs the launches of each key must be ready for; 0 where there
            was no such centre.
    """

    rowptr: Tensor
    neighbors: Tensor
    neighbor_types: Tensor
    vectors: Tensor
    row_types: Tensor
    work: Tensor
    work_count: tuple[Tensor, ...]
    work_capacity: tuple[int, ...]


class DeviceNeighborList:
    """One list for both experts, with a skin, kept and used without synchronising with the host.

    `rebuild` and `update` only launch kernels and may be captured in a graph; what does not fit
    raises a flag. `build` is their counterpart for the host: it plans, launches, reads the flags
    and grows what was too small until everything fits.

    Attributes:
        flags: (N_FLAGS,) int32, see `duetto.kernels.triton.flags`.
        reference: (A, 3) float64, positions at which the list was built.
        centre_atoms: (C,) int32, atom of each centre; the first `n_first` are of expert 0.
        pack_sizes: most centres that expert 0 and expert 1 evaluate together, up to SLOTS.
        n_rebuilds: how often it has been built.
        generation: changes whenever a buffer or a capacity does: graphs that were captured before
            must be captured again.
    """

    def __init__(
        self,
        types: Tensor,
        cutoffs: Tensor,
        pbc: tuple[bool, bool, bool],
        *,
        skin: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare an empty list, every atom a centre of expert 0.

        Args:
            types: (2, A) integer, each expert's type of every atom, on the device.
            cutoffs: (2, T, T) float64, Å, by expert, centre type and neighbour type.
            pbc: (3,) periodicity.
            skin: Å.
            dtype: of the edge vectors.
        """
        device = types.device
        n_atoms = types.shape[1]
        self.types = types.to(torch.int32).contiguous()
        self.cutoffs = cutoffs.to(device=device, dtype=torch.float64).contiguous()
        self.pbc = pbc
        self.skin = skin
        self.dtype = dtype
        self.pack_sizes = (1, 1)
        self.n_rebuilds = 0
        self.generation = 0
        self.flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=device)
        half = 0.5 * skin
        squares = [half**2, (REBUILD_FRACTION * half) ** 2]
        self.limits = torch.tensor(squares, dtype=torch.float64, device=device)
        self.reference = torch.full((n_atoms, 3), torch.nan, dtype=torch.float64, device=device)
        self._skin = torch.tensor([skin], dtype=torch.float64, device=device)
        self._wrapped = torch.empty_like(self.reference)
        self._home = torch.zeros(n_atoms, 3, dtype=torch.int64, device=device)
        self._far = False
        self._atom_cell = torch.empty(n_atoms, dtype=torch.int32, device=device)
        self._cell_capacity = 16
        self._grid: CellGrid | None = None
        self.set_centres(torch.arange(n_atoms), torch.arange(0))

    @property
    def n_atoms(self) -> int:
        """A."""
        return self.types.shape[1]

    @property
    def n_centres(self) -> int:
        """C."""
        return len(self.centre_atoms)

    @property
    def capacity(self) -> int:
        """Edge slots."""
        return len(self._candidates)

    def set_centres(self, first: Tensor, second: Tensor) -> None:
        """Choose the atoms whose energy expert 0 and expert 1 compute, (C_0,) and (C_1,).

        The list must be built before it is used again.
        """
        device = self.types.device
        self.n_first = len(first)
        self.centre_atoms = torch.cat([first, second]).to(device=device, dtype=torch.int32)
        C = self.n_centres
        self._n_blocks = triton.cdiv(C, CENTRES_PER_BLOCK)
        expert = (torch.arange(C, device=device) >= self.n_first).long()
        self._row_types = self._integers(2 * C)
        self._row_types[::2] = self.types[expert, self.centre_atoms.long()]
        self._counts = self._integers(C)
        self._start = torch.zeros(C + 1, dtype=torch.int64, device=device)
        self._rowptr = torch.zeros(2 * C + 1, dtype=torch.int64, device=device)
        self._packs = self._integers(self._n_blocks * CENTRES_PER_BLOCK, SLOTS)
        self._keys = self._integers(self._n_blocks * CENTRES_PER_BLOCK)
        self._histogram = self._integers(2 * N_TILES, self._n_blocks)
        self._cumulative = torch.zeros_like(self._histogram)
        self._work = self._integers(2 * N_TILES, C, SLOTS)
        self._work_capacity = self._integers(2 * N_TILES)
        self._work_capacities = (0,) * (2 * N_TILES)
        self.reference.fill_(torch.nan)
        self._allocate_edges(32 * C)

    def edges(self) -> DeviceEdges:
        """The present buffers. They are others once `generation` has changed."""
        last = self._cumulative[:, -1:] if self._n_blocks else self._work_capacity[:, None]
        return DeviceEdges(
            rowptr=self._rowptr,
            neighbors=self._neighbors,
            neighbor_types=self._neighbor_types,
            vectors=self._vectors,
            row_types=self._row_types,
            work=self._work,
            work_count=tuple(last),
            work_capacity=self._work_capacities,
        )

    def build(self, positions: Tensor, cell: Tensor) -> None:
        """List and select edges, growing buffers until they fit. Synchronises with the host.

        Args:
            positions: (A, 3) float64, Å, on the device.
            cell: (3, 3) float64, Å.

        Raises:
            ValueError: positions are not finite, or the periodic vectors span no volume.
            CapacityError: a centre has more edges than the largest tile.
        """
        distance = float(self.cutoffs.max()) + self.skin
        self._use_grid(plan_grid(positions, cell, self.pbc, distance))
        self._until_it_fits(self._list_candidates, positions)
        self._until_it_fits(self.update, positions)
        self.n_rebuilds += 1

    def rebuild(self, positions: Tensor) -> None:
        """List the candidates at `positions` (A, 3) in the cell of `build`. Launches only."""
        self.flags[: flag.LAST_OF_LIST.value + 1].zero_()
        self._list_candidates(positions)
        self.n_rebuilds += 1

    def update(self, positions: Tensor, first_centre: int = 0) -> None:
        """Select the edges at `positions` (A, 3) and pack the centres. Launches only.

        Args:
            positions: (A, 3) float64, Å.
            first_centre: those before it keep the edges that they had.
        """
        assert self._grid is not None, "build() comes first"
        filter_edges[(self.n_centres - first_centre,)](
            positions, self._grid.frame, self.types, self.centre_atoms, self.cutoffs, self._start,
            self._candidates, self._shifts, self._home, self._rowptr, self._neighbors,
            self._neighbor_types, self._vectors, self.flags, self.n_atoms, self.n_first,
            self.cutoffs.shape[1], self.capacity, first_centre, FAR=self._far, MOST=LARGEST_TILE,
            BLOCK=128, num_warps=1, **LAUNCH,
        )  # fmt: skip
        self._pack()

    def _pack(self) -> None:
        """Fill the work lists from the rows of `update`."""
        sizes = {"PER_BLOCK": CENTRES_PER_BLOCK, "BLOCK": 64, "num_warps": 1}
        tiles = {"TILES": N_TILES, "SLOTS": SLOTS, **sizes, **LAUNCH}
        pack_centres[(self._n_blocks,)](
            self._rowptr, self._row_types, self._packs, self._keys, self._histogram,
            self.n_centres, self.n_first, self.cutoffs.shape[1], self._n_blocks, *self.pack_sizes,
            SMALLEST=SMALLEST_TILE, **tiles,
        )  # fmt: skip
        torch.cumsum(self._histogram, 1, dtype=torch.int32, out=self._cumulative)
        list_work[(self._n_blocks,)](
            self._packs, self._keys, self._histogram, self._cumulative, self._work,
            self._work_capacity, self.flags, self.n_centres, self._n_blocks, **tiles,
        )  # fmt: skip

    def candidates(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The list on the host: atoms i and j, (list,), and images S (list, 3), by centre."""
        starts = self._start.cpu()
        total = int(starts[-1])
        i = torch.repeat_interleave(self.centre_atoms.cpu().long(), starts.diff())
        code = self._shifts[:total].cpu()
        bits, mask, offset = SHIFT_BITS.value, SHIFT_MASK.value, SHIFT_OFFSET.value
        S = torch.stack([((code >> (bits * k)) & mask) - offset for k in (2, 1, 0)], dim=1)
        j = self._candidates[:total].cpu()
        if self._far:
            home = self._home.cpu()
            S += home[i] - home[j.long()]
        return i.numpy(), j.numpy(), S.numpy()

    def check_displacements(self, positions: Tensor) -> None:
        """Raise MOVED and MOVING for `positions` (A, 3). Launches only."""
        check_displacements[(triton.cdiv(self.n_atoms, ATOMS_PER_BLOCK),)](
            positions, self.reference, self.limits, self.flags, self.n_atoms,
            BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip

    def _until_it_fits(self, launch: Callable[[Tensor], None], positions: Tensor) -> None:
        for _ in range(MAX_GROWTHS):
            self.flags[: flag.HALTED.value].zero_()
            launch(positions)
            if not self._grow():
                return
        raise CapacityError("the neighbour list keeps outgrowing its buffers")

    def _list_candidates(self, positions: Tensor) -> None:
        grid = self._grid
        assert grid is not None, "build() comes first"
        self.reference.copy_(positions)
        self._cell_count.zero_()
        bin_atoms[(triton.cdiv(self.n_atoms, ATOMS_PER_BLOCK),)](
            positions, grid.frame, grid.numbers, self._wrapped, self._home, self._atom_cell,
            self._cell_count, self._slots, self.flags, self.n_atoms,
            CAPACITY=self._cell_capacity, BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip
        together = max(1, 1024 // self._cell_capacity)
        order_cells[(triton.cdiv(grid.n_cells, together),)](
            self._slots, self._cell_count, self._cell_atoms, grid.n_cells,
            CAPACITY=self._cell_capacity, CELLS=together,
        )  # fmt: skip
        self._search(fill=False)
        torch.cumsum(self._counts, 0, dtype=torch.int64, out=self._start[1:])
        self._search(fill=True)
        # Small tiles suit a GPU; in the interpreter few operations do.
        tile = {"BLOCK": 512, "CHUNK": 512} if interpreted() else {"BLOCK": 128, "CHUNK": 8}
        sort_candidates[(self.n_centres,)](
            self._neighbors, self._found_shifts, self._start, self._candidates, self._shifts,
            self.capacity, num_warps=2, **tile,
        )  # fmt: skip

    def _search(self, *, fill: bool) -> None:
        grid = self._grid
        assert grid is not None
        # Small tiles suit a GPU; in the interpreter few operations do.
        lanes = 8192 if interpreted() else 256
        stencil = math.prod(2 * r + 1 for r in grid.reach)
        cells = min(max(1, lanes // self._cell_capacity), triton.next_power_of_2(stencil))
        search_candidates[(self.n_centres,)](
            self._wrapped, self._home, self._atom_cell, self._cell_atoms, grid.frame, grid.numbers,
            self.types, self.centre_atoms, self.cutoffs, self._skin, self._counts, self._start,
            self._neighbors, self._found_shifts, self.flags, self.n_atoms, self.n_first,
            self.cutoffs.shape[1], self.capacity, FAR=self._far, FILL=fill,
            CAPACITY=self._cell_capacity, CELLS=cells, num_warps=2, **LAUNCH,
        )  # fmt: skip

    def _use_grid(self, grid: CellGrid) -> None:
        """Take the planned cells, into the present buffers if there are as many."""
        if self._grid is None or grid.n_cells != self._grid.n_cells:
            self._grid = grid
            self._allocate_cells()
        else:
            self._grid.frame.copy_(grid.frame)
            self._grid.numbers.copy_(grid.numbers)
            self._grid = CellGrid(grid.shape, grid.reach, self._grid.frame, self._grid.numbers)

    def _integers(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.int32, device=self.types.device)

    def _allocate_cells(self) -> None:
        assert self._grid is not None
        self._cell_count = self._integers(self._grid.n_cells)
        self._slots = self._integers(self._grid.n_cells, self._cell_capacity)
        self._cell_atoms = torch.zeros_like(self._slots)
        self.generation += 1

    def _allocate_edges(self, capacity: int) -> None:
        capacity += capacity % 2  # three planes of float32 must be whole numbers of int64
        self._candidates = self._integers(capacity)
        self._shifts = torch.zeros(capacity, dtype=torch.int64, device=self.types.device)
        self._neighbors = self._integers(capacity)
        self._neighbor_types = self._integers(capacity)
        self._vectors = torch.zeros(3, capacity, dtype=self.dtype, device=self.types.device)
        # Candidates not yet in order lie where the edges will: `update` writes those anew.
        self._found_shifts = self._vectors.view(-1).view(torch.int64)[:capacity]
        self.generation += 1

    def _grow(self) -> bool:
        """Enlarge what the flags say was too small; whether anything was.

        Raises:
            CapacityError: as `build`.
        """
        raised = self.flags.tolist()
        if raised[flag.CELL_FULL.value]:
            needed = int(GROWTH * raised[flag.CELL_FULL.value])
            self._cell_capacity = triton.next_power_of_2(needed)
            self._allocate_cells()
            return True
        if raised[flag.LIST_FULL.value]:
            self._allocate_edges(int(GROWTH * int(self._start[-1])))
            return True
        if raised[flag.SHIFT_RANGE.value] and not self._far:
            self._far = True  # other kernels, which read where each atom's home is
            self.generation += 1
            return True
        if raised[flag.TILE_FULL.value]:
            raise CapacityError(
                f"an atom has {raised[flag.TILE_FULL.value]} neighbours inside the cutoff; the "
                f"kernels take at most {LARGEST_TILE}"
            )
        if raised[flag.WORK_FULL.value]:
            self._grow_work()
            return True
        return False

    def _grow_work(self) -> None:
        """Room for the packs of each key, with some to spare; none for keys without any."""
        counts = self._cumulative[:, -1].tolist()
        self._work_capacities = tuple(
            max(before, min(self.n_centres, int(GROWTH * count) + 16)) if count else before
            for count, before in zip(counts, self._work_capacities, strict=True)
        )
        self._work_capacity.copy_(torch.tensor(self._work_capacities, dtype=torch.int32))
        self.generation += 1
