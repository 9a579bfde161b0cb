"""A lock under which threads take turns, and which forked children find free."""

from __future__ import annotations

import os
from functools import cache
from threading import RLock
from weakref import WeakSet


class Turns:
    """`with turns:` one thread at a time, which may enter again; copies and pickles are new."""

    def __init__(self) -> None:
        self._lock = RLock()
        _mend_after_forks()
        _ALL.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


_ALL: WeakSet[Turns] = WeakSet()


@cache
def _mend_after_forks() -> None:
    """Free all locks in forked children: the threads that may hold them stay behind."""

    def free() -> None:
        for turns in _ALL:
            turns._lock = RLock()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=free)
