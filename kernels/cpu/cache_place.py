"""Where machine code is kept when neither the package's folder nor the user's can be written."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl

_log = logging.getLogger("duetto")


class _TemporaryPlace:
    """One of Numba's locators: a folder of this user alone in the system's temporary folder."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder, self._source = folder, source

    @classmethod
    def from_function(cls, function: Callable[..., Any], source: str) -> _TemporaryPlace | None:
        """The place for a function of the file `source`; None where there is none."""
        folder = temporary_folder()
        return None if folder is None else cls(folder, Path(source))

    def get_cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        """Raise OSError unless files can be made there."""
        tempfile.TemporaryFile(dir=self._folder).close()

    def get_source_stamp(self) -> tuple[float, int]:
        """Differs where the source does."""
        status = self._source.stat()
        return status.st_mtime, status.st_size

    def get_disambiguator(self) -> str:
        """Tells functions of the same name in other files apart."""
        return hashlib.sha256(str(self._source).encode()).hexdigest()[:10]


class TemporaryImpl(CompileResultCacheImpl):
    """Numba's cache of compiled functions in that place."""

    _locator_classes = (_TemporaryPlace,)


@functools.cache
def temporary_folder() -> Path | None:
    """A folder that this user alone can write, made if missing, or None; says which, once.

    Machine code from there is run: a folder that another user has made is not taken.
    """
    why = "neither the package's folder nor the user's cache can be written"
    try:
        folder = Path(tempfile.gettempdir(), f"duetto-machine-code-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if own and not status.st_mode & 0o077 and os.access(folder, os.W_OK):
            _log.warning("%s: machine code is kept in %s", why, folder)
            return folder
    except OSError:
        pass
    tell_of_none(why)
    return None


@functools.cache
def tell_of_none(why: str) -> None:
    """Say once that nothing is kept."""
    _log.warning(
        "%s: every start compiles anew; set NUMBA_CACHE_DIR to a folder that can be written", why
    )
