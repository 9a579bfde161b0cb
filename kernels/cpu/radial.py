"""Radial bases with their derivatives, and the ZBL term, on the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled


@compiled
def _sine_cosine(x: Any, half: Any, coefficients: Any) -> Any:
    """sin(π x) and cos(π x) for 0 ≤ x ≤ 1, from Taylor series around ½."""
    t = (x - half) * coefficients[0, 0]
    square = t * t
    cosine, sine = coefficients[1, -1], coefficients[2, -1]
    for k in range(coefficients.shape[1] - 2, -1, -1):
        cosine = cosine * square + coefficients[1, k]
        sine = sine * square + coefficients[2, k]
    return cosine, -t * sine


def _series(T: Any) -> Any:
    """π, and the Taylor coefficients of cos and sin(t)/t; |t| ≤ π/2."""
    terms = 8 if T is np.float32 else 13
    table = np.zeros((3, terms), dtype=T)
    table[0, 0] = math.pi
    for k in range(terms):
        table[1, k] = (-1) ** k / math.factorial(2 * k)
        table[2, k] = (-1) ** k / math.factorial(2 * k + 1)
    return table


@functools.cache
def bessel(dtype: str, size: int, p: float, integer_roots: bool) -> Callable[..., None]:
    """Compile `bessel(length, pair, inverse_cutoff, roots, B, dB)`.

    Args of the compiled function:
        length: (E,) Å.
        pair: (E,) index of the pair of types.
        inverse_cutoff: (T²,) 1/Å.
        roots: (size,) in units of π; 1, 2, … if `integer_roots`.
        B: (E, size) OUTPUT, as `kernels.radial.BesselBasis`.
        dB: (E, size) OUTPUT, dB/dr, 1/Å.
    """
    T = np.float32 if dtype == "float32" else np.float64
    series = _series(T)
    pi, one, half = T(math.pi), T(1.0), T(0.5)
    c0, c1, c2 = T((p + 1) * (p + 2) / 2), T(p * (p + 2)), T(p * (p + 1) / 2)
    d0 = T(p * (p + 1) * (p + 2) / 2)
    two, power, whole = T(2.0), int(p) - 1, float(p).is_integer()
    exponent = T(p - 1)

    @compiled
    def kernel(length: Any, pair: Any, inverse_cutoff: Any, roots: Any, B: Any, dB: Any) -> None:
        for e in range(length.shape[0]):
            inverse = inverse_cutoff[pair[e]]
            x = min(length[e] * inverse, one)
            if whole:
                lower = one
                for _ in range(power):
                    lower = lower * x
            else:
                lower = T(x**exponent)
            xp = lower * x
            cutoff = one - xp * (c0 - x * (c1 - c2 * x))
            slope = -d0 * lower * (one - x * (two - x))
            value = one / (pi * x)
            change = -value / x
            sine1, cosine1 = _sine_cosine(x, half, series)
            sine, cosine = sine1, cosine1
            for b in range(size):
                if not integer_roots:
                    sine = T(math.sin(pi * roots[b] * x))
                    cosine = T(math.cos(pi * roots[b] * x))
                wave = sine * value
                dwave = pi * roots[b] * cosine * value + sine * change
                B[e, b] = wave * cutoff
                dB[e, b] = (dwave * cutoff + wave * slope) * inverse
                if integer_roots:
                    sine, cosine = (
                        sine * cosine1 + cosine * sine1,
                        cosine * cosine1 - sine * sine1,
                    )

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
                B[e, b] = T(bump * bump)
                moving = lower < x < lower + width
                rise = 0.5 * math.sin(angle) * 2.0 * math.pi / width * inverse
                dB[e, b] = T(2.0 * bump * rise) if moving else T(0.0)

    return kernel


@compiled
def zbl(
    length: Any,
    pair: Any,
    inverse_cutoff: Any,
    atomic_numbers: Any,
    p: float,
    rows: Any,
    weight: Any,
    energy: Any,
    gr: Any,
) -> None:
    """Add half the ZBL energy of each edge to its centre, and its weighted slope to gr.

    Double precision throughout; constants as in `kernels.folded.zbl_edge_energies`.

    Args:
        length: (E,) Å.
        pair: (E,) index of the pair of types.
        inverse_cutoff: (T²,) 1/Å.
        atomic_numbers: (T,).
        p: exponent of the cutoff.
        rows: (n + 1,) start of each centre's edges.
        weight: (n,) weight of each centre.
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
            k = (zi**0.23 + zj**0.23) / 0.46850
            first = 0.02817 * math.exp(-0.20162 * k * r)
            second = 0.28022 * math.exp(-0.40290 * k * r)
            third = 0.50986 * math.exp(-0.94229 * k * r)
            fourth = 0.18175 * math.exp(-3.19980 * k * r)
            screening = first + second + third + fourth
            decay = 0.20162 * first + 0.40290 * second + 0.94229 * third + 3.19980 * fourth
            bare = 0.5 * 14.399645 * zi * zj / r
            x = min(r * inverse, 1.0)
            lower = x ** (p - 1.0)
            polynomial = (p + 1) * (p + 2) / 2 - x * (p * (p + 2) - p * (p + 1) / 2 * x)
            cutoff = 1.0 - lower * x * polynomial
            slope = -p * (p + 1) * (p + 2) / 2 * lower * (1.0 - x * (2.0 - x)) * inverse
            change = bare * (-screening / r - k * decay)
            energy[row] += bare * screening * cutoff
            gr[e] += weight[row] * (change * cutoff + bare * screening * slope)
