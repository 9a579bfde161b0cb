"""Layers of a network: a matrix product and its activation, forward and adjoint, in one pass.

A panel of some rows is multiplied, and what comes next works on it while it is in the first-level
cache: pre-activations and their gradients never reach a chunk's memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.activation import activate, activate_adjoint
from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.product import product

PANEL = 24
"""Rows of a panel: 6 kB of 64 numbers in single precision, a multiple of a tile's rows."""


@functools.cache
def dense(dtype: str, activation: str | None, width: int) -> Callable[..., None]:
    """Compile `dense(x, column, inner, W, h, to, slope)`: h = φ(x W), slope = φ'(x W).

    Args of the compiled function:
        x: (E, any), of which columns `column` … + `inner` are taken.
        W: (inner, width).
        h: (E, any) OUTPUT, columns `to` … + width are written.
        slope: (E, width) OUTPUT.
    """
    multiply, phi = product(dtype, width), activate(dtype, activation, width)
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(x: Any, column: int, inner: int, W: Any, h: Any, to: int, slope: Any) -> None:
        z = np.empty((PANEL, width), dtype=T)
        for begin in range(0, slope.shape[0], PANEL):
            end = min(begin + PANEL, slope.shape[0])
            multiply(x, begin, end, column, inner, W, z, 0, 0)
            phi(z, end - begin, h, begin, to, slope)

    return kernel


@functools.cache
def dense_adjoint(dtype: str, width: int, inner: int, add: bool) -> Callable[..., None]:
    """Compile `dense_adjoint(gh, column, slope, W_transposed, gx)`.

    gx (E, any), columns 0 … inner, becomes, or grows by if `add`, (gh · φ'(z)) Wᵀ with gh (E, any)
    from `column` on, and W_transposed (width, inner). The columns read from `gh` become zero before
    anything is added: they may be among those of `gx`.
    """
    multiply, phi = product(dtype, inner, add), activate_adjoint(dtype, width)
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(gh: Any, column: int, slope: Any, W_transposed: Any, gx: Any) -> None:
        gz = np.empty((PANEL, width), dtype=T)
        for begin in range(0, slope.shape[0], PANEL):
            end = min(begin + PANEL, slope.shape[0])
            phi(gh, begin, end, column, slope, gz)
            multiply(gz, 0, end - begin, 0, width, W_transposed, gx, begin, 0)

    return kernel
