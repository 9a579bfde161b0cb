"""Selection of the edges within the true cutoff, every step, and the work lists by edge count."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

from duetto.kernels.triton.flags import TILE_FULL, WORK_FULL, raise_flag
from duetto.kernels.triton.neighbors import shift_component


@triton.jit(
    do_not_specialize=["n_atoms", "n_first", "n_types", "capacity", "n_blocks"],
    do_not_specialize_on_alignment=["positions"],
)
def filter_edges(
    positions,
    frame,
    types,
    centre_atoms,
    cutoffs,
    start,
    candidates,
    shifts,
    home,
    rowptr,
    neighbors,
    neighbor_types,
    vectors,
    histogram,
    flags,
    n_atoms,
    n_first,
    n_types,
    capacity,
    n_blocks,
    FAR: tl.constexpr,
    SMALLEST: tl.constexpr,
    TILES: tl.constexpr,
    PER_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Keep of a centre's candidates those within the cutoff, in their order.

    One program per centre. Differences are taken in float64 and rounded once.

    Args:
        positions: (A, 3) float64, Å.
        frame: of the CellGrid; its first nine numbers are the cell.
        types, centre_atoms, cutoffs, start: as in `search_candidates`.
        candidates, shifts: (capacity,) of `search_candidates`, with the same FAR.
        home: of `bin_atoms`, read if FAR.
        rowptr: OUTPUT (2 C + 1,) int64: row 2 c holds the edges of centre c, row 2 c + 1 the
            unused slots behind them.
        neighbors: OUTPUT (capacity,) int32, atom j.
        neighbor_types: OUTPUT (capacity,) int32, the type that the centre's expert gives atom j.
        vectors: OUTPUT (3, capacity) float32 or float64, r_j − r_i, Å.
        histogram: INOUT (2 TILES, n_blocks) int32, zero before: centres by key and by block of
            PER_BLOCK centres.
        flags: INOUT, TILE_FULL.
    """
    c = tl.program_id(0)
    atom = tl.load(centre_atoms + c)
    expert = (c >= n_first).to(tl.int32)
    type_of = types + expert * n_atoms
    type_row = cutoffs + (expert * n_types + tl.load(type_of + atom)) * n_types
    centre = positions + atom.to(tl.int64) * 3
    xi, yi, zi = tl.load(centre), tl.load(centre + 1), tl.load(centre + 2)
    first, last = tl.load(start + c), tl.load(start + c + 1)
    # A list that did not fit holds nothing: its flag is raised, the step is void.
    n_candidates = tl.where(last <= capacity, last - first, 0).to(tl.int32)
    found = 0
    for done in range(0, n_candidates, BLOCK):
        k = done + tl.arange(0, BLOCK)
        listed = k < n_candidates
        j = tl.load(candidates + first + k, mask=listed, other=0)
        code = tl.load(shifts + first + k, mask=listed, other=0)
        sx = shift_component(code, 0).to(tl.float64)
        sy = shift_component(code, 1).to(tl.float64)
        sz = shift_component(code, 2).to(tl.float64)
        if FAR:
            at_i, at_j = home + atom.to(tl.int64) * 3, home + j.to(tl.int64) * 3
            sx += (tl.load(at_i) - tl.load(at_j, mask=listed, other=0)).to(tl.float64)
            sy += (tl.load(at_i + 1) - tl.load(at_j + 1, mask=listed, other=0)).to(tl.float64)
            sz += (tl.load(at_i + 2) - tl.load(at_j + 2, mask=listed, other=0)).to(tl.float64)
        other = positions + j.to(tl.int64) * 3
        x = tl.load(other, mask=listed, other=0.0) - xi
        y = tl.load(other + 1, mask=listed, other=0.0) - yi
        z = tl.load(other + 2, mask=listed, other=0.0) - zi
        x += sx * tl.load(frame) + sy * tl.load(frame + 3) + sz * tl.load(frame + 6)
        y += sx * tl.load(frame + 1) + sy * tl.load(frame + 4) + sz * tl.load(frame + 7)
        z += sx * tl.load(frame + 2) + sy * tl.load(frame + 5) + sz * tl.load(frame + 8)
        type_j = tl.load(type_of + j, mask=listed, other=0)
        cutoff = tl.load(type_row + type_j, mask=listed, other=0.0)
        near = listed & (x * x + y * y + z * z < cutoff * cutoff)
        slot = first + found + tl.cumsum(near.to(tl.int32), 0) - 1
        tl.store(neighbors + slot, j, mask=near)
        tl.store(neighbor_types + slot, type_j, mask=near)
        p = vectors + slot
        tl.store(p, x.to(vectors.dtype.element_ty), mask=near)
        tl.store(p + capacity, y.to(vectors.dtype.element_ty), mask=near)
        tl.store(p + capacity + capacity, z.to(vectors.dtype.element_ty), mask=near)
        found += tl.sum(near.to(tl.int32), 0)
    tl.store(rowptr + 2 * c, first)
    tl.store(rowptr + 2 * c + 1, first + found)
    tl.store(rowptr + 2 * c + 2, last, mask=c == tl.num_programs(0) - 1)
    too_many = found > (SMALLEST << (TILES - 1))
    raise_flag(flags + TILE_FULL, tl.where(too_many, found, 0))
    key = expert * TILES + _tile(found, SMALLEST, TILES)
    tl.atomic_add(histogram + key * n_blocks + c // PER_BLOCK, 1, sem="relaxed")


@triton.jit
def _tile(count, SMALLEST: tl.constexpr, TILES: tl.constexpr):
    """Smallest t with count ≤ SMALLEST · 2ᵗ, at most TILES − 1."""
    tile = (count > SMALLEST).to(tl.int32)
    for t in tl.static_range(1, TILES - 1):
        tile += (count > (SMALLEST << t)).to(tl.int32)
    return tile


@triton.jit(do_not_specialize=["n_centres", "n_first", "n_blocks"])
def list_work(
    rowptr,
    histogram,
    cumulative,
    work,
    work_capacity,
    flags,
    n_centres,
    n_first,
    n_blocks,
    SMALLEST: tl.constexpr,
    TILES: tl.constexpr,
    PER_BLOCK: tl.constexpr,
):
    """List the rows of each key, in ascending order.

    One program per block of PER_BLOCK centres.

    Args:
        rowptr, histogram: of `filter_edges`.
        cumulative: (2 TILES, n_blocks) int32, inclusive sums of the histogram over the blocks.
        work: OUTPUT (2 TILES, C) int32, row 2 c of each centre c of the key.
        work_capacity: (2 TILES,) int32, rows that the launches of a key evaluate.
        flags: INOUT, WORK_FULL.
    """
    block = tl.program_id(0)
    c = block * PER_BLOCK + tl.arange(0, PER_BLOCK)
    mask = c < n_centres
    row = rowptr + 2 * c
    count = tl.load(row + 1, mask=mask, other=0) - tl.load(row, mask=mask, other=0)
    key = (c >= n_first).to(tl.int32) * TILES + _tile(count.to(tl.int32), SMALLEST, TILES)
    for k in tl.static_range(2 * TILES):
        chosen = mask & (key == k)
        entry = k * n_blocks + block
        upto = tl.load(cumulative + entry)
        before = upto - tl.load(histogram + entry)
        place = before + tl.cumsum(chosen.to(tl.int32), 0) - 1
        tl.store(work + k * n_centres + place, 2 * c, mask=chosen)
        over = upto > tl.load(work_capacity + k)
        raise_flag(flags + WORK_FULL, over.to(tl.int32))
