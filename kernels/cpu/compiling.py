"""How the CPU stages are compiled."""

from collections.abc import Callable
from typing import Any

import numba

FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be vectorised and multiply-adds fused; NaN and infinity keep their meaning."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock; the machine code is kept on disk between runs."""
    options = {"nogil": True, "cache": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    return numba.njit(**options)(function)
