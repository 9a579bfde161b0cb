"""Conditions that kernels report from the device, one int32 each, without a host synchronisation.

Zero means that all is well. They are raised with an atomic maximum, so their value does not depend
on the order in which programs run. Those from FIRST_VOIDING to LAST_VOIDING make a step void: the
integrator on the device does not complete it and waits for the host.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

N_FLAGS = 9

MOVING = tl.constexpr(0)
"""1 where an atom has used most of its half of the skin: rebuild soon."""
CELL_FULL = tl.constexpr(1)
"""Most atoms that any search cell holds, where that is more than the cell's capacity."""
LIST_FULL = tl.constexpr(2)
"""1 where the candidates are more than the list's capacity; `start[C]` is the number needed."""
SHIFT_RANGE = tl.constexpr(3)
"""1 where an edge spans 2²⁰ cells or more."""
MOVED = tl.constexpr(4)
"""1 where an atom has moved by more than half the skin, so the list may lack an edge."""
TILE_FULL = tl.constexpr(5)
"""Most edges that any centre has, where that is more than the largest tile."""
WORK_FULL = tl.constexpr(6)
"""1 where more centres share an edge tile than its launches evaluate."""
FORCE_RANGE = tl.constexpr(7)
"""1 where a gradient is not finite or beyond the range of the fixed-point forces."""
HALTED = tl.constexpr(8)
"""1 while the integrator waits for the host to complete a void step."""

LAST_OF_LIST = tl.constexpr(4)
"""Flags 0 … 4 speak of the list of candidates; rebuilding it takes them back."""
FIRST_VOIDING = tl.constexpr(1)
LAST_VOIDING = tl.constexpr(7)


@triton.jit
def raise_flag(flag, value):
    """Keep the largest value given for a flag; no memory traffic where it is zero."""
    tl.atomic_max(flag, value, mask=value > 0, sem="relaxed")
