"""Buffers and launches of an expert's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import triton
from torch import Tensor

from duetto.kernels.triton import expert_math
from duetto.kernels.triton.expert_cache import kernel_module
from duetto.kernels.triton.expert_packing import PackedExpert
from duetto.kernels.triton.expert_spec import SLOTS, KernelSpec
from duetto.kernels.triton.expert_writer import stash_layout

EDGE_TILES = (16, 32, 64, 128, 256)
"""Rows that the edge tiles of a launch may have: at least the edges of each pack's centres."""

NUM_WARPS = {16: 1, 32: 2, 64: 4, 128: 8, 256: 8}
"""Warps of a program by rows of its edge tiles; more would do the same work twice."""

PRECISIONS = ("fp32", "bf16x3")

STASH_BYTES = 512 * 1024**2
"""Most memory of the numbers that a forward kernel leaves for the backward one.

Packs that need more are evaluated by several launches, one after the other in the same memory. For
64 scalars, 32 channels, two layers and tiles of 128 that is 3,800 packs at a time, which is 29 to
each SM of an H200, so that the last ones to run, which leave some of them idle, cost little.
"""


class EdgeRows(Protocol):
    """Edges in compressed rows, all on one device. A row that is listed holds those of a centre."""

    @property
    def rowptr(self) -> Tensor:
        """(R + 1,) int64, where the edges of each row begin and end."""

    @property
    def neighbor_types(self) -> Tensor:
        """(capacity,) int32, the expert's type of the neighbour."""

    @property
    def vectors(self) -> Tensor:
        """(3, capacity) float32, r_j − r_i, Å."""

    @property
    def row_types(self) -> Tensor:
        """(R,) int32, the expert's type of the row's centre."""


class PackedEdgeRows(EdgeRows, Protocol):
    """Edge rows with the rows of each expert in packs by size of tile: K lists per expert."""

    @property
    def work(self) -> Tensor:
        """(2 K, C, SLOTS) int32; list k of expert e holds the packs for tile k of EDGE_TILES."""

    @property
    def work_count(self) -> Sequence[Tensor]:
        """2 K tensors (1,) int32, the lengths of the lists."""

    @property
    def work_capacity(self) -> Sequence[int]:
        """How many packs of each list a launch must be ready for."""


@dataclass(frozen=True)
class WorkList:
    """Packs of rows, each evaluated by one program, with one size of tile.

    Attributes:
        packs: (≥ capacity, SLOTS) int32, rows of centres of one type, −1 in places that are not
            taken. The first `KernelSpec.centres` places are read, the first must be taken.
        count: (1,) int32 on the device: how many of them there are.
        capacity: how many of them the launch is ready for.
        tile: one of EDGE_TILES. The energy of a row that reaches beyond it is NaN.
    """

    packs: Tensor
    count: Tensor
    capacity: int
    tile: int


def work_lists(edges: PackedEdgeRows, index: int) -> list[WorkList]:
    """The packs of expert `index`, 0 or 1, a list for every tile."""
    K = len(EDGE_TILES)
    return [
        WorkList(edges.work[key], edges.work_count[key], edges.work_capacity[key], tile)
        for key, tile in zip(range(index * K, (index + 1) * K), EDGE_TILES, strict=True)
    ]


def packs_of_one(rows: Tensor) -> Tensor:
    """(C, SLOTS) int32, each of the `rows` (C,) int32 in a pack of its own."""
    return torch.nn.functional.pad(rows[:, None], (0, SLOTS - 1), value=-1)


def edge_tile(most_edges: int) -> int:
    """Smallest tile for centres with at most so many edges.

    Raises:
        ValueError: no tile is large enough.
    """
    for tile in EDGE_TILES:
        if most_edges <= tile:
            return tile
    raise ValueError(
        f"a centre has {most_edges} neighbours inside the cutoff; the fused kernels take at most "
        f"{EDGE_TILES[-1]}"
    )


def pack_tile(edges: int) -> int:
    """Tile of the packs that centres with so many edges go to, see `edges.pack_centres`.

    Raises:
        ValueError: no tile is large enough.
    """
    shared, alone = EDGE_TILES[:-1], EDGE_TILES[-2]
    if edges > alone:
        return edge_tile(edges)
    return next((tile for tile in shared if 2 * edges <= tile), alone)


def kernel_kinds(spec: KernelSpec) -> tuple[str, ...]:
    """The kernels that evaluate an expert, in order."""
    return ("whole",) if spec.num_layers == 1 else ("forward", "backward")


class ExpertKernels:
    """An expert ready to be evaluated on one device.

    Args:
        packed: the expert's weights, on the device.
        precision: "fp32" or "bf16x3", that of matrix products.
        stash_bytes: bound of the memory between forward and backward; one pack always fits.

    Attributes:
        pack_size: most centres of a pack.
        generation: changes whenever a buffer does, also for another list's sake.

    Raises:
        ValueError: unknown precision.
    """

    def __init__(
        self, packed: PackedExpert, precision: str = "bf16x3", stash_bytes: int = STASH_BYTES
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self.packed = packed
        self.precision = precision
        self.stash_bytes = stash_bytes
        self.pack_size = packed.spec.centres
        self.generation = 0
        self._module = kernel_module(packed.spec)
        self._stash = torch.empty(0, dtype=torch.float32, device=packed.table.device)

    def evaluate(
        self, edges: PackedEdgeRows, index: int, energies: Tensor, gradients: Tensor
    ) -> None:
        """Evaluate the packs that `edges` lists for expert `index`.

        Only launches kernels, so that it can be captured in a graph, once buffers suffice: they
        do after a call with the same capacities.

        Args:
            edges: edge rows in packs.
            index: 0 or 1.
            energies, gradients: OUTPUT, see `evaluate_rows`.
        """
        self.evaluate_rows(edges, work_lists(edges, index), energies, gradients)

    def evaluate_rows(
        self, edges: EdgeRows, work: Sequence[WorkList], energies: Tensor, gradients: Tensor
    ) -> None:
        """Energies of the listed rows and their gradients with respect to the edges.

        Args:
            edges: edge rows.
            work: lists of packs; no row is in two of them.
            energies: OUTPUT (R,) float64, E_i in eV; rows that are not listed keep theirs.
            gradients: OUTPUT (3, capacity) float32, ∂E_i/∂r_ij in eV/Å; edges of other rows keep
                theirs.

        Raises:
            ValueError: an argument has the wrong shape, type or layout.
        """
        check_arguments(edges, work, energies, gradients)
        needed = max((self._stash_size(item) for item in work), default=0)
        if needed > self._stash.numel():
            self._stash = self._stash.new_empty(needed)
            self.generation += 1
        for item in work:
            at_once = self._programs_at_once(item)
            for first in range(0, item.capacity, at_once):
                programs = min(at_once, item.capacity - first)
                self._launch(edges, item, first, programs, energies, gradients)

    def _launch(
        self,
        edges: EdgeRows,
        item: WorkList,
        first: int,
        programs: int,
        energies: Tensor,
        gradients: Tensor,
    ) -> None:
        packed = self.packed
        for kind in kernel_kinds(packed.spec):
            getattr(self._module, kind)[(programs,)](
                item.packs,
                item.count,
                first,
                edges.rowptr,
                edges.vectors,
                edges.vectors.stride(0),
                edges.neighbor_types,
                edges.row_types,
                packed.table,
                packed.high,
                packed.middle,
                packed.low,
                packed.type_energies,
                self._stash,
                energies,
                gradients,
                E=item.tile,
                PRECISION=precision_constant(self.precision),
                FAST=not interpreted(),
                **launch_options(item.tile),
            )

    def _programs_at_once(self, item: WorkList) -> int:
        """How many packs of a list one launch takes; at least 1, so that an empty list has one."""
        if kernel_kinds(self.packed.spec) == ("whole",):
            return max(item.capacity, 1)
        needed = 4 * stash_layout(self.packed.spec).floats_per_program(item.tile)
        return max(min(self.stash_bytes // needed, item.capacity), 1)

    def _stash_size(self, item: WorkList) -> int:
        """Float32 numbers that the launches of a list leave for each other."""
        if kernel_kinds(self.packed.spec) == ("whole",) or not item.capacity:
            return 0
        layout = stash_layout(self.packed.spec)
        return self._programs_at_once(item) * layout.floats_per_program(item.tile)


def check_arguments(
    edges: EdgeRows, work: Sequence[WorkList], energies: Tensor, gradients: Tensor
) -> None:
    """Refuse what the kernels would read or write wrongly; they check nothing.

    Raises:
        ValueError: names the argument, what it is and what it should be.
    """
    rows, slots = len(edges.row_types), edges.vectors.shape[-1]
    expected: dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]] = {
        "rowptr": (edges.rowptr, (rows + 1,), torch.int64),
        "vectors": (edges.vectors, (3, slots), torch.float32),
        "neighbor_types": (edges.neighbor_types, (slots,), torch.int32),
        "row_types": (edges.row_types, (rows,), torch.int32),
        "energies": (energies, (rows,), torch.float64),
        "gradients": (gradients, (3, slots), torch.float32),
    }
    for index, item in enumerate(work):
        if item.tile not in EDGE_TILES:
            raise ValueError(f"tile {item.tile} is not one of {', '.join(map(str, EDGE_TILES))}")
        if item.capacity > len(item.packs):
            found = len(item.packs)
            raise ValueError(f"work list {index} has {found} packs, {item.capacity} wanted")
        places = (len(item.packs), SLOTS)
        expected[f"packs of work list {index}"] = (item.packs, places, torch.int32)
        expected[f"count of work list {index}"] = (item.count, (1,), torch.int32)
    for name, (tensor, shape, dtype) in expected.items():
        given = (tuple(tensor.shape), tensor.dtype, tensor.device)
        if given != (shape, dtype, energies.device) or not tensor.is_contiguous():
            layout = "" if tensor.is_contiguous() else ", not contiguous"
            raise ValueError(
                f"{name}: {given[0]} {given[1]} on {given[2]}{layout}; the kernels need "
                f"{shape} {dtype} on {energies.device}, contiguous"
            )


def launch_options(tile: int) -> dict[str, int | bool]:
    """Compiler options of a launch, given explicitly because Triton's defaults change."""
    return {"num_warps": NUM_WARPS[tile], "num_stages": 2, "enable_fp_fusion": True}


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU instead of compiling them."""
    return bool(triton.knobs.runtime.interpret)


def precision_constant(precision: str) -> int:
    """The kernels' PRECISION of "fp32" or "bf16x3".

    Compiled, fp32 is six products of bfloat16 parts. The interpreter has float32 itself, and for
    bf16x3 an emulation.
    """
    if precision == "fp32":
        return expert_math.IEEE if interpreted() else expert_math.BF16X6
    return expert_math.BF16X3 + (expert_math.HELD if interpreted() else 0)
