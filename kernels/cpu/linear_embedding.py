"""Radial functions and harmonics of a block's edges, and the adjoint, for linear experts.

Arrays as in `duetto.kernels.cpu.linear_blocks`, of one species.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.harmonics import harmonics_slope, write_harmonics
from duetto.kernels.cpu.linear_moments import moments_adjoint
from duetto.kernels.cpu.uncounted import uncounted
from duetto.kernels.cpu.vector import (
    add,
    component,
    divide,
    larger,
    load,
    multiply,
    multiply_add,
    smaller,
    splat,
    square_root,
    store,
    store_rows,
    subtract,
)
from duetto.kernels.linear import COMPRESSION


def _type(dtype: str) -> Any:
    return np.float32 if dtype == "float32" else np.float64


@functools.cache
def embed(dtype: str, lanes: int, size: int, l_max: int) -> Callable[..., None]:
    """Compile `embed(edges, count, shape, nearest, unit, R, dR, Y)`: radial functions, harmonics.

    Args of the compiled function:
        edges: (K, lanes, 4), of which the first `count` are taken.
        shape: (4,) 1/cutoff, inner radius, slope and offset of y(x); see `kernels.linear`.
        nearest: (lanes,) INOUT, the least squared distance of each lane.
        unit: (K, 5, lanes) OUTPUT, r/|r|, 1/|r| and |r|.
        R, dR: (K, size, lanes) OUTPUT, R_n and dR_n/dr.
        Y: (K, D, lanes) OUTPUT.
    """
    T = _type(dtype)
    half, one, two, three, width = T(0.5), T(1.0), T(2.0), T(3.0), T(1.0 / COMPRESSION)

    @uncounted
    def kernel(
        edges: Any, count: int, shape: Any, nearest: Any, unit: Any, R: Any, dR: Any, Y: Any
    ) -> None:
        least = load(lanes, nearest, (0,))
        zero, unity = splat(lanes, T(0.0)), splat(lanes, one)
        inverse_cutoff, inner = splat(lanes, shape[0]), splat(lanes, shape[1])
        steepness, offset = splat(lanes, shape[2]), splat(lanes, shape[3])
        for k in range(count):
            x = component(lanes, edges, (k, 0, 0), 0)
            y = component(lanes, edges, (k, 0, 0), 1)
            z = component(lanes, edges, (k, 0, 0), 2)
            square = multiply_add(x, x, multiply_add(y, y, multiply(z, z)))
            least = smaller(square, least)
            r = square_root(square)
            inverse = divide(unity, r)
            store(unit, (k, 0, 0), multiply(x, inverse))
            store(unit, (k, 1, 0), multiply(y, inverse))
            store(unit, (k, 2, 0), multiply(z, inverse))
            store(unit, (k, 3, 0), inverse)
            store(unit, (k, 4, 0), r)
            t = multiply(subtract(inner, r), splat(lanes, width))
            t = smaller(larger(t, zero), unity)
            bend = multiply(t, t)
            inside = subtract(unity, multiply(splat(lanes, half), t))
            shrunk = multiply(t, subtract(unity, multiply(bend, inside)))
            s = subtract(larger(r, inner), multiply(splat(lanes, T(COMPRESSION)), shrunk))
            ds = multiply(bend, subtract(splat(lanes, three), multiply(splat(lanes, two), t)))
            ds = multiply(subtract(unity, ds), inverse_cutoff)
            scaled = multiply(s, inverse_cutoff)
            rest = larger(subtract(unity, scaled), zero)
            rest_squared = multiply(rest, rest)
            envelope = multiply(rest_squared, rest)
            slope = multiply(multiply(splat(lanes, -three), rest_squared), ds)
            u = multiply_add(steepness, scaled, offset)
            climb = multiply(multiply(steepness, ds), envelope)
            doubled = add(u, u)
            before, value = unity, u
            dbefore, dvalue = zero, unity
            store(R, (k, 0, 0), envelope)
            store(dR, (k, 0, 0), slope)
            for n in range(1, size):
                store(R, (k, n, 0), multiply(envelope, value))
                store(dR, (k, n, 0), multiply_add(slope, value, multiply(climb, dvalue)))
                # T_n+1 = 2 u T_n − T_n−1 and its derivative.
                dnext = subtract(multiply_add(doubled, dvalue, add(value, value)), dbefore)
                following = subtract(multiply(doubled, value), before)
                before, value, dbefore, dvalue = value, following, dvalue, dnext
            ux, uy, uz = multiply(x, inverse), multiply(y, inverse), multiply(z, inverse)
            write_harmonics(l_max, Y, (k, 0, 0), ux, uy, uz)
        store(nearest, (0,), least)

    return kernel


@functools.cache
def edge_gradients(dtype: str, lanes: int, radials: tuple[int, ...]) -> Callable[..., None]:
    """Compile `edge_gradients(count, unit, R, dR, Y, G, at, gY, gradient, virial)`.

    gradient (K, lanes, 4) OUTPUT = dE/dr_ij from G (1, M, lanes) = dE/dA, of which the moments of
    this species begin at `at`; gY (1, D, lanes) is scratch. Harmonics depend on the direction
    alone: their gradient is projected off it and divided by the distance. virial (6, lanes), ADDED
    TO, is Σ_j r_ij ⊗ dE/dr_ij as xx, yy, zz, yz, xz, xy: a matrix that is symmetric for each
    centre, because its energy does not change when its surroundings are turned.
    """
    l_max = len(radials) - 1
    project = harmonic_gradient(dtype, lanes, l_max)

    @uncounted
    def kernel(
        count: int,
        unit: Any,
        R: Any,
        dR: Any,
        Y: Any,
        G: Any,
        at: int,
        gY: Any,
        gradient: Any,
        virial: Any,
    ) -> None:
        xx, yy = load(lanes, virial, (0, 0)), load(lanes, virial, (1, 0))
        zz, yz = load(lanes, virial, (2, 0)), load(lanes, virial, (3, 0))
        xz, xy = load(lanes, virial, (4, 0)), load(lanes, virial, (5, 0))
        for k in range(count):
            along = moments_adjoint(radials, lanes, R, dR, Y, k, G, at, gY)
            gx, gy, gz = project(unit, k, along, gY)
            x, y = load(lanes, unit, (k, 0, 0)), load(lanes, unit, (k, 1, 0))
            z, inverse = load(lanes, unit, (k, 2, 0)), load(lanes, unit, (k, 3, 0))
            xx, yy, zz = multiply_add(x, gx, xx), multiply_add(y, gy, yy), multiply_add(z, gz, zz)
            yz, xz, xy = multiply_add(y, gz, yz), multiply_add(x, gz, xz), multiply_add(x, gy, xy)
            gx, gy, gz = multiply(gx, inverse), multiply(gy, inverse), multiply(gz, inverse)
            store_rows(gradient, (k, 0, 0), gx, gy, gz)
        store(virial, (0, 0), xx)
        store(virial, (1, 0), yy)
        store(virial, (2, 0), zz)
        store(virial, (3, 0), yz)
        store(virial, (4, 0), xz)
        store(virial, (5, 0), xy)

    return kernel


@functools.cache
def harmonic_gradient(dtype: str, lanes: int, l_max: int) -> Callable[..., Any]:
    """Compile `harmonic_gradient(unit, k, along, gY)`: |r| dE/dr, see `edge_gradients`.

    `along` is dE/d|r| through the radial functions.
    """

    @uncounted
    def kernel(unit: Any, k: int, along: Any, gY: Any) -> tuple[Any, Any, Any]:
        x, y, z = (
            load(lanes, unit, (k, 0, 0)),
            load(lanes, unit, (k, 1, 0)),
            load(lanes, unit, (k, 2, 0)),
        )
        gx, gy, gz = harmonics_slope(l_max, gY, (0, 0, 0), x, y, z)
        across = multiply_add(gx, x, multiply_add(gy, y, multiply(gz, z)))
        radial = subtract(multiply(along, load(lanes, unit, (k, 4, 0))), across)
        gx, gy = multiply_add(radial, x, gx), multiply_add(radial, y, gy)
        return gx, gy, multiply_add(radial, z, gz)

    return kernel
