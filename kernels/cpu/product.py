"""Matrix products of a chunk's rows with small weight matrices, a tile of registers at a time.

Chunks are some hundred to some thousand rows high and the matrices a few kilobytes large: they stay
in the first two caches, a tile of the result stays in registers while the inner index runs, and
what follows a product can work on rows that are still in the first-level cache. Every row is summed
in the order of the inner index wherever it stands, so results do not depend on how rows are cut
into chunks. Measured on one core with AVX-512, float32: 114 GFLOP/s where torch's library reaches
95 on 64 columns, 107 where it reaches 64 on 16.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import VectorType, address, fused_multiply_add, spread

_ROWS = 6
"""Rows of a tile: with more, their addresses no longer fit the general registers."""


@dataclass(frozen=True)
class Registers:
    """Vector registers of this machine: bytes of one, and how many a tile may fill."""

    size: int
    tile: int


@functools.cache
def registers() -> Registers:
    """Of this machine."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(64, 24)
    if features.get("avx"):
        return Registers(32, 12)
    return Registers(16, 24 if platform.machine().lower() in {"aarch64", "arm64"} else 12)


class _Tile:
    """Writes the instructions of one tile: rows × vectors sums in registers."""

    def __init__(self, builder: Any, vector: VectorType, rows: int, vectors: int, intp: Any):
        self.builder, self.vector, self.intp = builder, vector, intp
        self.rows = rows
        self.columns = [ir.Constant(intp, v * vector.lanes) for v in range(vectors)]
        self.align = vector.element.bitwidth // 8

    def row_pointers(self, pointer: Any, stride: Any) -> list[Any]:
        """Addresses of the rows, `stride` bytes apart."""
        offsets = [
            self.builder.mul(stride, ir.Constant(self.intp, row)) for row in range(self.rows)
        ]
        return [cgutils.pointer_add(self.builder, pointer, offset) for offset in offsets]

    def _pointer(self, row: Any, column: Any) -> Any:
        place = self.builder.gep(row, [column])
        return self.builder.bitcast(place, self.vector.llvm.as_pointer())

    def load_row(self, row: Any) -> list[Any]:
        """The vectors of one row."""
        return [
            self.builder.load(self._pointer(row, column), align=self.align)
            for column in self.columns
        ]

    def store_row(self, row: Any, values: list[Any]) -> None:
        """Write the vectors of one row."""
        for column, value in zip(self.columns, values, strict=True):
            self.builder.store(value, self._pointer(row, column), align=self.align)

    def sum_products(
        self, sums: list[list[Any]], a: list[Any], a_step: Any, b: Any, b_step: Any, count: Any
    ) -> list[list[Any]]:
        """Sums after a loop of `count` ≥ 1 rounds.

        Each takes a number from every address in `a` and a row from `b`; from round to round `b`
        moves by `b_step` bytes and the addresses in `a` by `a_step`, or by one number if None.
        """
        builder, before = self.builder, self.builder.block
        body = builder.append_basic_block("tile.inner")
        after = builder.append_basic_block("tile.done")
        builder.branch(body)
        builder.position_at_end(body)
        k, b_row = builder.phi(self.intp), builder.phi(b.type)
        carried = [[builder.phi(self.vector.llvm) for _ in row] for row in sums]
        loaded = self.load_row(b_row)
        offset = None if a_step is None else builder.mul(k, a_step)
        following = []
        for pointer, row in zip(a, carried, strict=True):
            if offset is None:
                place = builder.gep(pointer, [k])
            else:
                place = cgutils.pointer_add(builder, pointer, offset)
            left = spread(builder, self.vector, builder.load(place))
            following.append(
                [
                    fused_multiply_add(builder, self.vector, left, right, here)
                    for right, here in zip(loaded, row, strict=True)
                ]
            )
        next_k = builder.add(k, ir.Constant(self.intp, 1))
        next_b = cgutils.pointer_add(builder, b_row, b_step)
        builder.cbranch(builder.icmp_signed("<", next_k, count), body, after)
        self._carry(k, before, ir.Constant(self.intp, 0), body, next_k)
        self._carry(b_row, before, b, body, next_b)
        for phis, firsts, nexts in zip(carried, sums, following, strict=True):
            for phi, first, following_sum in zip(phis, firsts, nexts, strict=True):
                self._carry(phi, before, first, body, following_sum)
        builder.position_at_end(after)
        return following

    @staticmethod
    def _carry(phi: Any, before: Any, first: Any, body: Any, following: Any) -> None:
        phi.add_incoming(first, before)
        phi.add_incoming(following, body)


@intrinsic(prefer_literal=True)
def tile(
    typingctx: Any,
    shape: Any,
    A: Any,
    at_A: Any,
    B: Any,
    at_B: Any,
    C: Any,
    at_C: Any,
    inner: Any,
) -> Any:
    """One tile: C = A B or C += A B, from the given element of each array on.

    `shape` is a tuple of literals: rows, vectors in a row, lanes of a vector, 1 to add to C or 0 to
    write it, 1 for Aᵀ in A's place or 0. `inner` ≥ 1 is how many rows of B are taken.
    """
    rows, vectors, lanes, adding, transposed = (one.literal_value for one in shape)
    vector = VectorType(A.dtype, lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def start(array: Any, value: Any, index: Any, index_type: Any) -> tuple[Any, Any]:
            """Address of the first element, and bytes from row to row."""
            structure = context.make_array(array)(context, builder, value)
            strides = cgutils.unpack_tuple(builder, structure.strides, array.ndim)
            indices = cgutils.unpack_tuple(builder, index, array.ndim)
            return address(context, builder, array, value, indices, index_type), strides[0]

        intp = context.get_value_type(types.intp)
        writer = _Tile(builder, vector, rows, vectors, intp)
        a, a_stride = start(A, args[1], args[2], at_A.types)
        if transposed:
            places = [builder.gep(a, [ir.Constant(intp, row)]) for row in range(rows)]
        else:
            places, a_stride = writer.row_pointers(a, a_stride), None
        b, b_stride = start(B, args[3], args[4], at_B.types)
        c_rows = writer.row_pointers(*start(C, args[5], args[6], at_C.types))
        count = context.cast(builder, args[7], inner, types.intp)
        zero = [ir.Constant(vector.llvm, None)] * vectors
        sums = [writer.load_row(row) if adding else zero for row in c_rows]
        sums = writer.sum_products(sums, places, a_stride, b, b_stride, count)
        for row, values in zip(c_rows, sums, strict=True):
            writer.store_row(row, values)
        return context.get_dummy_value()

    return types.void(shape, A, at_A, B, at_B, C, at_C, inner), codegen


def columns_of_tile(dtype: str, width: int, rows: int) -> tuple[int, int, int]:
    """How `width` columns are divided among tiles of so many rows.

    Returns:
        Lanes of a vector, vectors of a tile, vectors left over for the last tile.
    """
    machine = registers()
    lanes = machine.size // (4 if dtype == "float32" else 8)
    while width % lanes:
        lanes //= 2
    whole = width // lanes
    vectors = min(whole, max(machine.tile // rows, 1))
    return lanes, vectors, whole % vectors


@functools.cache
def product(dtype: str, width: int, add: bool = False) -> Callable[..., None]:
    """Compile `product(A, begin, end, column, inner, B, C, first, target)`.

    Rows `first` … of C, columns `target` … + width, become, or grow by if `add`, rows `begin` …
    `end` of A, columns `column` … + inner, times B (≥ inner, width). `inner` ≥ 1; rows of all three
    are contiguous.
    """
    lanes, vectors, rest = columns_of_tile(dtype, width, _ROWS)
    step, full = vectors * lanes, width - rest * lanes
    adding, rows = int(add), _ROWS

    @compiled
    def kernel(
        A: Any,
        begin: int,
        end: int,
        column: int,
        inner: int,
        B: Any,
        C: Any,
        first: int,
        target: int,
    ) -> None:
        e, to = begin, first
        while e + rows <= end:
            for c in range(0, full, step):
                shape = (rows, vectors, lanes, adding, 0)
                tile(shape, A, (e, column), B, (0, c), C, (to, target + c), inner)
            if rest > 0:
                shape = (rows, rest, lanes, adding, 0)
                tile(shape, A, (e, column), B, (0, full), C, (to, target + full), inner)
            e += rows
            to += rows
        while e < end:
            for c in range(0, full, step):
                shape = (1, vectors, lanes, adding, 0)
                tile(shape, A, (e, column), B, (0, c), C, (to, target + c), inner)
            if rest > 0:
                shape = (1, rest, lanes, adding, 0)
                tile(shape, A, (e, column), B, (0, full), C, (to, target + full), inner)
            e += 1
            to += 1

    return kernel
