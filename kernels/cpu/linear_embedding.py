"""Radial functions and harmonics of a block's edges, and the adjoint, for linear experts.

Arrays as in `duetto.kernels.cpu.linear_blocks`, of one species.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.linear_moments import moments_adjoint
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
        unit: (K, 4, lanes) OUTPUT, r/|r| and 1/|r|.
        R, dR: (K, size, lanes) OUTPUT, R_n and dR_n/dr.
        Y: (K, D, lanes) OUTPUT.
    """
    T = _type(dtype)
    half, one, two, three, width = T(0.5), T(1.0), T(2.0), T(3.0), T(1.0 / COMPRESSION)
    write_harmonics = harmonics(dtype, lanes, l_max)

    @compiled
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
            write_harmonics(unit, k, Y)
        store(nearest, (0,), least)

    return kernel


@functools.cache
def harmonics(dtype: str, lanes: int, l_max: int) -> Callable[..., None]:
    """Compile `harmonics(unit, k, Y)`: Y[k] (D, lanes) OUTPUT, as in `kernels.harmonics`."""
    T = _type(dtype)
    s3, s5h, s15, s15h = T(3**0.5), T(5**0.5 / 2), T(15**0.5), T(15**0.5 / 2)
    s35, s105, s105h, s21, s7h = (
        T(4.375**0.5),
        T(105**0.5),
        T(105**0.5 / 2),
        T(2.625**0.5),
        T(7**0.5 / 2),
    )

    @compiled
    def kernel(unit: Any, k: int, Y: Any) -> None:
        x, y, z = (
            load(lanes, unit, (k, 0, 0)),
            load(lanes, unit, (k, 1, 0)),
            load(lanes, unit, (k, 2, 0)),
        )
        store(Y, (k, 0, 0), splat(lanes, T(1.0)))
        if l_max >= 1:
            store(Y, (k, 1, 0), multiply(splat(lanes, s3), x))
            store(Y, (k, 2, 0), multiply(splat(lanes, s3), y))
            store(Y, (k, 3, 0), multiply(splat(lanes, s3), z))
        if l_max >= 2:
            xx, yy, zz = multiply(x, x), multiply(y, y), multiply(z, z)
            xz, xy, yz = multiply(x, z), multiply(x, y), multiply(y, z)
            flat, twist = add(xx, zz), subtract(zz, xx)
            store(Y, (k, 4, 0), multiply(splat(lanes, s15), xz))
            store(Y, (k, 5, 0), multiply(splat(lanes, s15), xy))
            tall = subtract(add(yy, yy), flat)
            store(Y, (k, 6, 0), multiply(splat(lanes, s5h), tall))
            store(Y, (k, 7, 0), multiply(splat(lanes, s15), yz))
            store(Y, (k, 8, 0), multiply(splat(lanes, s15h), twist))
            if l_max >= 3:
                three, four = splat(lanes, T(3.0)), splat(lanes, T(4.0))
                steep = subtract(multiply(four, yy), flat)
                inner = subtract(multiply(three, zz), xx)
                outer = subtract(zz, multiply(three, xx))
                deep = subtract(add(yy, yy), multiply(three, flat))
                store(Y, (k, 9, 0), multiply(multiply(splat(lanes, s35), x), inner))
                store(Y, (k, 10, 0), multiply(multiply(splat(lanes, s105), xy), z))
                store(Y, (k, 11, 0), multiply(multiply(splat(lanes, s21), x), steep))
                store(Y, (k, 12, 0), multiply(multiply(splat(lanes, s7h), y), deep))
                store(Y, (k, 13, 0), multiply(multiply(splat(lanes, s21), z), steep))
                store(Y, (k, 14, 0), multiply(multiply(splat(lanes, s105h), y), twist))
                store(Y, (k, 15, 0), multiply(multiply(splat(lanes, s35), z), outer))

    return kernel


@functools.cache
def edge_gradients(dtype: str, lanes: int, radials: tuple[int, ...]) -> Callable[..., None]:
    """Compile `edge_gradients(count, unit, R, dR, Y, G, at, gY, gradient)`.

    gradient (K, lanes, 4) OUTPUT = dE/dr_ij from G (1, M, lanes) = dE/dA, of which the moments of
    this species begin at `at`; gY (1, D, lanes) is scratch. Harmonics depend on the direction
    alone: their gradient is projected off it and divided by the distance.
    """
    l_max = len(radials) - 1
    project = harmonic_gradient(dtype, lanes, l_max)

    @compiled
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
    ) -> None:
        for k in range(count):
            along = moments_adjoint(radials, lanes, R, dR, Y, k, G, at, gY)
            project(unit, k, along, gY, gradient)

    return kernel


@functools.cache
def harmonic_gradient(dtype: str, lanes: int, l_max: int) -> Callable[..., None]:
    """Compile `harmonic_gradient(unit, k, along, gY, gradient)`: see `edge_gradients`.

    `along` is dE/d|r| through the radial functions.
    """
    T = _type(dtype)
    s3, s5, s15 = T(3**0.5), T(5**0.5), T(15**0.5)
    s35, s105, s105h, s21, s7h = (
        T(4.375**0.5),
        T(105**0.5),
        T(105**0.5 / 2),
        T(2.625**0.5),
        T(7**0.5 / 2),
    )

    @compiled
    def scaled(gY: Any, d: int, factor: Any) -> Any:
        return multiply(splat(lanes, factor), load(lanes, gY, (0, d, 0)))

    @compiled
    def cubic_x(x: Any, y: Any, z: Any, gY: Any) -> Any:
        three, six, two, four = (
            splat(lanes, T(3.0)),
            splat(lanes, T(6.0)),
            splat(lanes, T(2.0)),
            splat(lanes, T(4.0)),
        )
        xx, yy, zz = multiply(x, x), multiply(y, y), multiply(z, z)
        total = multiply(multiply(three, subtract(zz, xx)), scaled(gY, 9, s35))
        total = multiply_add(multiply(y, z), scaled(gY, 10, s105), total)
        steep = subtract(subtract(multiply(four, yy), multiply(three, xx)), zz)
        total = multiply_add(steep, scaled(gY, 11, s21), total)
        total = subtract(total, multiply(multiply(six, multiply(x, y)), scaled(gY, 12, s7h)))
        total = subtract(total, multiply(multiply(two, multiply(x, z)), scaled(gY, 13, s21)))
        total = subtract(total, multiply(multiply(x, y), scaled(gY, 14, s105)))
        return subtract(total, multiply(multiply(six, multiply(x, z)), scaled(gY, 15, s35)))

    @compiled
    def cubic_y(x: Any, y: Any, z: Any, gY: Any) -> Any:
        three, two, eight = splat(lanes, T(3.0)), splat(lanes, T(2.0)), splat(lanes, T(8.0))
        xx, yy, zz = multiply(x, x), multiply(y, y), multiply(z, z)
        total = multiply(multiply(x, z), scaled(gY, 10, s105))
        total = multiply_add(multiply(eight, multiply(x, y)), scaled(gY, 11, s21), total)
        deep = subtract(subtract(multiply(two, yy), xx), zz)
        total = multiply_add(multiply(three, deep), scaled(gY, 12, s7h), total)
        total = multiply_add(multiply(eight, multiply(y, z)), scaled(gY, 13, s21), total)
        return multiply_add(subtract(zz, xx), scaled(gY, 14, s105h), total)

    @compiled
    def cubic_z(x: Any, y: Any, z: Any, gY: Any) -> Any:
        three, six, two, four = (
            splat(lanes, T(3.0)),
            splat(lanes, T(6.0)),
            splat(lanes, T(2.0)),
            splat(lanes, T(4.0)),
        )
        xx, yy, zz = multiply(x, x), multiply(y, y), multiply(z, z)
        total = multiply(multiply(six, multiply(x, z)), scaled(gY, 9, s35))
        total = multiply_add(multiply(x, y), scaled(gY, 10, s105), total)
        total = subtract(total, multiply(multiply(two, multiply(x, z)), scaled(gY, 11, s21)))
        total = subtract(total, multiply(multiply(six, multiply(y, z)), scaled(gY, 12, s7h)))
        steep = subtract(subtract(multiply(four, yy), xx), multiply(three, zz))
        total = multiply_add(steep, scaled(gY, 13, s21), total)
        total = multiply_add(multiply(y, z), scaled(gY, 14, s105), total)
        return multiply_add(multiply(three, subtract(zz, xx)), scaled(gY, 15, s35), total)

    @compiled
    def kernel(unit: Any, k: int, along: Any, gY: Any, gradient: Any) -> None:
        x, y, z = (
            load(lanes, unit, (k, 0, 0)),
            load(lanes, unit, (k, 1, 0)),
            load(lanes, unit, (k, 2, 0)),
        )
        gx = gy = gz = splat(lanes, T(0.0))
        if l_max >= 1:
            gx, gy, gz = scaled(gY, 1, s3), scaled(gY, 2, s3), scaled(gY, 3, s3)
        if l_max >= 2:
            a, b, c = scaled(gY, 4, s15), scaled(gY, 5, s15), scaled(gY, 6, s5)
            d, f = scaled(gY, 7, s15), scaled(gY, 8, s15)
            gx = multiply_add(z, a, multiply_add(y, b, gx))
            gx = subtract(gx, multiply(x, add(f, c)))
            gy = multiply_add(x, b, multiply_add(z, d, gy))
            gy = multiply_add(add(y, y), c, gy)
            gz = multiply_add(x, a, multiply_add(y, d, gz))
            gz = multiply_add(z, subtract(f, c), gz)
        if l_max >= 3:
            gx = add(gx, cubic_x(x, y, z, gY))
            gy = add(gy, cubic_y(x, y, z, gY))
            gz = add(gz, cubic_z(x, y, z, gY))
        inverse = load(lanes, unit, (k, 3, 0))
        across = multiply_add(gx, x, multiply_add(gy, y, multiply(gz, z)))
        radial = subtract(along, multiply(across, inverse))
        gx = multiply_add(gx, inverse, multiply(radial, x))
        gy = multiply_add(gy, inverse, multiply(radial, y))
        gz = multiply_add(gz, inverse, multiply(radial, z))
        store_rows(gradient, (k, 0, 0), gx, gy, gz)

    return kernel
