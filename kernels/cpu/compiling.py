"""How the CPU stages are compiled."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache

FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be vectorised and multiply-adds fused; NaN and infinity keep their meaning."""


class _Cache(FunctionCache):
    """Machine code on disk, found again by all that decides on it.

    Numba's own key is the source file's time and a pickle of the closure. That misses changes in
    other files whose functions are compiled into this one, and a pickled compiled function never
    equals that of another process, so a function that calls another would never be found.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (sig, codegen.magic_tuple(), _source_stamp(), _closure(self._py_func))


@functools.cache
def _source_stamp() -> str:
    """Hash of all the sources beside this file."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def _closure(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function was given by those around it, as plain data."""
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    return (function.__qualname__, *(_plain(value) for value in values))


def _plain(value: Any) -> Any:
    if hasattr(value, "py_func"):
        return _closure(value.py_func)
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    return repr(value)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock; the machine code is kept on disk between runs."""
    options = {"nogil": True, "cache": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
