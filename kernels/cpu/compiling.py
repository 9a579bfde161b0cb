"""How the CPU stages are compiled."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
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

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._source = Path(inspect.getfile(function)).name

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (sig, codegen.magic_tuple(), _source_stamp(self._source), _closure(self._py_func))


_IMPORTED = re.compile(
    r"^\s*from duetto\.kernels\.cpu(?:\.(\w+) import.*| import (.+))$", re.MULTILINE
)


@functools.cache
def _source_stamp(name: str) -> str:
    """Hash of a source beside this file, and of all that may be compiled into its functions.

    That is what it imports from this folder, and what those import.
    """
    folder, wanted, contents = Path(__file__).parent, [name, Path(__file__).name], {}
    while wanted:
        source = wanted.pop()
        if source in contents or not (folder / source).is_file():
            continue
        contents[source] = (folder / source).read_bytes()
        for module, modules in _IMPORTED.findall(contents[source].decode()):
            wanted += [f"{one.strip()}.py" for one in (module or modules).split(",")]
    parts = [part for source in sorted(contents) for part in (source.encode(), contents[source])]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


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
