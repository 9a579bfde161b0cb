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

from duetto.kernels.cpu.activation import activate
from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.dense import PANEL
from duetto.kernels.cpu.product import columns_of_tile, product, tile
from duetto.kernels.cpu.vector import (
    lanes_for,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    total,
    totals,
)


def _type(dtype: str) -> Any:
    return np.float32 if dtype == "float32" else np.float64


@functools.cache
def two_body(dtype: str, size: int, width: int, activation: str | None) -> Callable[..., None]:
    """Compile `two_body(B, pair, K1, h, column, slope)`: h = φ(Bᵀ · K1[pair]), B (size, E).

    h (E, any), columns `column` … + width, and slope (E, width) are OUTPUT.
    """
    T, lanes = _type(dtype), lanes_for(dtype, width)
    phi = activate(dtype, activation, width)

    @compiled
    def kernel(B: Any, pair: Any, K1: Any, h: Any, column: int, slope: Any) -> None:
        z = np.empty((PANEL, width), dtype=T)
        for begin in range(0, B.shape[1], PANEL):
            end = min(begin + PANEL, B.shape[1])
            for e in range(begin, end):
                t = pair[e]
                for c in range(0, width, lanes):
                    sums = splat(lanes, T(0.0))
                    for b in range(size):
                        weight = load(lanes, K1, (t, b, c))
                        sums = multiply_add(splat(lanes, B[b, e]), weight, sums)
                    store(z, (e - begin, c), sums)
            phi(z, end - begin, h, begin, column, slope)

    return kernel


@functools.cache
def two_body_adjoint(dtype: str, size: int, width: int) -> Callable[..., None]:
    """Compile `two_body_adjoint(gh, column, slope, dB, pair, K1, gr)`.

    gr (E,) OUTPUT = Σ_b dB_b K1[pair]_b · (gh φ'(z)), with dB (size, E), gh (E, any) from `column`.
    """
    T, lanes = _type(dtype), lanes_for(dtype, width)

    @compiled
    def kernel(gh: Any, column: int, slope: Any, dB: Any, pair: Any, K1: Any, gr: Any) -> None:
        for e in range(dB.shape[1]):
            t = pair[e]
            sums = splat(lanes, T(0.0))
            for c in range(0, width, lanes):
                gz = multiply(load(lanes, gh, (e, column + c)), load(lanes, slope, (e, c)))
                change = splat(lanes, T(0.0))
                for b in range(size):
                    weight = load(lanes, K1, (t, b, c))
                    change = multiply_add(splat(lanes, dB[b, e]), weight, change)
                sums = multiply_add(change, gz, sums)
            gr[e] = total(sums)

    return kernel


@functools.cache
def moments(dtype: str, D: int, width: int) -> Callable[..., None]:
    """Compile `moments(rows, norm, Y, h, column, H)`: H (D, n, width) OUTPUT = norm Σ_j h Y."""
    T = _type(dtype)
    lanes, vectors, rest = columns_of_tile(dtype, width, D)
    step, full = vectors * lanes, width - rest * lanes

    @compiled
    def kernel(rows: Any, norm: Any, Y: Any, h: Any, column: int, H: Any) -> None:
        for row in range(rows.shape[0] - 1):
            begin, inner = rows[row], rows[row + 1] - rows[row]
            if inner == 0:
                H[:, row] = T(0.0)
                continue
            for c in range(0, full, step):
                shape = (D, vectors, lanes, 0, 1)
                tile(shape, Y, (begin, 0), h, (begin, column + c), H, (0, row, c), inner)
            if rest > 0:
                shape = (D, rest, lanes, 0, 1)
                tile(shape, Y, (begin, 0), h, (begin, column + full), H, (0, row, full), inner)
            factor = splat(lanes, norm[row])
            for d in range(D):
                for c in range(0, width, lanes):
                    store(H, (d, row, c), multiply(factor, load(lanes, H, (d, row, c))))

    return kernel


@functools.cache
def moments_adjoint(dtype: str, D: int, width: int) -> Callable[..., None]:
    """Compile `moments_adjoint(rows, norm, Y, h, column, gH, gh, gY)`.

    gh += norm Σ_d Y_d gH_d and gY_d += norm h · gH_d, both ADDED TO; gY as in `padded`.
    """
    T, lanes = _type(dtype), lanes_for(dtype, width)
    add_product = product(dtype, width, True)

    @compiled
    def kernel(
        rows: Any, norm: Any, Y: Any, h: Any, column: int, gH: Any, gh: Any, gY: Any
    ) -> None:
        scaled, products = np.empty((D, width), dtype=T), np.empty((D, lanes), dtype=T)
        for row in range(rows.shape[0] - 1):
            begin, end = rows[row], rows[row + 1]
            factor = splat(lanes, norm[row])
            for d in range(D):
                for c in range(0, width, lanes):
                    store(scaled, (d, c), multiply(factor, load(lanes, gH, (d, row, c))))
            add_product(Y, begin, end, 0, D, scaled, gh, begin, column)
            for e in range(begin, end):
                for d in range(D):
                    here = multiply(load(lanes, h, (e, column)), load(lanes, scaled, (d, 0)))
                    for c in range(lanes, width, lanes):
                        other = load(lanes, scaled, (d, c))
                        here = multiply_add(load(lanes, h, (e, column + c)), other, here)
                    store(products, (d, 0), here)
                totals(D, lanes, products, gY, e, 1)

    return kernel


def padded(D: int) -> int:
    """Columns of the gradient by D harmonics: whole vectors of any length used here."""
    return -(-D // 16) * 16


@functools.cache
def contract(dtype: str, U: int) -> Callable[..., None]:
    """Compile `contract(i, j, k, path, coefficient, weights, A, q, out)`.

    out (n, I, U) OUTPUT: out_i = Σ w[path] c A_j q_k, one product's matrix applied from the left to
    a row vector q (n, K, U), with A (D, n, U).
    """
    T, lanes = _type(dtype), lanes_for(dtype, U)

    @compiled
    def kernel(
        i: Any, j: Any, k: Any, path: Any, coefficient: Any, weights: Any, A: Any, q: Any, out: Any
    ) -> None:
        zero = splat(lanes, T(0.0))
        for row in range(out.shape[0]):
            for component in range(out.shape[1]):
                for u in range(0, U, lanes):
                    store(out, (row, component, u), zero)
            for n in range(i.shape[0]):
                value = splat(lanes, coefficient[n])
                for u in range(0, U, lanes):
                    term = multiply(value, load(lanes, weights, (path[n], u)))
                    term = multiply(term, load(lanes, A, (j[n], row, u)))
                    here = load(lanes, out, (row, i[n], u))
                    term = multiply_add(term, load(lanes, q, (row, k[n], u)), here)
                    store(out, (row, i[n], u), term)

    return kernel


@functools.cache
def contract_adjoint(dtype: str, U: int) -> Callable[..., None]:
    """Compile `contract_adjoint(i, j, k, path, coefficient, weights, A, q, gout, gA, gq)`.

    gA (D, n, U) is ADDED TO; gq (n, K, U) OUTPUT.
    """
    T, lanes = _type(dtype), lanes_for(dtype, U)

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
        zero = splat(lanes, T(0.0))
        for row in range(gout.shape[0]):
            for component in range(gq.shape[1]):
                for u in range(0, U, lanes):
                    store(gq, (row, component, u), zero)
            for n in range(i.shape[0]):
                a, b, c = i[n], j[n], k[n]
                value = splat(lanes, coefficient[n])
                for u in range(0, U, lanes):
                    seed = multiply(value, load(lanes, weights, (path[n], u)))
                    seed = multiply(seed, load(lanes, gout, (row, a, u)))
                    environment = load(lanes, A, (b, row, u))
                    vector = load(lanes, q, (row, c, u))
                    here = load(lanes, gA, (b, row, u))
                    store(gA, (b, row, u), multiply_add(seed, vector, here))
                    here = load(lanes, gq, (row, c, u))
                    store(gq, (row, c, u), multiply_add(seed, environment, here))

    return kernel


@functools.cache
def scalars(dtype: str, l_max: int, U: int) -> Callable[..., None]:
    """Compile `scalars(rows, wV, Y, N, s, column)`.

    s (E, columns), columns `column` … + U OUTPUT: s_u = Σ_l wV_lu Σ_m Y_lm N_lmu, with
    wV (E, R U) and N (n, D, U).
    """
    T, lanes = _type(dtype), lanes_for(dtype, U)
    R = l_max + 1

    @compiled
    def kernel(rows: Any, wV: Any, Y: Any, N: Any, s: Any, column: int) -> None:
        for row in range(rows.shape[0] - 1):
            for e in range(rows[row], rows[row + 1]):
                for u in range(0, U, lanes):
                    sums = splat(lanes, T(0.0))
                    for degree in range(R):
                        inner = splat(lanes, T(0.0))
                        for m in range(degree * degree, (degree + 1) * (degree + 1)):
                            inner = multiply_add(
                                splat(lanes, Y[e, m]), load(lanes, N, (row, m, u)), inner
                            )
                        sums = multiply_add(load(lanes, wV, (e, degree * U + u)), inner, sums)
                    store(s, (e, column + u), sums)

    return kernel


@functools.cache
def scalars_adjoint(dtype: str, l_max: int, U: int, add: bool) -> Callable[..., None]:
    """Compile `scalars_adjoint(rows, wV, Y, N, gs, column, gwV, gY, gN)`.

    gwV (E, R U) and gY, as in `padded`, are ADDED TO, or written unless `add`; gN (n, D, U) OUTPUT.
    """
    T, lanes = _type(dtype), lanes_for(dtype, U)
    R, D, adding = l_max + 1, (l_max + 1) ** 2, int(add)

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
        zero, products = splat(lanes, T(0.0)), np.empty((D, lanes), dtype=T)
        for row in range(rows.shape[0] - 1):
            for m in range(D):
                for u in range(0, U, lanes):
                    store(gN, (row, m, u), zero)
            for e in range(rows[row], rows[row + 1]):
                for u in range(0, U, lanes):
                    outer = load(lanes, gs, (e, column + u))
                    for degree in range(R):
                        seed = multiply(outer, load(lanes, wV, (e, degree * U + u)))
                        inner = zero
                        for m in range(degree * degree, (degree + 1) * (degree + 1)):
                            value = splat(lanes, Y[e, m])
                            functional = load(lanes, N, (row, m, u))
                            inner = multiply_add(value, functional, inner)
                            here = load(lanes, gN, (row, m, u))
                            store(gN, (row, m, u), multiply_add(value, seed, here))
                            so_far = zero if u == 0 else load(lanes, products, (m, 0))
                            store(products, (m, 0), multiply_add(seed, functional, so_far))
                        if adding == 1:
                            here = load(lanes, gwV, (e, degree * U + u))
                            inner = multiply_add(outer, inner, here)
                        else:
                            inner = multiply(outer, inner)
                        store(gwV, (e, degree * U + u), inner)
                totals(D, lanes, products, gY, e, adding)

    return kernel


@functools.cache
def readout(dtype: str, width: int) -> Callable[..., None]:
    """Compile `readout(rows, last, ro, seed, energy)`.

    energy (n,) float64 OUTPUT = Σ_j last · ro. The place of `last` (E, width) is then taken by
    dE/d last = seed_i ro, with which the adjoint starts. `seed` (n,) is dE/d(Σ_j e_ij).
    """
    T, lanes = _type(dtype), lanes_for(dtype, width)

    @compiled
    def kernel(rows: Any, last: Any, ro: Any, seed: Any, energy: Any) -> None:
        for row in range(rows.shape[0] - 1):
            summed = 0.0
            factor = splat(lanes, seed[row])
            for e in range(rows[row], rows[row + 1]):
                edge = splat(lanes, T(0.0))
                for c in range(0, width, lanes):
                    weight = load(lanes, ro, (c,))
                    edge = multiply_add(load(lanes, last, (e, c)), weight, edge)
                    store(last, (e, c), multiply(factor, weight))
                summed += total(edge)
            energy[row] = summed

    return kernel
