"""Activations with their derivatives, in one pass: h = φ(z), slope = φ'(z)."""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.vector import (
    VectorType,
    add,
    divide,
    fused_multiply_add,
    lanes_for,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    subtract,
)

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


_EXPONENTIAL = {
    # by bits: lowest and highest argument, the two parts of ln 2, degree of the Taylor polynomial
    32: (-87.0, 88.0, 0.693359375, -2.12194440e-4, 7),
    64: (-708.0, 709.0, 6.93145751953125e-1, 1.42860682030941723212e-6, 13),
}


@intrinsic
def exponential(typingctx: Any, x: Any) -> Any:
    """Elementwise eˣ of a vector, within 2 ulp, NaN staying NaN.

    x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor polynomial of degree 7 in single precision
    (error 5e-9), 13 in double (4e-18).
    """
    bits = x.element.bitwidth
    lowest, highest, high, low, degree = _EXPONENTIAL[bits]
    coefficients = [1.0 / math.factorial(power) for power in range(degree, -1, -1)]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def constant(value: float) -> Any:
            return ir.Constant(x.llvm, [value] * x.lanes)

        def limited(value: Any, relation: str, limit: Any) -> Any:
            outside = builder.fcmp_ordered(relation, value, limit)
            return builder.select(outside, limit, value)

        argument = limited(args[0], "<", constant(lowest))
        argument = limited(argument, ">", constant(highest))
        octaves = constant(1.0 / math.log(2.0))
        n = _floor(builder, x, fused_multiply_add(builder, x, argument, octaves, constant(0.5)))
        r = fused_multiply_add(builder, x, n, constant(-high), argument)
        r = fused_multiply_add(builder, x, n, constant(-low), r)
        series = constant(coefficients[0])
        for coefficient in coefficients[1:]:
            series = fused_multiply_add(builder, x, series, r, constant(coefficient))
        return builder.fmul(series, _power_of_two(builder, x, n))

    return x(x), codegen


def _floor(builder: Any, vector: VectorType, value: Any) -> Any:
    kind = ir.FunctionType(vector.llvm, [vector.llvm])
    name = f"llvm.floor.v{vector.lanes}f{vector.element.bitwidth}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])


def _power_of_two(builder: Any, vector: VectorType, n: Any) -> Any:
    """2ⁿ of whole numbers in floating point, by writing the exponent's bits."""
    bits = vector.element.bitwidth
    mantissa, bias = {32: (23, 127), 64: (52, 1023)}[bits]
    integers = ir.VectorType(ir.IntType(bits), vector.lanes)
    shift, offset = (ir.Constant(integers, [value] * vector.lanes) for value in (mantissa, bias))
    exponent = builder.add(builder.fptosi(n, integers), offset)
    return builder.bitcast(builder.shl(exponent, shift), vector.llvm)


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
    """Compile `activate(z, rows, h, first, column, slope)`.

    Args of the compiled function:
        z: (≥ rows, width) pre-activations.
        rows: how many.
        h: (E, any) OUTPUT; rows `first` … and columns `column` … `column + width` are written.
        slope: (E, width) OUTPUT, rows `first` ….
    """
    kind, lanes = KINDS[name], lanes_for(dtype, width)
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(z: Any, rows: int, h: Any, first: int, column: int, slope: Any) -> None:
        zero, one = splat(lanes, T(0.0)), splat(lanes, T(1.0))
        for row in range(rows):
            e = first + row
            if kind == 0:
                for c in range(0, width, lanes):
                    store(h, (e, column + c), load(lanes, z, (row, c)))
                    store(slope, (e, c), one)
            elif kind == 1:
                for c in range(0, width, lanes):
                    value = load(lanes, z, (row, c))
                    decay = exponential(subtract(zero, value))
                    sigmoid = divide(one, add(one, decay))
                    phi = multiply(value, sigmoid)
                    store(h, (e, column + c), phi)
                    store(slope, (e, c), multiply_add(phi, subtract(one, sigmoid), sigmoid))
            else:
                for c in range(width):
                    value, derivative = _slow_activation(kind, np.float64(z[row, c]))
                    h[e, column + c] = T(value)
                    slope[e, c] = T(derivative)

    return kernel


@functools.cache
def activate_adjoint(dtype: str, width: int) -> Callable[..., None]:
    """Compile `activate_adjoint(gh, begin, end, column, slope, gz)`: gz = gh · φ'(z).

    Rows `begin` … `end` of `gh` (E, any) and `slope` (E, width) become the first ones of `gz`. The
    columns read from `gh` are set to zero, for their place is used again.
    """
    T, lanes = np.float32 if dtype == "float32" else np.float64, lanes_for(dtype, width)

    @compiled
    def kernel(gh: Any, begin: int, end: int, column: int, slope: Any, gz: Any) -> None:
        zero = splat(lanes, T(0.0))
        for e in range(begin, end):
            for c in range(0, width, lanes):
                here = load(lanes, gh, (e, column + c))
                store(gz, (e - begin, c), multiply(here, load(lanes, slope, (e, c))))
                store(gh, (e, column + c), zero)

    return kernel
