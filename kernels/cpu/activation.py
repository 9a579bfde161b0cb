"""Activations with their derivatives, in one pass: h = φ(z), slope = φ'(z)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import lanes_for, load, multiply, splat, store

KINDS = {
    None: 0,
    "silu": 1,
    "mish": 2,
    "gelu": 3,
    "ssp": 4,
    "tanh": 5,
    "sigmoid": 6,
    "softplus": 7,
}


@intrinsic
def _bits_as_float(typingctx: Any, bits: Any) -> Any:
    """Reinterpret an integer's bits as the floating-point number of the same size."""
    pairs = {types.int32: types.float32, types.int64: types.float64}
    if bits not in pairs:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = ir.FloatType() if signature.return_type == types.float32 else ir.DoubleType()
        return builder.bitcast(args[0], target)

    return pairs[bits](bits), codegen


@compiled
def _exp32(x: Any) -> Any:
    """Exponential in single precision, within 2 ulp; branch-free, so that loops vectorise.

    x = n ln 2 + r with |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7 (error 5e-9).
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    r = x - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.float32(1.0 / 5040)
    p = p * r + np.float32(1.0 / 720)
    p = p * r + np.float32(1.0 / 120)
    p = p * r + np.float32(1.0 / 24)
    p = p * r + np.float32(1.0 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    exponent = np.int32(n) + np.int32(127)
    return p * _bits_as_float(np.int32(exponent << np.int32(23)))


@compiled
def _exp64(x: Any) -> Any:
    """Exponential in double precision; Taylor polynomial of degree 13 (error 4e-18)."""
    x = min(max(x, -708.0), 709.0)
    n = np.floor(x * 1.4426950408889634 + 0.5)
    r = x - n * 6.93145751953125e-1
    r = r - n * 1.42860682030941723212e-6
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    exponent = np.int64(n) + np.int64(1023)
    return p * _bits_as_float(np.int64(exponent << np.int64(52)))


@compiled
def _slow_activation(kind: int, z: float) -> tuple[float, float]:
    """Value and slope in double precision, for the nonlinearities that are rarely used."""
    softplus = max(z, 0.0) + math.log1p(math.exp(-abs(z)))
    sigmoid = 1.0 / (1.0 + math.exp(-z)) if z > -700.0 else 0.0
    if kind == 2:
        t = math.tanh(softplus)
        return z * t, t + z * (1.0 - t * t) * sigmoid
    if kind == 3:
        cumulative = 0.5 * (1.0 + math.erf(z * 0.7071067811865476))
        density = 0.3989422804014327 * math.exp(-0.5 * z * z)
        return z * cumulative, cumulative + z * density
    if kind == 4:
        return softplus - 0.6931471805599453, sigmoid
    if kind == 5:
        t = math.tanh(z)
        return t, 1.0 - t * t
    if kind == 6:
        return sigmoid, sigmoid * (1.0 - sigmoid)
    return softplus, sigmoid


@functools.cache
def activate(dtype: str, name: str | None, width: int) -> Callable[..., None]:
    """Compile `activate(z, h, column, slope)`.

    Args of the compiled function:
        z: (E, width) pre-activations.
        h: (E, any) OUTPUT; columns `column` … `column + width` are written.
        slope: (E, width) OUTPUT.
    """
    kind, single = KINDS[name], dtype == "float32"
    T = np.float32 if single else np.float64

    @compiled
    def kernel(z: Any, h: Any, column: int, slope: Any) -> None:
        one = T(1.0)
        for e in range(z.shape[0]):
            for c in range(width):
                value = z[e, c]
                if kind == 0:
                    h[e, column + c] = value
                    slope[e, c] = one
                elif kind == 1:
                    decay = _exp32(-value) if single else _exp64(-value)
                    sigmoid = one / (one + decay)
                    h[e, column + c] = value * sigmoid
                    slope[e, c] = sigmoid * (one + value * (one - sigmoid))
                else:
                    phi, derivative = _slow_activation(kind, np.float64(value))
                    h[e, column + c] = T(phi)
                    slope[e, c] = T(derivative)

    return kernel


@functools.cache
def activate_adjoint(dtype: str, width: int) -> Callable[..., None]:
    """Compile `activate_adjoint(gh, column, slope, gz)`: gz = gh · φ'(z).

    The columns read from `gh` are set to zero, for their place is used again.
    """
    T, lanes = np.float32 if dtype == "float32" else np.float64, lanes_for(dtype, width)

    @compiled
    def kernel(gh: Any, column: int, slope: Any, gz: Any) -> None:
        zero = splat(lanes, T(0.0))
        for e in range(slope.shape[0]):
            for c in range(0, width, lanes):
                here = load(lanes, gh, (e, column + c))
                store(gz, (e, c), multiply(here, load(lanes, slope, (e, c))))
                store(gh, (e, column + c), zero)

    return kernel
