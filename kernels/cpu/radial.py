"""Radial bases with their derivatives, and the ZBL term, on the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import (
    divide,
    lanes_for,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    subtract,
)
from duetto.kernels.cpu.wall import zbl_pair


def _series(T: Any) -> Any:
    """π, and the Taylor coefficients of cos and sin(t)/t; |t| ≤ π/2."""
    terms = 8 if T is np.float32 else 13
    table = np.zeros((3, terms), dtype=T)
    table[0, 0] = math.pi
    for k in range(terms):
        table[1, k] = (-1) ** k / math.factorial(2 * k)
        table[2, k] = (-1) ** k / math.factorial(2 * k + 1)
    return table


def _sine_cosine(dtype: str, lanes: int) -> Callable[..., Any]:
    """Compile sin(π x) and cos(π x) of a vector, 0 ≤ x ≤ 1, from Taylor series around ½."""
    T = np.float32 if dtype == "float32" else np.float64
    series = _series(T)
    last = series.shape[1] - 1

    @compiled
    def function(x: Any) -> Any:
        zero = splat(lanes, T(0.0))
        t = multiply(subtract(x, splat(lanes, T(0.5))), splat(lanes, series[0, 0]))
        square = multiply(t, t)
        cosine, sine = splat(lanes, series[1, last]), splat(lanes, series[2, last])
        for k in range(last - 1, -1, -1):
            cosine = multiply_add(cosine, square, splat(lanes, series[1, k]))
            sine = multiply_add(sine, square, splat(lanes, series[2, k]))
        return cosine, subtract(zero, multiply(t, sine))

    return function


def _bessel_block(dtype: str, size: int, p: int, lanes: int) -> Callable[..., None]:
    """Compile the basis of `lanes` edges from edge `e` on; the roots are 1, 2, …."""
    T = np.float32 if dtype == "float32" else np.float64
    sine_cosine = _sine_cosine(dtype, lanes)
    c0, c1, c2 = T((p + 1) * (p + 2) / 2), T(p * (p + 2)), T(p * (p + 1) / 2)
    d0, pi = T(p * (p + 1) * (p + 2) / 2), T(math.pi)

    @compiled
    def block(e: int, scaled: Any, inverses: Any, B: Any, dB: Any) -> None:
        zero, one = splat(lanes, T(0.0)), splat(lanes, T(1.0))
        x, inverse = load(lanes, scaled, (0,)), load(lanes, inverses, (0,))
        lower = one
        for _ in range(p - 1):
            lower = multiply(lower, x)
        polynomial = subtract(splat(lanes, c1), multiply(splat(lanes, c2), x))
        polynomial = subtract(splat(lanes, c0), multiply(x, polynomial))
        cutoff = subtract(one, multiply(multiply(lower, x), polynomial))
        rest = subtract(one, multiply(x, subtract(splat(lanes, T(2.0)), x)))
        slope = multiply(multiply(splat(lanes, -d0), lower), rest)
        reciprocal = divide(one, x)
        value = multiply(reciprocal, splat(lanes, T(1.0) / pi))
        change = subtract(zero, multiply(value, reciprocal))
        sine1, cosine1 = sine_cosine(x)
        sine, cosine = sine1, cosine1
        for b in range(size):
            wave = multiply(sine, value)
            # d/dx of sin(π n x) / (π x): n cos(π n x) / x − sin(π n x) / (π x²)
            steep = multiply(splat(lanes, T(b + 1)), multiply(cosine, reciprocal))
            dwave = multiply_add(sine, change, steep)
            store(B, (b, e), multiply(wave, cutoff))
            total = multiply_add(dwave, cutoff, multiply(wave, slope))
            store(dB, (b, e), multiply(total, inverse))
            following = multiply_add(sine, cosine1, multiply(cosine, sine1))
            cosine = subtract(multiply(cosine, cosine1), multiply(sine, sine1))
            sine = following

    return block


@functools.cache
def bessel(dtype: str, size: int, p: float, integer_roots: bool) -> Callable[..., None]:
    """Compile `bessel(length, pair, inverse_cutoff, roots, B, dB)`.

    Args of the compiled function:
        length: (E,) Å.
        pair: (E,) index of the pair of types.
        inverse_cutoff: (T²,) 1/Å.
        roots: (size,) in units of π; 1, 2, … if `integer_roots`.
        B: (size, E) OUTPUT, the transpose of `kernels.radial.BesselBasis`.
        dB: (size, E) OUTPUT, dB/dr, 1/Å.
    """
    if integer_roots and float(p).is_integer() and p >= 1:
        return _whole_bessel(dtype, size, int(p))
    return _general_bessel(dtype, p)


def _whole_bessel(dtype: str, size: int, p: int) -> Callable[..., None]:
    """Waves by recurrence, many edges at a time."""
    T, lanes = np.float32 if dtype == "float32" else np.float64, lanes_for(dtype, 16)
    many, single = _bessel_block(dtype, size, p, lanes), _bessel_block(dtype, size, p, 1)

    @compiled
    def kernel(length: Any, pair: Any, inverse_cutoff: Any, roots: Any, B: Any, dB: Any) -> None:
        scaled, inverses = np.empty(lanes, dtype=T), np.empty(lanes, dtype=T)
        E = length.shape[0]
        whole = E - E % lanes
        for begin in range(0, whole, lanes):
            for k in range(lanes):
                inverses[k] = inverse_cutoff[pair[begin + k]]
                scaled[k] = min(length[begin + k] * inverses[k], T(1.0))
            many(begin, scaled, inverses, B, dB)
        for e in range(whole, E):
            inverses[0] = inverse_cutoff[pair[e]]
            scaled[0] = min(length[e] * inverses[0], T(1.0))
            single(e, scaled, inverses, B, dB)

    return kernel


def _general_bessel(dtype: str, p: float) -> Callable[..., None]:
    """Trained roots, or a cutoff of any power: one wave at a time."""
    T = np.float32 if dtype == "float32" else np.float64
    c0, c1, c2, d0 = (p + 1) * (p + 2) / 2, p * (p + 2), p * (p + 1) / 2, p * (p + 1) * (p + 2) / 2

    @compiled
    def kernel(length: Any, pair: Any, inverse_cutoff: Any, roots: Any, B: Any, dB: Any) -> None:
        for e in range(length.shape[0]):
            inverse = np.float64(inverse_cutoff[pair[e]])
            x = min(np.float64(length[e]) * inverse, 1.0)
            lower = x ** (p - 1.0)
            cutoff = 1.0 - lower * x * (c0 - x * (c1 - c2 * x))
            slope = -d0 * lower * (1.0 - x * (2.0 - x))
            for b in range(roots.shape[0]):
                k = math.pi * np.float64(roots[b])
                wave = math.sin(k * x) / (math.pi * x)
                dwave = k * math.cos(k * x) / (math.pi * x) - wave / x
                B[b, e] = T(wave * cutoff)
                dB[b, e] = T((dwave * cutoff + wave * slope) * inverse)

    return kernel


@functools.cache
def spline(dtype: str, size: int, span: int) -> Callable[..., None]:
    """Compile `spline(length, pair, inverse_cutoff, roots, B, dB)`, as `bessel`; no roots."""
    T = np.float32 if dtype == "float32" else np.float64
    width = (span + 1) / size

    @compiled
    def kernel(length: Any, pair: Any, inverse_cutoff: Any, roots: Any, B: Any, dB: Any) -> None:
        for e in range(length.shape[0]):
            inverse = np.float64(inverse_cutoff[pair[e]])
            x = np.float64(length[e]) * inverse
            for b in range(size):
                lower = (b - span) / size
                inside = min(max(x, lower), lower + width) - lower
                angle = 2.0 * math.pi / width * inside
                bump = 0.5 * (1.0 - math.cos(angle))
                B[b, e] = T(bump * bump)
                moving = lower < x < lower + width
                rise = 0.5 * math.sin(angle) * 2.0 * math.pi / width * inverse
                dB[b, e] = T(2.0 * bump * rise) if moving else T(0.0)

    return kernel


@compiled
def zbl(
    length: Any,
    pair: Any,
    inverse_cutoff: Any,
    atomic_numbers: Any,
    p: float,
    rows: Any,
    energy: Any,
    gr: Any,
) -> None:
    """Add half the ZBL energy of each edge to its centre, and its slope to gr.

    Double precision throughout; see `wall.zbl_pair`.

    Args:
        length: (E,) Å.
        pair: (E,) index of the pair of types.
        inverse_cutoff: (T²,) 1/Å.
        atomic_numbers: (T,).
        p: exponent of the cutoff.
        rows: (n + 1,) start of each centre's edges.
        energy: (n,) float64, ADDED TO.
        gr: (E,) ADDED TO.
    """
    num_types = atomic_numbers.shape[0]
    for row in range(rows.shape[0] - 1):
        for e in range(rows[row], rows[row + 1]):
            zi = np.float64(atomic_numbers[pair[e] // num_types])
            zj = np.float64(atomic_numbers[pair[e] % num_types])
            r = np.float64(length[e])
            inverse = np.float64(inverse_cutoff[pair[e]])
            found, slope = zbl_pair(r, zi, zj, inverse, p)
            energy[row] += found
            gr[e] += slope
