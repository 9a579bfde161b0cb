"""What the process does with freed memory, which decides on half of an eager engine's time.

glibc gives large blocks back to the system as soon as they are freed, and the system hands them out
again page by page, cleared. An engine that allocates its per-edge tensors anew in every step spends
much of its time on that, more so in a virtual machine. It is a setting, not the engine: so
benchmarks keep freed memory by default, for all engines alike.
"""

from __future__ import annotations

import ctypes
import platform

ALLOCATORS = ("keep", "system")

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of parameters in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed for the next allocation; whether this process's malloc can.

    The same as GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=… in the
    environment. Lasts as long as the process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1))
