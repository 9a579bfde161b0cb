"""Compiled functions that become part of those that call them.

They count no references to their arrays. Numba counts whenever a function makes a view of an array
or takes it out of a tuple, with a call and an atomic addition; and it hands an array over as some
ten numbers through memory. For functions that are called for every block of eight centres with
dozens of arrays the two were a tenth of a linear expert's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from duetto.kernels.cpu.compiling import FAST_MATH, kept_on_disk


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, inlined and without counting references.

    For functions that compiled functions alone call, which hold the arrays meanwhile; they can
    allocate none.
    """
    return kept_on_disk(
        numba.njit(
            nogil=True, fastmath=FAST_MATH, error_model="numpy", _nrt=False, forceinline=True
        )(function)
    )
