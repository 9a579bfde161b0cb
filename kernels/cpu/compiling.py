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

from duetto.kernels.cpu.cache_place import TemporaryImpl, tell_of_none

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

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; a disk that takes nothing more ends no computation."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            tell_of_none(f"{self.cache_path}: {error.strerror}")


class _TemporaryCache(_Cache):
    """The same where neither the package's folder nor the user's can be written."""

    _impl_class = TemporaryImpl


_IMPORTED = re.compile(
    r"^\s*from duetto\.kernels(\.cpu)?(?:\.(\w+) import.*| import (.+))$", re.MULTILINE
)


@functools.cache
def _source_stamp(name: str) -> str:
    """Hash of a source beside this file, and of all that may be compiled into its functions.

    That is what it imports from `duetto.kernels`, and what those import.
    """
    folder, contents = Path(__file__).parent, dict[Path, bytes]()
    wanted = [folder / name, Path(__file__)]
    while wanted:
        source = wanted.pop()
        if source in contents or not source.is_file():
            continue
        contents[source] = source.read_bytes()
        for below, module, modules in _IMPORTED.findall(contents[source].decode()):
            place = folder if below else folder.parent
            wanted += [place / f"{one.strip()}.py" for one in (module or modules).split(",")]
    parts = [(source.name.encode(), contents[source]) for source in sorted(contents)]
    return hashlib.sha256(b"\0".join(part for pair in parts for part in pair)).hexdigest()


def _closure(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function was given by those around it, as plain data."""
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    return (function.__qualname__, *(_plain(value) for value in values))


def _plain(value: Any) -> Any:
    if hasattr(value, "py_func"):
        return _closure(value.py_func)
    if isinstance(value, np.ndarray | np.generic):  # numpy 1 shows numbers without their type
        return (value.dtype.str, value.shape, value.tobytes())
    return repr(value)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock; the machine code is kept on disk between runs.

    It is kept beside the sources, else in the user's cache, else in the temporary folder; where
    nothing can be written it is kept for this process alone, and a line says so.
    """
    return kept_on_disk(numba.njit(nogil=True, fastmath=FAST_MATH, error_model="numpy")(function))


def kept_on_disk(dispatcher: Any) -> Callable[..., Any]:
    """What Numba has made of a function, its machine code kept as `compiled` says."""
    for cache in (_Cache, _TemporaryCache):
        try:
            dispatcher._cache = cache(dispatcher.py_func)
        except RuntimeError:  # Numba has found no place
            continue
        break
    kept: Callable[..., Any] = dispatcher
    return kept
