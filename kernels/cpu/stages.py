"""The stages of the folded form between its matrix products, forward and adjoint.

Letters as in `duetto.kernels.folded`; n centres and E edges in the chunk; `rows` (n + 1,) is the
start of each centre's edges. `h` and `gh` are (E, columns) blocks that hold all hidden vectors side
by side; `column` is where the one at hand begins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled


def _type(dtype: str) -> Any:
    return np.float32 if dtype == "float32" else np.float64


@functools.cache
def two_body(dtype: str, size: int, width: int) -> Callable[..., None]:
    """Compile `two_body(B, pair, K1, z)`: z (E, width) OUTPUT = B · K1[pair]."""
    T = _type(dtype)

    @compiled
    def kernel(B: Any, pair: Any, K1: Any, z: Any) -> None:
        for e in range(B.shape[0]):
            matrix = K1[pair[e]]
            for c in range(width):
                z[e, c] = T(0.0)
            for b in range(size):
                value = B[e, b]
                for c in range(width):
                    z[e, c] += value * matrix[b, c]

    return kernel


@functools.cache
def two_body_adjoint(dtype: str, size: int, width: int) -> Callable[..., None]:
    """Compile `two_body_adjoint(dB, pair, K1, gz, gr)`: gr (E,) OUTPUT = Σ_b dB_b K1[pair]_b · gz."""
    T = _type(dtype)

    @compiled
    def kernel(dB: Any, pair: Any, K1: Any, gz: Any, gr: Any) -> None:
        slope = np.empty(width, dtype=T)
        for e in range(dB.shape[0]):
            matrix = K1[pair[e]]
            for c in range(width):
                slope[c] = T(0.0)
            for b in range(size):
                value = dB[e, b]
                for c in range(width):
                    slope[c] += value * matrix[b, c]
            total = T(0.0)
            for c in range(width):
                total += slope[c] * gz[e, c]
            gr[e] = total

    return kernel


@functools.cache
def moments(dtype: str, D: int, width: int) -> Callable[..., None]:
    """Compile `moments(rows, norm, Y, h, column, H)`: H (D, n, width) OUTPUT = norm Σ_j h Y."""
    T = _type(dtype)

    @compiled
    def kernel(rows: Any, norm: Any, Y: Any, h: Any, column: int, H: Any) -> None:
        sums = np.empty((D, width), dtype=T)
        for row in range(rows.shape[0] - 1):
            for d in range(D):
                for c in range(width):
                    sums[d, c] = T(0.0)
            for e in range(rows[row], rows[row + 1]):
                for d in range(D):
                    value = Y[e, d]
                    for c in range(width):
                        sums[d, c] += value * h[e, column + c]
            factor = norm[row]
            for d in range(D):
                for c in range(width):
                    H[d, row, c] = factor * sums[d, c]

    return kernel


@functools.cache
def moments_adjoint(dtype: str, D: int, width: int) -> Callable[..., None]:
    """Compile `moments_adjoint(rows, norm, Y, h, column, gH, gh, gY)`.

    gh += norm Σ_d Y_d gH_d and gY_d += norm h · gH_d, both ADDED TO.
    """
    T = _type(dtype)

    @compiled
    def kernel(
        rows: Any, norm: Any, Y: Any, h: Any, column: int, gH: Any, gh: Any, gY: Any
    ) -> None:
        scaled = np.empty((D, width), dtype=T)
        for row in range(rows.shape[0] - 1):
            factor = norm[row]
            for d in range(D):
                for c in range(width):
                    scaled[d, c] = factor * gH[d, row, c]
            for e in range(rows[row], rows[row + 1]):
                for d in range(D):
                    value = Y[e, d]
                    total = T(0.0)
                    for c in range(width):
                        gh[e, column + c] += value * scaled[d, c]
                        total += h[e, column + c] * scaled[d, c]
                    gY[e, d] += total

    return kernel


@functools.cache
def contract(dtype: str, U: int) -> Callable[..., None]:
    """Compile `contract(i, j, k, path, coefficient, weights, A, q, out)`.

    out (n, I, U) OUTPUT: out_i = Σ w[path] c A_j q_k, one product's matrix applied from the left to
    a row vector q (n, K, U), with A (D, n, U).
    """
    T = _type(dtype)

    @compiled
    def kernel(
        i: Any, j: Any, k: Any, path: Any, coefficient: Any, weights: Any, A: Any, q: Any, out: Any
    ) -> None:
        for row in range(out.shape[0]):
            for component in range(out.shape[1]):
                for u in range(U):
                    out[row, component, u] = T(0.0)
            for n in range(i.shape[0]):
                a, b, c, w = i[n], j[n], k[n], path[n]
                value = coefficient[n]
                for u in range(U):
                    out[row, a, u] += value * weights[w, u] * A[b, row, u] * q[row, c, u]

    return kernel


@functools.cache
def contract_adjoint(dtype: str, U: int) -> Callable[..., None]:
    """Compile `contract_adjoint(i, j, k, path, coefficient, weights, A, q, gout, gA, gq)`.

    gA (D, n, U) is ADDED TO; gq (n, K, U) OUTPUT.
    """
    T = _type(dtype)

    @compiled
    def kernel(
        i: Any,
        j: Any,
        k: Any,
        path: Any,
        coefficient: Any,
        weights: Any,
        A: Any,
        q: Any,
        gout: Any,
        gA: Any,
        gq: Any,
    ) -> None:
        for row in range(gout.shape[0]):
            for component in range(gq.shape[1]):
                for u in range(U):
                    gq[row, component, u] = T(0.0)
            for n in range(i.shape[0]):
                a, b, c, w = i[n], j[n], k[n], path[n]
                value = coefficient[n]
                for u in range(U):
                    seed = value * weights[w, u] * gout[row, a, u]
                    gA[b, row, u] += seed * q[row, c, u]
                    gq[row, c, u] += seed * A[b, row, u]

    return kernel


@functools.cache
def scalars(dtype: str, l_max: int, U: int) -> Callable[..., None]:
    """Compile `scalars(rows, wV, Y, N, s, column)`.

    s (E, columns), columns `column` … + U OUTPUT: s_u = Σ_l wV_lu Σ_m Y_lm N_lmu, with
    wV (E, R U) and N (n, D, U).
    """
    T = _type(dtype)
    R = l_max + 1

    @compiled
    def kernel(rows: Any, wV: Any, Y: Any, N: Any, s: Any, column: int) -> None:
        for row in range(rows.shape[0] - 1):
            for e in range(rows[row], rows[row + 1]):
                for u in range(U):
                    total = T(0.0)
                    for degree in range(R):
                        inner = T(0.0)
                        for m in range(degree * degree, (degree + 1) * (degree + 1)):
                            inner += Y[e, m] * N[row, m, u]
                        total += wV[e, degree * U + u] * inner
                    s[e, column + u] = total

    return kernel


@functools.cache
def scalars_adjoint(dtype: str, l_max: int, U: int) -> Callable[..., None]:
    """Compile `scalars_adjoint(rows, wV, Y, N, gs, column, gwV, gY, gN)`.

    gwV (E, R U) and gY (E, D) are ADDED TO; gN (n, D, U) OUTPUT.
    """
    T = _type(dtype)
    R, D = l_max + 1, (l_max + 1) ** 2

    @compiled
    def kernel(
        rows: Any,
        wV: Any,
        Y: Any,
        N: Any,
        gs: Any,
        column: int,
        gwV: Any,
        gY: Any,
        gN: Any,
    ) -> None:
        sums = np.empty((D, U), dtype=T)
        seed = np.empty(U, dtype=T)
        inner = np.empty(U, dtype=T)
        for row in range(rows.shape[0] - 1):
            for m in range(D):
                for u in range(U):
                    sums[m, u] = T(0.0)
            for e in range(rows[row], rows[row + 1]):
                for degree in range(R):
                    for u in range(U):
                        seed[u] = gs[e, column + u] * wV[e, degree * U + u]
                        inner[u] = T(0.0)
                    for m in range(degree * degree, (degree + 1) * (degree + 1)):
                        value = Y[e, m]
                        total = T(0.0)
                        for u in range(U):
                            functional = N[row, m, u]
                            inner[u] += value * functional
                            sums[m, u] += value * seed[u]
                            total += seed[u] * functional
                        gY[e, m] += total
                    for u in range(U):
                        gwV[e, degree * U + u] += gs[e, column + u] * inner[u]
            for m in range(D):
                for u in range(U):
                    gN[row, m, u] = sums[m, u]

    return kernel


@functools.cache
def readout(dtype: str, width: int) -> Callable[..., None]:
    """Compile `readout(rows, last, slope, ro, seed, energy, gz)`.

    energy (n,) float64 OUTPUT = Σ_j last · ro, and gz (E, width) OUTPUT = seed_i ro φ'(z): the
    adjoint starts where the energy ends. `seed` (n,) is dE/d(Σ_j e_ij).
    """
    T = _type(dtype)

    @compiled
    def kernel(rows: Any, last: Any, slope: Any, ro: Any, seed: Any, energy: Any, gz: Any) -> None:
        for row in range(rows.shape[0] - 1):
            total = 0.0
            factor = seed[row]
            for e in range(rows[row], rows[row + 1]):
                edge = T(0.0)
                for c in range(width):
                    edge += last[e, c] * ro[c]
                    gz[e, c] = factor * ro[c] * slope[e, c]
                total += edge
            energy[row] = total

    return kernel
