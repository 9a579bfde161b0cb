"""Neighbours of every atom by bins: each atom looks into the bins around its own.

The walk is made twice, once to count and once to write, so that nothing is stored but the list
itself: that is what limits the size of a system.
"""

from __future__ import annotations

from typing import Any

from duetto.kernels.cpu.compiling import compiled


@compiled
def _bin_and_image(at: int, bins: int, periodic: bool) -> tuple[int, int, bool]:
    """The bin along one axis, in which image of the cell, and whether there is one at all."""
    if 0 <= at < bins:
        return at, 0, True
    if not periodic:
        return 0, 0, False
    image = at // bins
    return at - image * bins, image, True


@compiled
def walk_neighbors(
    wrapped: Any,
    images: Any,
    place: Any,
    bins: Any,
    reach: Any,
    periodic: Any,
    bin_first: Any,
    order: Any,
    sorted_positions: Any,
    cell: Any,
    range_squared: Any,
    write: bool,
    first: Any,
    neighbor: Any,
    shift: Any,
) -> None:
    """Count or write the neighbours of every atom within its own range.

    Args:
        wrapped: (A, 3) float64, positions inside the cell along periodic axes, Å.
        images: (A, 3) int, in which image of the cell each atom was before.
        place: (A, 3) int32, each atom's bin along each axis.
        bins: (3,) int64, how many bins there are.
        reach: (3,) int64, how many bins on either side hold all that is within range.
        periodic: (3,) bool.
        bin_first: (product of bins + 1,) int64, where each bin begins in `order`.
        order: (A,) int32, atoms by bin.
        sorted_positions: (A, 3), `wrapped` in that order.
        cell: (3, 3) float64, rows are the cell's vectors.
        range_squared: (A,) float64; atoms with 0 or less have no neighbours and cost nothing.
        write: whether to write rather than to count.
        first: (A + 1,) int64, where each atom's neighbours begin. Of the counting OUTPUT, zero on
            entry: the number of neighbours one place after the atom's own.
        neighbor: (list,) int32 OUTPUT of the writing.
        shift: (list, 3) OUTPUT of the writing, image of each neighbour in cell vectors, in integers
            that hold it.
    """
    for i in range(wrapped.shape[0]):
        limit = range_squared[i]
        if limit <= 0.0:
            continue
        wx, wy, wz = wrapped[i, 0], wrapped[i, 1], wrapped[i, 2]
        found = first[i] if write else 0
        for da in range(-reach[0], reach[0] + 1):
            a, ka, inside = _bin_and_image(place[i, 0] + da, bins[0], periodic[0])
            if not inside:
                continue
            for db in range(-reach[1], reach[1] + 1):
                b, kb, inside = _bin_and_image(place[i, 1] + db, bins[1], periodic[1])
                if not inside:
                    continue
                for dc in range(-reach[2], reach[2] + 1):
                    c, kc, inside = _bin_and_image(place[i, 2] + dc, bins[2], periodic[2])
                    if not inside:
                        continue
                    x = ka * cell[0, 0] + kb * cell[1, 0] + kc * cell[2, 0] - wx
                    y = ka * cell[0, 1] + kb * cell[1, 1] + kc * cell[2, 1] - wy
                    z = ka * cell[0, 2] + kb * cell[1, 2] + kc * cell[2, 2] - wz
                    ia, ib, ic = ka + images[i, 0], kb + images[i, 1], kc + images[i, 2]
                    own = ka == 0 and kb == 0 and kc == 0
                    here = (a * bins[1] + b) * bins[2] + c
                    for k in range(bin_first[here], bin_first[here + 1]):
                        dx = sorted_positions[k, 0] + x
                        dy = sorted_positions[k, 1] + y
                        dz = sorted_positions[k, 2] + z
                        if dx * dx + dy * dy + dz * dz >= limit:
                            continue
                        j = order[k]
                        if own and j == i:
                            continue
                        if write:
                            neighbor[found] = j
                            shift[found, 0] = ia - images[j, 0]
                            shift[found, 1] = ib - images[j, 1]
                            shift[found, 2] = ic - images[j, 2]
                        found += 1
        if not write:
            first[i + 1] = found


@compiled
def stayed(positions: Any, reference: Any, limit: float) -> bool:
    """Whether every atom is closer than √limit Å to where it was; not if a position is NaN.

    Args:
        positions, reference: (A, 3 or more) float64, x, y and z first.
        limit: Å².
    """
    for a in range(positions.shape[0]):
        x = positions[a, 0] - reference[a, 0]
        y = positions[a, 1] - reference[a, 1]
        z = positions[a, 2] - reference[a, 2]
        if not x * x + y * y + z * z < limit:
            return False
    return True
