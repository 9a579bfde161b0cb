"""Search for the candidates of every centre, and the check of how far atoms have moved since.

Atomics hand out the slots of a cell, in an order that is not fixed; ordering each cell by atom
makes it so. A centre then scans the cells within reach, twice: to count and, once the counts have
been summed into row starts, to fill. What it found is put into the order of atoms and images, since
that of the scan follows the grid, which along open axes follows earlier positions. The list
therefore depends on the positions alone.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

from duetto.kernels.triton.flags import (
    CELL_FULL,
    LIST_FULL,
    MOVED,
    MOVING,
    SHIFT_RANGE,
    raise_flag,
)

EMPTY = tl.constexpr(2**31 - 1)
"""Fills the free places of a cell; greater than every atom."""

SHIFT_BITS = tl.constexpr(21)
SHIFT_MASK = tl.constexpr(2**21 - 1)
SHIFT_OFFSET = tl.constexpr(2**20)


@triton.jit
def shift_component(code, AXIS: tl.constexpr):
    """Number of cell vectors along AXIS that the packed shift stands for."""
    return ((code >> (SHIFT_BITS * (2 - AXIS))) & SHIFT_MASK).to(tl.int32) - SHIFT_OFFSET


@triton.jit
def _load_row(matrix, row, mask):
    """Three components of a row of an (N, 3) matrix."""
    p = matrix + row.to(tl.int64) * 3
    x = tl.load(p, mask=mask, other=0.0)
    y = tl.load(p + 1, mask=mask, other=0.0)
    z = tl.load(p + 2, mask=mask, other=0.0)
    return x, y, z


@triton.jit
def _fraction(x, y, z, frame, AXIS: tl.constexpr):
    """Coordinate along one axis, in cell vectors from the origin of the grid."""
    return (
        x * tl.load(frame + 9 + AXIS)
        + y * tl.load(frame + 12 + AXIS)
        + z * tl.load(frame + 15 + AXIS)
        - tl.load(frame + 18 + AXIS)
    )


@triton.jit
def _image(x, y, z, frame, numbers, AXIS: tl.constexpr):
    """Along one axis, which image of the cell the atom is in."""
    periodic = tl.load(numbers + 3 + AXIS)
    return tl.where(periodic != 0, tl.floor(_fraction(x, y, z, frame, AXIS)), 0.0)


@triton.jit
def _search_cell(x, y, z, frame, numbers, AXIS: tl.constexpr):
    """Along one axis, the search cell of an atom that is inside the cell."""
    coordinate = _fraction(x, y, z, frame, AXIS) * tl.load(frame + 21 + AXIS)
    last = (tl.load(numbers + AXIS) - 1).to(tl.float64)
    return tl.minimum(tl.maximum(tl.floor(coordinate), 0.0), last).to(tl.int32)


@triton.jit(do_not_specialize=["n_atoms"], do_not_specialize_on_alignment=["positions"])
def bin_atoms(
    positions,
    frame,
    numbers,
    wrapped,
    home,
    atom_cell,
    cell_count,
    slots,
    flags,
    n_atoms,
    CAPACITY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Wrap each atom into the cell and put it into a free slot of its search cell.

    Args:
        positions: (A, 3) float64.
        frame, numbers: of the CellGrid.
        wrapped: OUTPUT (A, 3) float64, positions inside the cell.
        home: OUTPUT (A, 3) int64, cell vectors taken off.
        atom_cell: OUTPUT (A,) int32.
        cell_count: INOUT (cells,) int32, zero before.
        slots: OUTPUT (cells, CAPACITY) int32, atoms in no fixed order.
        flags: INOUT, CELL_FULL.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n_atoms
    x, y, z = _load_row(positions, i, mask)
    p = i.to(tl.int64) * 3
    home_x = tl.zeros((BLOCK,), tl.int64)
    home_y = tl.zeros((BLOCK,), tl.int64)
    home_z = tl.zeros((BLOCK,), tl.int64)
    # Twice: of an atom many cells away the first pass knows the fraction only roughly.
    for _ in tl.static_range(2):
        kx = _image(x, y, z, frame, numbers, 0)
        ky = _image(x, y, z, frame, numbers, 1)
        kz = _image(x, y, z, frame, numbers, 2)
        x -= kx * tl.load(frame) + ky * tl.load(frame + 3) + kz * tl.load(frame + 6)
        y -= kx * tl.load(frame + 1) + ky * tl.load(frame + 4) + kz * tl.load(frame + 7)
        z -= kx * tl.load(frame + 2) + ky * tl.load(frame + 5) + kz * tl.load(frame + 8)
        home_x += kx.to(tl.int64)
        home_y += ky.to(tl.int64)
        home_z += kz.to(tl.int64)
    tl.store(home + p, home_x, mask=mask)
    tl.store(home + p + 1, home_y, mask=mask)
    tl.store(home + p + 2, home_z, mask=mask)
    tl.store(wrapped + p, x, mask=mask)
    tl.store(wrapped + p + 1, y, mask=mask)
    tl.store(wrapped + p + 2, z, mask=mask)
    cell_x = _search_cell(x, y, z, frame, numbers, 0)
    cell_y = _search_cell(x, y, z, frame, numbers, 1)
    cell_z = _search_cell(x, y, z, frame, numbers, 2)
    cell = (cell_x * tl.load(numbers + 1) + cell_y) * tl.load(numbers + 2) + cell_z
    tl.store(atom_cell + i, cell, mask=mask)
    slot = tl.atomic_add(cell_count + cell, 1, mask=mask, sem="relaxed")
    free = mask & (slot < CAPACITY)
    tl.store(slots + cell.to(tl.int64) * CAPACITY + slot, i, mask=free)
    too_many = tl.max(tl.where(mask & (slot >= CAPACITY), slot + 1, 0), 0)
    raise_flag(flags + CELL_FULL, too_many)


@triton.jit(do_not_specialize=["n_cells"])
def order_cells(
    slots, cell_count, cell_atoms, n_cells, CAPACITY: tl.constexpr, CELLS: tl.constexpr
):
    """Order the atoms of each cell: one goes to the place of its rank.

    One program per CELLS cells.

    Args:
        slots, cell_count: of `bin_atoms`.
        cell_atoms: OUTPUT (n_cells, CAPACITY) int32, ascending, EMPTY behind the last.
    """
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)[:, None]
    inside = cell < n_cells
    count = tl.load(cell_count + cell, mask=inside, other=0)
    k = tl.arange(0, CAPACITY)[None, :]
    first = cell.to(tl.int64) * CAPACITY
    atom = tl.load(slots + first + k, mask=k < count, other=EMPTY)
    rank = tl.zeros((CELLS, CAPACITY), tl.int32)
    for m in range(CAPACITY):
        rank += (tl.load(slots + first + m, mask=m < count, other=EMPTY) < atom).to(tl.int32)
    place = tl.where(k < count, rank, k)
    tl.store(cell_atoms + first + place, atom, mask=k < tl.where(inside, CAPACITY, 0))


@triton.jit
def _image_and_cell(coordinate, numbers, AXIS: tl.constexpr):
    """Of a cell coordinate beyond the grid: its image, the cell it repeats, whether it exists."""
    n = tl.load(numbers + AXIS)
    reach = tl.load(numbers + 6 + AXIS)
    # Division of a non-negative number, since that of a negative one rounds towards zero.
    image = (coordinate + reach * n) // n - reach
    exists = tl.load(numbers + 3 + AXIS) + (image == 0).to(tl.int32) > 0
    return image, coordinate - image * n, exists


@triton.jit(do_not_specialize=["n_atoms", "n_first", "n_types", "capacity"])
def search_candidates(
    wrapped,
    home,
    atom_cell,
    cell_atoms,
    frame,
    numbers,
    types,
    centre_atoms,
    cutoffs,
    skin,
    counts,
    start,
    neighbors,
    shifts,
    flags,
    n_atoms,
    n_first,
    n_types,
    capacity,
    FAR: tl.constexpr,
    FILL: tl.constexpr,
    CAPACITY: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Count, or list, the atoms closer to a centre than its cutoff + skin.

    One program per centre. They come in the order of the cells scanned, by atom inside each;
    `sort_candidates` puts them into one that does not depend on the grid.

    Args:
        wrapped, home, atom_cell, cell_atoms: of `bin_atoms` and `order_cells`.
        types: (2, A) int32, by expert.
        centre_atoms: (C,) int32; the first `n_first` belong to expert 0, the others to expert 1.
        cutoffs: (2, T, T) float64, Å, by expert, centre type and neighbour type.
        skin: (1,) float64, Å.
        counts: OUTPUT (C,) int32 if not FILL.
        start: (C + 1,) int64, read if FILL.
        neighbors: OUTPUT (capacity,) int32 if FILL, atom j.
        shifts: OUTPUT (capacity,) int64 if FILL, packed cell vectors S with the candidate at
            x_j + S · cell; if FAR those of the wrapped atoms, so that no distance from home is too
            far for them.
        flags: INOUT, LIST_FULL and, unless FAR, SHIFT_RANGE.
    """
    c = tl.program_id(0)
    atom = tl.load(centre_atoms + c)
    expert = (c >= n_first).to(tl.int32)
    type_of = types + expert * n_atoms
    type_row = cutoffs + (expert * n_types + tl.load(type_of + atom)) * n_types
    centre = wrapped + atom.to(tl.int64) * 3
    xi, yi, zi = tl.load(centre), tl.load(centre + 1), tl.load(centre + 2)
    ny, nz = tl.load(numbers + 1), tl.load(numbers + 2)
    cell = tl.load(atom_cell + atom)
    cell_x, cell_y, cell_z = cell // (ny * nz), (cell // nz) % ny, cell % nz
    mx, my, mz = tl.load(numbers + 6), tl.load(numbers + 7), tl.load(numbers + 8)
    wide_y, wide_z = 2 * my + 1, 2 * mz + 1
    n_stencil = (2 * mx + 1) * wide_y * wide_z
    margin = tl.load(skin)
    lane = tl.arange(0, CELLS * CAPACITY)
    first, last = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    if FILL:
        first, last = tl.load(start + c), tl.load(start + c + 1)
        raise_flag(flags + LIST_FULL, (last > capacity).to(tl.int32))
    found = 0
    for cells_done in range(0, n_stencil, CELLS):
        s = cells_done + lane // CAPACITY
        image_x, jx, exists_x = _image_and_cell(cell_x + s // (wide_y * wide_z) - mx, numbers, 0)
        image_y, jy, exists_y = _image_and_cell(cell_y + (s // wide_z) % wide_y - my, numbers, 1)
        image_z, jz, exists_z = _image_and_cell(cell_z + s % wide_z - mz, numbers, 2)
        exists = (s < n_stencil) & exists_x & exists_y & exists_z
        slot = ((jx * ny + jy) * nz + jz).to(tl.int64) * CAPACITY + lane % CAPACITY
        j = tl.load(cell_atoms + slot, mask=exists, other=EMPTY)
        exists &= j < n_atoms
        exists &= (j != atom) | (image_x != 0) | (image_y != 0) | (image_z != 0)
        x, y, z = _load_row(wrapped, j, exists)
        ix, iy, iz = image_x.to(tl.float64), image_y.to(tl.float64), image_z.to(tl.float64)
        x += ix * tl.load(frame) + iy * tl.load(frame + 3) + iz * tl.load(frame + 6) - xi
        y += ix * tl.load(frame + 1) + iy * tl.load(frame + 4) + iz * tl.load(frame + 7) - yi
        z += ix * tl.load(frame + 2) + iy * tl.load(frame + 5) + iz * tl.load(frame + 8) - zi
        type_j = tl.load(type_of + j, mask=exists, other=0)
        distance = tl.load(type_row + type_j, mask=exists, other=0.0) + margin
        near = exists & (x * x + y * y + z * z < distance * distance)
        if FILL:
            place = first + found + tl.cumsum(near.to(tl.int32), 0) - 1
            keep = near & (place < capacity)
            sx, sy, sz = image_x.to(tl.int64), image_y.to(tl.int64), image_z.to(tl.int64)
            if not FAR:
                sx, sy, sz = _total_shift(sx, sy, sz, home, atom, j, near)
            outside = near & (_out_of_range(sx) | _out_of_range(sy) | _out_of_range(sz))
            raise_flag(flags + SHIFT_RANGE, tl.max(outside.to(tl.int32), 0))
            tl.store(neighbors + place, j, mask=keep)
            tl.store(shifts + place, _pack_shift(sx, sy, sz), mask=keep)
        found += tl.sum(near.to(tl.int32), 0)
    if not FILL:
        tl.store(counts + c, found)


@triton.jit(do_not_specialize=["capacity"])
def sort_candidates(
    found_neighbors,
    found_shifts,
    start,
    neighbors,
    shifts,
    capacity,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Order each centre's candidates by atom, then image: one goes to the place of its rank.

    One program per centre. Far atoms are ordered as near ones: of two images of one atom the
    packed vectors differ alike whether or not they count from home.

    Args:
        found_neighbors, found_shifts: (capacity,), of `search_candidates`.
        start: (C + 1,) int64.
        neighbors, shifts: OUTPUT (capacity,), ascending for each centre. A centre whose
            candidates did not fit has none.
    """
    c = tl.program_id(0)
    first, last = tl.load(start + c), tl.load(start + c + 1)
    n = tl.where(last <= capacity, last - first, 0).to(tl.int32)
    for done in range(0, n, BLOCK):
        k = done + tl.arange(0, BLOCK)
        listed = k < n
        j = tl.load(found_neighbors + first + k, mask=listed, other=0)
        code = tl.load(found_shifts + first + k, mask=listed, other=0)
        rank = tl.zeros((BLOCK,), tl.int32)
        for seen in range(0, n, CHUNK):
            m = seen + tl.arange(0, CHUNK)
            other_j = tl.load(found_neighbors + first + m, mask=m < n, other=EMPTY)[None, :]
            other_code = tl.load(found_shifts + first + m, mask=m < n, other=0)[None, :]
            same = (other_j == j[:, None]) & (other_code < code[:, None])
            rank += tl.sum(((other_j < j[:, None]) | same).to(tl.int32), 1)
        tl.store(neighbors + first + rank, j, mask=listed)
        tl.store(shifts + first + rank, code, mask=listed)


@triton.jit
def _total_shift(image_x, image_y, image_z, home, atom, j, mask):
    """Cell vectors between atom j as given and its image near the centre as given."""
    at_i = home + atom.to(tl.int64) * 3
    at_j = home + j.to(tl.int64) * 3
    sx = image_x + tl.load(at_i) - tl.load(at_j, mask=mask, other=0)
    sy = image_y + tl.load(at_i + 1) - tl.load(at_j + 1, mask=mask, other=0)
    sz = image_z + tl.load(at_i + 2) - tl.load(at_j + 2, mask=mask, other=0)
    return sx, sy, sz


@triton.jit
def _out_of_range(s):
    return (s < -SHIFT_OFFSET) | (s >= SHIFT_OFFSET)


@triton.jit
def _pack_shift(sx, sy, sz):
    x = (sx + SHIFT_OFFSET).to(tl.int64) << (2 * SHIFT_BITS)
    y = (sy + SHIFT_OFFSET).to(tl.int64) << SHIFT_BITS
    return x | y | (sz + SHIFT_OFFSET).to(tl.int64)


@triton.jit
def flag_displacement(x, y, z, reference, i, mask, limits, flags):
    """Raise MOVED and MOVING where atoms have left the place of the list's positions.

    Args:
        x, y, z: positions of the atoms i.
        reference: (A, 3) float64, positions at which the list was built.
        limits: (2,) float64, Å²: squares of the displacements that raise MOVED and MOVING.
    """
    x0, y0, z0 = _load_row(reference, i, mask)
    dx, dy, dz = x - x0, y - y0, z - z0
    square = dx * dx + dy * dy + dz * dz
    # Written so that a displacement that is not a number counts as too far.
    moved = mask & ((square <= tl.load(limits)) == 0)
    moving = mask & ((square <= tl.load(limits + 1)) == 0)
    raise_flag(flags + MOVED, tl.max(moved.to(tl.int32), 0))
    raise_flag(flags + MOVING, tl.max(moving.to(tl.int32), 0))


@triton.jit(do_not_specialize=["n_atoms"], do_not_specialize_on_alignment=["positions"])
def check_displacements(positions, reference, limits, flags, n_atoms, BLOCK: tl.constexpr):
    """Raise MOVED and MOVING, as `flag_displacement`, for all atoms."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n_atoms
    x, y, z = _load_row(positions, i, mask)
    flag_displacement(x, y, z, reference, i, mask, limits, flags)
