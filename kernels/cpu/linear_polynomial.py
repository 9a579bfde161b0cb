"""The cubic polynomial of a linear expert and its gradient, one centre to a lane.

Products of two moments are rotation-invariant, so that both have the same degree and component, and
one coefficient serves all components of a degree: the quadratic part is a small dense matrix for
each degree. The cubic part comes as its gradient's sparse rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import add, load, multiply, multiply_add, splat, store


@functools.cache
def degree(
    dtype: str, lanes: int, species: int, per_species: int, begin: int, size: int, components: int
) -> Callable[..., None]:
    """Compile `degree(A, single, C, sums, G)`: the moments of one degree.

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
        sums: (lanes,) the energy, ADDED TO.
        G: (1, M, lanes) OUTPUT, dE/dA of this degree.
    """
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(A: Any, single: Any, C: Any, sums: Any, G: Any) -> None:
        half, energy = splat(lanes, T(0.5)), load(lanes, sums, (0,))
        for s in range(species):
            for n in range(size):
                first = s * per_species + begin + n * components
                for m in range(components):
                    row = splat(lanes, T(0.0))
                    for other in range(species):
                        for k in range(size):
                            at = other * per_species + begin + k * components + m
                            factor = splat(lanes, C[s * size + n, other * size + k])
                            row = multiply_add(factor, load(lanes, A, (0, at, 0)), row)
                    own, alone = load(lanes, A, (0, first + m, 0)), splat(lanes, single[first + m])
                    energy = multiply_add(own, multiply_add(half, row, alone), energy)
                    store(G, (0, first + m, 0), add(row, alone))
        store(sums, (0,), energy)

    return kernel


@functools.cache
def cubic(dtype: str, lanes: int) -> Callable[..., None]:
    """Compile `cubic(type, A, rows, sums, G)`: k_a = Σ_bc K_abc A_b A_c is added to G_a.

    Args of the compiled function:
        type: of all centres of the block.
        A: (1, M, lanes) moments.
        rows: moments a (R,) that are in any product, where the entries of each begin (R + 1,),
            their factors (N, 2) and values (T, N).
        sums: (lanes,) the energy, of which the cubic part is Σ_a A_a k_a / 3, ADDED TO.
        G: (1, M, lanes), ADDED TO.
    """
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(type: int, A: Any, rows: Any, sums: Any, G: Any) -> None:
        moments, begin, factors, values = rows
        third, energy = splat(lanes, T(1.0 / 3.0)), load(lanes, sums, (0,))
        for r in range(moments.shape[0]):
            a, k = moments[r], splat(lanes, T(0.0))
            for place in range(begin[r], begin[r + 1]):
                left = load(lanes, A, (0, factors[place, 0], 0))
                right = load(lanes, A, (0, factors[place, 1], 0))
                k = multiply_add(multiply(splat(lanes, values[type, place]), left), right, k)
            energy = multiply_add(multiply(third, load(lanes, A, (0, a, 0))), k, energy)
            store(G, (0, a, 0), add(load(lanes, G, (0, a, 0)), k))
        store(sums, (0,), energy)

    return kernel


@functools.cache
def polynomial(
    dtype: str, lanes: int, species: int, radials: tuple[int, ...]
) -> Callable[..., None]:
    """Compile `polynomial(type, A, linear, quadratic, cubic, energy, G)`.

    Args of the compiled function:
        type: of all centres of the block.
        A: (1, M, lanes) moments.
        linear: c1 (T, M).
        quadratic: by degree, (T, V, V), see `degree`.
        cubic: see `cubic`.
        energy: (lanes,) OUTPUT, without the shift.
        G: (1, M, lanes) OUTPUT, dE/dA.
    """
    sizes = (*radials, 0, 0, 0)[:4]
    borders = list(accumulate((n * (2 * k + 1) for k, n in enumerate(sizes)), initial=0))
    parts = [
        degree(dtype, lanes, species, borders[-1], borders[k], sizes[k], 2 * k + 1)
        for k in range(4)
    ]
    scalar, vector, tensor, third = parts
    degrees, products = len(radials), cubic(dtype, lanes)

    @compiled
    def kernel(
        type: int, A: Any, linear: Any, quadratic: Any, cubic: Any, energy: Any, G: Any
    ) -> None:
        energy[:] = 0.0
        single = linear[type]
        scalar(A, single, quadratic[0][type], energy, G)
        if degrees > 1:
            vector(A, single, quadratic[1][type], energy, G)
        if degrees > 2:
            tensor(A, single, quadratic[2][type], energy, G)
        if degrees > 3:
            third(A, single, quadratic[3][type], energy, G)
        products(type, A, cubic, energy, G)

    return kernel
