"""From a list of pairs at one cutoff to neighbours within each atom's own reach.

Both functions walk the pairs twice rather than store a distance for each: a large list is what
limits the size of a system.
"""

from __future__ import annotations

from typing import Any

from duetto.kernels.cpu.compiling import compiled


@compiled
def _within_reach(
    pair: int, i: Any, j: Any, shift: Any, positions: Any, cell: Any, reach_squared: Any
) -> bool:
    a, b = i[pair], j[pair]
    distance_squared = 0.0
    for k in range(3):
        image = (
            shift[pair, 0] * cell[0, k] + shift[pair, 1] * cell[1, k] + shift[pair, 2] * cell[2, k]
        )
        difference = positions[b, k] - positions[a, k] + image
        distance_squared += difference * difference
    return distance_squared < reach_squared[a]


@compiled
def count_neighbors(
    i: Any, j: Any, shift: Any, positions: Any, cell: Any, reach_squared: Any, first: Any
) -> None:
    """Where each atom's neighbours begin, once the pairs beyond its reach are left out.

    Args:
        i, j: (P,) pairs, ascending in i.
        shift: (P, 3) periodic images.
        positions: (A, 3) float64.
        cell: (3, 3) float64.
        reach_squared: (A,) float64.
        first: (A + 1,) int64 OUTPUT, zero on entry.
    """
    for pair in range(i.shape[0]):
        if _within_reach(pair, i, j, shift, positions, cell, reach_squared):
            first[i[pair] + 1] += 1
    for atom in range(first.shape[0] - 1):
        first[atom + 1] += first[atom]


@compiled
def keep_neighbors(
    i: Any,
    j: Any,
    shift: Any,
    positions: Any,
    cell: Any,
    reach_squared: Any,
    neighbor: Any,
    neighbor_shift: Any,
) -> None:
    """Write the neighbours that were counted: neighbor (list,) and shift (list, 3), both OUTPUT."""
    slot = 0
    for pair in range(i.shape[0]):
        if _within_reach(pair, i, j, shift, positions, cell, reach_squared):
            neighbor[slot] = j[pair]
            for k in range(3):
                neighbor_shift[slot, k] = shift[pair, k]
            slot += 1
