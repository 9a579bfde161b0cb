"""Selection of the edges within the true cutoff, every step, and the packs of centres that fit."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

from duetto.kernels.triton.flags import TILE_FULL, WORK_FULL, raise_flag
from duetto.kernels.triton.neighbors import shift_component


@triton.jit(
    do_not_specialize=["n_atoms", "n_first", "n_types", "capacity", "first_centre"],
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
    flags,
    n_atoms,
    n_first,
    n_types,
    capacity,
    first_centre,
    FAR: tl.constexpr,
    MOST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Keep of a centre's candidates those within the cutoff, in their order.

    One program per centre from `first_centre` on; the rows of those before stay as they were.
    Differences are taken in float64 and rounded once.

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
        flags: INOUT, TILE_FULL where a centre has more than MOST edges.
    """
    c = first_centre + tl.program_id(0)
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
    tl.store(rowptr + 2 * c + 2, last, mask=tl.program_id(0) == tl.num_programs(0) - 1)
    raise_flag(flags + TILE_FULL, tl.where(found > MOST, found, 0))


@triton.jit
def _tile(count, SMALLEST: tl.constexpr, TILES: tl.constexpr):
    """Tile t of SMALLEST · 2ᵗ rows for centres with so many edges.

    The smallest that holds two of them, so that rows left over by one centre serve others; but of
    the largest tile, whose programs spill registers, only what the one before it cannot hold.
    """
    tile = (count > (SMALLEST << (TILES - 2))).to(tl.int32)
    for t in tl.static_range(TILES - 2):
        tile += (2 * count > (SMALLEST << t)).to(tl.int32)
    return tile


_COUNTS = tl.constexpr(512)
"""Numbers of edges that a centre's rank tells apart: more than the largest tile holds."""


@triton.jit(
    do_not_specialize=[
        "n_centres",
        "n_first",
        "n_types",
        "n_blocks",
        "size_first",
        "size_second",
    ]
)
def pack_centres(
    rowptr,
    row_types,
    packs,
    keys,
    histogram,
    n_centres,
    n_first,
    n_types,
    n_blocks,
    size_first,
    size_second,
    SMALLEST: tl.constexpr,
    TILES: tl.constexpr,
    SLOTS: tl.constexpr,
    PER_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Put centres of one expert, type and tile together as long as the tile holds their edges.

    One program per block of PER_BLOCK centres, which are packed among themselves. The largest
    centre opens a pack; then, while k more would fit if they were the smallest there are, k as
    large as can be, it takes the largest that leaves room for the k − 1. A function of the numbers
    of edges and of nothing else.

    Args:
        rowptr: of `filter_edges`.
        row_types: (2 C,) int32, at 2 c the type of centre c.
        packs: OUTPUT (n_blocks · PER_BLOCK, SLOTS) int32, row 2 c of each centre c of a pack, −1 in
            free places; those of a block one after the other, by descending key.
        keys: OUTPUT (n_blocks · PER_BLOCK,) int32, expert · TILES + tile of each pack.
        histogram: OUTPUT (2 TILES, n_blocks) int32, packs by key and block.
        size_first, size_second: most centres of a pack of each expert, up to SLOTS.
    """
    block = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    c = block * PER_BLOCK + lane
    mask = (lane < PER_BLOCK) & (c < n_centres)
    row = rowptr + 2 * c.to(tl.int64)
    ends = tl.load(row + 1, mask=mask, other=0)
    count = (ends - tl.load(row, mask=mask, other=0)).to(tl.int32)
    key = (c >= n_first).to(tl.int32) * TILES + _tile(count, SMALLEST, TILES)
    group = key * n_types + tl.load(row_types + 2 * c.to(tl.int64), mask=mask, other=0)
    # Ranks by group, number of edges and lane are all different; −1 once a centre has its place.
    counted = tl.minimum(count, _COUNTS - 1)
    rank = (group * _COUNTS + counted) * BLOCK + (BLOCK - 1 - lane)
    rank = tl.where(mask, rank, -1)
    known_keys = tl.arange(0, 16)
    tl.static_assert(2 * TILES <= 16)
    tally = tl.zeros([16], tl.int32)
    n_packs = 0
    top = tl.max(rank, 0)
    while top >= 0:
        of_group = top // (_COUNTS * BLOCK)
        of_key = of_group // n_types
        place = block * PER_BLOCK + n_packs
        pack = packs + place.to(tl.int64) * SLOTS
        tl.store(keys + place, of_key)
        tl.store(pack, 2 * (block * PER_BLOCK + BLOCK - 1 - top % BLOCK))
        room = (SMALLEST << (of_key % TILES)) - _count(top, BLOCK)
        rank = tl.where(rank == top, -1, rank)
        more = tl.where(of_key < TILES, size_first, size_second) - 1
        for s in tl.static_range(1, SLOTS):
            # Groups are taken from the last to the first: what ranks above is of this one.
            same = rank >= of_group * _COUNTS * BLOCK
            smallest = tl.min(tl.where(same, counted, _COUNTS), 0)
            fitting = tl.minimum(more, room // tl.maximum(smallest, 1))
            fits = same & (counted <= room - (fitting - 1) * smallest) & (fitting > 0)
            chosen = tl.max(tl.where(fits, rank, -1), 0)
            taken = chosen >= 0
            centre = block * PER_BLOCK + BLOCK - 1 - chosen % BLOCK
            tl.store(pack + s, tl.where(taken, 2 * centre, -1))
            room -= tl.where(taken, _count(chosen, BLOCK), 0)
            rank = tl.where(taken & (rank == chosen), -1, rank)
            more -= 1
        tally += (known_keys == of_key).to(tl.int32)
        n_packs += 1
        top = tl.max(rank, 0)
    tl.store(histogram + known_keys * n_blocks + block, tally, mask=known_keys < 2 * TILES)


@triton.jit
def _count(rank, BLOCK: tl.constexpr):
    """Number of edges of the centre that has a rank."""
    return (rank // BLOCK) % _COUNTS


@triton.jit(do_not_specialize=["n_centres", "n_blocks"])
def list_work(
    packs,
    keys,
    histogram,
    cumulative,
    work,
    work_capacity,
    flags,
    n_centres,
    n_blocks,
    TILES: tl.constexpr,
    SLOTS: tl.constexpr,
    PER_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """List the packs of each key, block by block.

    One program per block of PER_BLOCK centres.

    Args:
        packs, keys, histogram: of `pack_centres`.
        cumulative: (2 TILES, n_blocks) int32, inclusive sums of the histogram over the blocks.
        work: OUTPUT (2 TILES, C, SLOTS) int32, the packs of each key.
        work_capacity: (2 TILES,) int32, packs that the launches of a key evaluate.
        flags: INOUT, WORK_FULL.
    """
    block = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    n_packs = 0
    for k in tl.static_range(2 * TILES):
        n_packs += tl.load(histogram + k * n_blocks + block)
    mask = lane < n_packs
    pack = block * PER_BLOCK + lane
    key = tl.load(keys + pack, mask=mask, other=-1)
    place = tl.zeros([BLOCK], tl.int64)
    for k in tl.static_range(2 * TILES):
        chosen = key == k
        upto = tl.load(cumulative + k * n_blocks + block)
        before = upto - tl.load(histogram + k * n_blocks + block)
        order = before + tl.cumsum(chosen.to(tl.int32), 0) - 1
        place = tl.where(chosen, order.to(tl.int64) + k * n_centres, place)
        over = upto > tl.load(work_capacity + k)
        raise_flag(flags + WORK_FULL, over.to(tl.int32))
    for s in tl.static_range(SLOTS):
        rows = tl.load(packs + pack.to(tl.int64) * SLOTS + s, mask=mask, other=-1)
        tl.store(work + place * SLOTS + s, rows, mask=mask)
