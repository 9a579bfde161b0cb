"""The cubic polynomial of a linear expert and its gradient, one centre to a lane.

Products of two moments are rotation-invariant, so that both have the same degree and component, and
one coefficient serves all components of a degree: the quadratic part is a small dense matrix for
each degree. The cubic part comes as its gradient's sparse rows.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from duetto.kernels.cpu.uncounted import uncounted
from duetto.kernels.cpu.vector import (
    VectorType,
    add,
    fused_multiply_add,
    load,
    multiply,
    multiply_add,
    splat,
    spread,
    store,
)


@intrinsic(prefer_literal=True)
def none_yet(typingctx: Any, components: Any, lanes: Any, A: Any) -> Any:
    """A tuple of as many vectors as there are components (a literal), zero, of A's type."""
    sums = types.UniTuple(VectorType(A.dtype, lanes.literal_value), components.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant_null(signature.return_type)

    return sums(components, lanes, A), codegen


@intrinsic
def plus_scaled(typingctx: Any, sums: Any, factor: Any, A: Any, at: Any) -> Any:
    """sums[m] + factor · A[0, at + m] for every component m of the tuple `sums`."""
    vector = sums.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale = spread(builder, vector, args[1])
        found = []
        for m, here in enumerate(cgutils.unpack_tuple(builder, args[0], sums.count)):
            value = builder.load(_component(context, builder, A, args[2], at, args[3], m, vector))
            value.align = A.dtype.bitwidth // 8
            found.append(fused_multiply_add(builder, vector, scale, value, here))
        return context.make_tuple(builder, signature.return_type, found)

    return sums(sums, factor, A, at), codegen


@intrinsic
def gradient_and_energy(typingctx: Any, rows: Any, single: Any, A: Any, at: Any, G: Any) -> Any:
    """G[0, at + m] = rows[m] + single[at + m]; the value is Σ_m A[0, at + m] (½ rows + single)."""
    vector = rows.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        align, energy = A.dtype.bitwidth // 8, ir.Constant(vector.llvm, None)
        half = ir.Constant(vector.llvm, [0.5] * vector.lanes)
        unpacked = list(enumerate(cgutils.unpack_tuple(builder, args[0], rows.count)))
        stored = []
        for m, row in unpacked:
            data = context.make_array(single)(context, builder, args[1]).data
            first = builder.gep(data, [context.cast(builder, args[3], at, types.intp)])
            number = builder.load(builder.gep(first, [_number(context, m)]), align=align)
            alone = spread(builder, vector, number)
            place = _component(context, builder, A, args[2], at, args[3], m, vector)
            own = builder.load(place, align=align)
            share = fused_multiply_add(builder, vector, half, row, alone)
            energy = fused_multiply_add(builder, vector, own, share, energy)
            stored.append(builder.fadd(row, alone))
        for m, value in enumerate(stored):
            place = _component(context, builder, G, args[4], at, args[3], m, vector)
            builder.store(value, place, align=align)
        return energy

    return vector(rows, single, A, at, G), codegen


def _number(context: Any, value: int) -> Any:
    return ir.Constant(context.get_value_type(types.intp), value)


def _component(
    context: Any, builder: Any, array: Any, value: Any, at: Any, given: Any, m: int, vector: Any
) -> Any:
    """Pointer to the vector array[0, given + m] of a contiguous array.

    One address serves all components: the strides are numbers here, not read from the array.
    """
    data = context.make_array(array)(context, builder, value).data
    column = context.cast(builder, given, at, types.intp)
    first = builder.gep(data, [builder.mul(column, _number(context, vector.lanes))])
    pointer = builder.gep(first, [_number(context, m * vector.lanes)])
    return builder.bitcast(pointer, vector.llvm.as_pointer())


@functools.cache
def degree(
    dtype: str, lanes: int, species: int, per_species: int, begin: int, size: int, components: int
) -> Callable[..., None]:
    """Compile `degree(A, single, C, there, sums, G)`: the moments of one degree.

    Args:
        dtype, lanes: of the vectors.
        species: S. per_species: moments of one of them.
        begin: where the degree's moments begin among them.
        size: its radial functions. components: 2 l + 1.

    Args of the compiled function:
        A: (1, M, lanes) moments.
        single: (M,) c1.
        C: (S size, S size) symmetric: the gradient's quadratic part is C times the moments of each
            component.
        there: (S,) neighbors of each species; the moments of one that has none are zero, and
            nobody asks for their gradient.
        sums: (lanes,) the energy, ADDED TO.
        G: (1, M, lanes) OUTPUT, dE/dA of this degree for the species that are there.
    """

    @uncounted
    def kernel(A: Any, single: Any, C: Any, there: Any, sums: Any, G: Any) -> None:
        energy = load(lanes, sums, (0,))
        for s in range(species):
            if there[s] == 0:
                continue
            for n in range(size):
                rows = none_yet(components, lanes, A)
                for other in range(species):
                    if there[other] == 0:
                        continue
                    first = other * per_species + begin
                    for k in range(size):
                        factor = C[s * size + n, other * size + k]
                        rows = plus_scaled(rows, factor, A, first + k * components)
                own = s * per_species + begin + n * components
                energy = add(energy, gradient_and_energy(rows, single, A, own, G))
        store(sums, (0,), energy)

    return kernel


@functools.cache
def cubic(dtype: str, lanes: int) -> Callable[..., None]:
    """Compile `cubic(type, A, rows, products, sums, G)`: k_a = Σ_bc K_abc A_b A_c, added to G_a.

    Args of the compiled function:
        type: of all centres of the block.
        A: (1, M, lanes) moments.
        rows: moments a (R,) that are in any product, where the entries of each begin (R + 1,), the
            pairs of factors (P, 2) that occur, the pair of each entry (N,) and its values (T, N).
        products: (1, P, lanes) scratch, the products of the pairs.
        sums: (lanes,) the energy, of which the cubic part is Σ_a A_a k_a / 3, ADDED TO.
        G: (1, M, lanes), ADDED TO.
    """
    T = np.float32 if dtype == "float32" else np.float64

    @uncounted
    def kernel(type: int, A: Any, rows: Any, products: Any, sums: Any, G: Any) -> None:
        moments, begin, pairs, entries, values = rows
        for p in range(pairs.shape[0]):
            left, right = load(lanes, A, (0, pairs[p, 0], 0)), load(lanes, A, (0, pairs[p, 1], 0))
            store(products, (0, p, 0), multiply(left, right))
        third, energy = splat(lanes, T(1.0 / 3.0)), load(lanes, sums, (0,))
        own_values = values[type]
        for r in range(moments.shape[0]):
            # Two sums, so that an addition need not wait for the one before.
            a, k, other = moments[r], splat(lanes, T(0.0)), splat(lanes, T(0.0))
            last = begin[r + 1]
            for place in range(begin[r], last - 1, 2):
                value, following = (
                    splat(lanes, own_values[place]),
                    splat(lanes, own_values[place + 1]),
                )
                k = multiply_add(value, load(lanes, products, (0, entries[place], 0)), k)
                product = load(lanes, products, (0, entries[place + 1], 0))
                other = multiply_add(following, product, other)
            if (last - begin[r]) % 2:
                product = load(lanes, products, (0, entries[last - 1], 0))
                k = multiply_add(splat(lanes, own_values[last - 1]), product, k)
            k = add(k, other)
            energy = multiply_add(multiply(third, load(lanes, A, (0, a, 0))), k, energy)
            store(G, (0, a, 0), add(load(lanes, G, (0, a, 0)), k))
        store(sums, (0,), energy)

    return kernel


@functools.cache
def polynomial(
    dtype: str, lanes: int, species: int, radials: tuple[int, ...]
) -> Callable[..., None]:
    """Compile `polynomial(type, A, linear, quadratic, cubic, products, there, energy, G)`.

    Args of the compiled function:
        type: of all centres of the block.
        A: (1, M, lanes) moments.
        linear: c1 (T, M).
        quadratic: by degree, (T, V, V), see `degree`.
        cubic, products: see `cubic`.
        there: (S,) see `degree`.
        energy: (lanes,) OUTPUT, without the shift.
        G: (1, M, lanes) OUTPUT, dE/dA, of the species that are there.
    """
    sizes = (*radials, 0, 0, 0)[:4]
    borders = list(accumulate((n * (2 * k + 1) for k, n in enumerate(sizes)), initial=0))
    parts = [
        degree(dtype, lanes, species, borders[-1], borders[k], sizes[k], 2 * k + 1)
        for k in range(4)
    ]
    scalar, vector, tensor, third = parts
    degrees, third_order = len(radials), cubic(dtype, lanes)

    @uncounted
    def kernel(
        type: int,
        A: Any,
        linear: Any,
        quadratic: Any,
        cubic: Any,
        products: Any,
        there: Any,
        energy: Any,
        G: Any,
    ) -> None:
        energy[:] = 0.0
        single = linear[type]
        scalar(A, single, quadratic[0][type], there, energy, G)
        if degrees > 1:
            vector(A, single, quadratic[1][type], there, energy, G)
        if degrees > 2:
            tensor(A, single, quadratic[2][type], there, energy, G)
        if degrees > 3:
            third(A, single, quadratic[3][type], there, energy, G)
        third_order(type, A, cubic, products, energy, G)

    return kernel
