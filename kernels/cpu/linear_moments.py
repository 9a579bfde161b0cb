"""Moments of a block of centres and their adjoint: one centre to a lane of a vector register.

The k-th neighbors of all the block's centres make one vector, so that nothing is ever summed across
lanes; a lane with fewer neighbors than the others has its last ones beyond the cutoff.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from duetto.kernels.cpu.product import registers
from duetto.kernels.cpu.vector import VectorType, address, fused_multiply_add

Moment = tuple[int, int, int]


def moments_of(radials: tuple[int, ...]) -> Iterator[Moment]:
    """Radial function, harmonic and place of every moment, in the order of `MomentLayout`."""
    place = 0
    for degree, count in enumerate(radials):
        for n in range(count):
            for d in range(degree * degree, (degree + 1) * (degree + 1)):
                yield n, d, place
                place += 1


class _Vectors:
    """Vectors of a contiguous array (any, width, lanes), of one row."""

    def __init__(
        self, context: Any, builder: Any, array: types.Array, value: Any, row: Any, column: Any
    ) -> None:
        """From the element at row and column, LLVM integers, on."""
        self.builder = builder
        self.vector = VectorType(array.dtype, 1)
        self.intp = context.get_value_type(types.intp)
        self.align = array.dtype.bitwidth // 8
        indices = [row, column, ir.Constant(self.intp, 0)]
        self.pointer = address(context, builder, array, value, indices, (types.intp,) * 3)
        structure = context.make_array(array)(context, builder, value)
        self.stride = cgutils.unpack_tuple(builder, structure.strides, array.ndim)[0]

    def _place(self, vector: VectorType, column: int) -> Any:
        offset = ir.Constant(self.intp, column * vector.lanes)
        place = self.builder.gep(self.pointer, [offset])
        return self.builder.bitcast(place, vector.llvm.as_pointer())

    def load(self, vector: VectorType, column: int) -> Any:
        """The vector in a column."""
        return self.builder.load(self._place(vector, column), align=self.align)

    def store(self, vector: VectorType, column: int, value: Any) -> None:
        """Write the vector of a column."""
        self.builder.store(value, self._place(vector, column), align=self.align)


@intrinsic(prefer_literal=True)
def sum_moments(
    typingctx: Any, radials: Any, lanes: Any, R: Any, Y: Any, count: Any, A: Any, at: Any
) -> Any:
    """A[0, at + p] = Σ_{k < count} R[k, n_p] Y[k, d_p] for every moment p of one species.

    `radials` (radial functions of each degree) and `lanes` are literals, `count` ≥ 1; R (any, B,
    lanes), Y (any, D, lanes) and A (1, M, lanes) are contiguous. The sums run in the order of k.
    """
    counts = tuple(one.literal_value for one in radials)
    vector = VectorType(R.dtype, lanes.literal_value)
    most = registers().tile

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        intp = context.get_value_type(types.intp)
        zero, one = ir.Constant(intp, 0), ir.Constant(intp, 1)
        total = context.cast(builder, args[4], count, types.intp)
        offset = context.cast(builder, args[6], at, types.intp)
        target = _Vectors(context, builder, A, args[5], zero, offset)
        moments = list(moments_of(counts))
        # As many sums as there are registers beside those of their factors.
        for begin in range(0, len(moments), most):
            tile = moments[begin : begin + most]
            before, body = builder.block, builder.append_basic_block("moments")
            builder.branch(body)
            builder.position_at_end(body)
            k = builder.phi(intp)
            sums = [builder.phi(vector.llvm) for _ in tile]
            radial = _Vectors(context, builder, R, args[2], k, zero)
            harmonic = _Vectors(context, builder, Y, args[3], k, zero)
            following = []
            for (n, d, _), here in zip(tile, sums, strict=True):
                left, right = radial.load(vector, n), harmonic.load(vector, d)
                following.append(fused_multiply_add(builder, vector, left, right, here))
            next_k = builder.add(k, one)
            after = builder.append_basic_block("moments.done")
            builder.cbranch(builder.icmp_signed("<", next_k, total), body, after)
            _carry(k, before, zero, body, next_k)
            for phi, value in zip(sums, following, strict=True):
                _carry(phi, before, ir.Constant(vector.llvm, None), body, value)
            builder.position_at_end(after)
            for (_, _, place), value in zip(tile, following, strict=True):
                target.store(vector, place, value)
        return context.get_dummy_value()

    return types.void(radials, lanes, R, Y, count, A, at), codegen


def _carry(phi: Any, before: Any, first: Any, body: Any, following: Any) -> None:
    phi.add_incoming(first, before)
    phi.add_incoming(following, body)


def _plus_product(builder: Any, vector: VectorType, a: Any, b: Any, total: Any) -> Any:
    """`total` + a · b, or the product alone where there is no total yet."""
    return builder.fmul(a, b) if total is None else fused_multiply_add(builder, vector, a, b, total)


@intrinsic(prefer_literal=True)
def moments_adjoint(
    typingctx: Any,
    radials: Any,
    lanes: Any,
    R: Any,
    dR: Any,
    Y: Any,
    k: Any,
    G: Any,
    at: Any,
    gY: Any,
) -> Any:
    """From G = dE/dA to dE/dY and dE/dr of the k-th neighbors.

    gY[0, d] OUTPUT = Σ_n R[k, n] G[0, at + (n, d)] for every harmonic d but the constant one, and
    the value is Σ_{n, d} dR[k, n] Y[k, d] G[0, at + (n, d)]. Arrays as in `sum_moments`.
    """
    counts = tuple(one.literal_value for one in radials)
    vector = VectorType(R.dtype, lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        intp = context.get_value_type(types.intp)
        zero = ir.Constant(intp, 0)
        number = context.cast(builder, args[5], k, types.intp)
        offset = context.cast(builder, args[7], at, types.intp)
        radial = _Vectors(context, builder, R, args[2], number, zero)
        slope = _Vectors(context, builder, dR, args[3], number, zero)
        harmonic = _Vectors(context, builder, Y, args[4], number, zero)
        gradient = _Vectors(context, builder, G, args[6], zero, offset)
        target = _Vectors(context, builder, gY, args[8], zero, zero)
        by_harmonic: dict[int, list[tuple[int, int]]] = {}
        for n, d, place in moments_of(counts):
            by_harmonic.setdefault(d, []).append((n, place))
        # Loaded before anything is stored: LLVM cannot know that the arrays do not overlap, and
        # would load them again after every store.
        values = [radial.load(vector, n) for n in range(max(counts))]
        slopes = [slope.load(vector, n) for n in range(max(counts))]
        # Three sums in turns, so that an addition need not wait for the one before.
        results = [ir.Constant(vector.llvm, None)] * 3
        across = {}
        for d, moments in by_harmonic.items():
            along = sums = None
            for n, place in moments:
                here = gradient.load(vector, place)
                along = _plus_product(builder, vector, slopes[n], here, along)
                if d > 0:
                    sums = _plus_product(builder, vector, values[n], here, sums)
            turn = d % 3
            results[turn] = _plus_product(
                builder, vector, harmonic.load(vector, d), along, results[turn]
            )
            across[d] = sums
        for d in range(1, len(across)):
            target.store(vector, d, across[d])
        return builder.fadd(builder.fadd(results[0], results[1]), results[2])

    return vector(radials, lanes, R, dR, Y, k, G, at, gY), codegen
