"""One process in a folder at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from duetto.errors import InputError

LOCK = ".duetto-lock"

log = logging.getLogger("duetto")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if missing, for this process alone.

    Who looks at what is in the folder, and decides by it what to do, does so inside. The system
    gives the lock up when the process ends, however it ends. At the end the lock file is removed,
    and the folder too if it was made here and is still empty.

    Raises:
        InputError: another process holds the folder, or it cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    descriptor = _lock(folder)
    try:
        yield
    finally:
        # Removed while it is still locked: who opens it from now on makes another.
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(descriptor)
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _lock(folder: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just removed the folder it had made
            continue
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
        try:
            _take(descriptor, folder)
            if _is_at(descriptor, path):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise InputError(
            f"{folder}: {holder} is writing there; wait until it has ended, or set another folder"
        ) from error
    except OSError as error:
        log.warning(
            "%s: this file system has no locks (%s): see to it that no other run writes there",
            folder,
            error.strerror,
        )


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
