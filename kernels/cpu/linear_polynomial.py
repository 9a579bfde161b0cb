"""The cubic polynomial of a linear expert and its gradient, one centre to a lane.

The quadratic part comes as a symmetric sparse matrix, whose rows need no memory but the sums.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import (
    add,
    load,
    multiply,
    multiply_add,
    splat,
    store,
)


@functools.cache
def polynomial(dtype: str, lanes: int) -> Callable[..., None]:
    """Compile `polynomial(type, A, linear, quadratic, cubic, energy, G)`.

    Args of the compiled function:
        type: of all centres of the block.
        A: (1, M, lanes) moments.
        linear: c1 (T, M).
        quadratic: first (M + 1,), column (N,) and value (T, N) of the symmetric matrix whose
            product with the moments is the gradient of the quadratic part.
        cubic: pairs (P, 2), first (P + 1,), third factors (Q,) and their coefficients (T, Q).
        energy: (lanes,) OUTPUT, without the shift.
        G: (1, M, lanes) OUTPUT, dE/dA.
    """
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(
        type: int, A: Any, linear: Any, quadratic: Any, cubic: Any, energy: Any, G: Any
    ) -> None:
        first, column, value = quadratic
        half, sums = splat(lanes, T(0.5)), splat(lanes, T(0.0))
        for a in range(A.shape[1]):
            row = splat(lanes, T(0.0))
            for place in range(first[a], first[a + 1]):
                other = load(lanes, A, (0, column[place], 0))
                row = multiply_add(splat(lanes, value[type, place]), other, row)
            single = splat(lanes, linear[type, a])
            sums = multiply_add(load(lanes, A, (0, a, 0)), multiply_add(half, row, single), sums)
            store(G, (0, a, 0), add(row, single))
        pairs, begin, third, factor = cubic
        for p in range(pairs.shape[0]):
            a, b = pairs[p, 0], pairs[p, 1]
            left, right = load(lanes, A, (0, a, 0)), load(lanes, A, (0, b, 0))
            both, inner = multiply(left, right), splat(lanes, T(0.0))
            for place in range(begin[p], begin[p + 1]):
                c, here = third[place], splat(lanes, factor[type, place])
                inner = multiply_add(here, load(lanes, A, (0, c, 0)), inner)
                store(G, (0, c, 0), multiply_add(here, both, load(lanes, G, (0, c, 0))))
            sums = multiply_add(both, inner, sums)
            store(G, (0, a, 0), multiply_add(right, inner, load(lanes, G, (0, a, 0))))
            store(G, (0, b, 0), multiply_add(left, inner, load(lanes, G, (0, b, 0))))
        store(energy, (0,), sums)

    return kernel
