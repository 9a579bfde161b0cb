"""From atoms to blocks of centres and back, for linear experts.

A block holds up to `lanes` centres of one type, one to a lane of a vector register. The k-th
neighbor of species s of the centre in lane v stands in edges[s, k, v]; `count` says how many there
are, and the lanes that have no k-th neighbor hold one beyond the cutoff. Whatever belongs to an
atom or an edge is four numbers, x, y, z and nothing, so that one instruction takes them all.
Letters as in `duetto.kernels.linear`; K is the room for neighbors of one species.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.uncounted import uncounted
from duetto.kernels.cpu.vector import (
    add,
    doubled,
    load,
    multiply,
    splat,
    store,
    store_as,
    subtract,
    total,
)

BEYOND = 1.0625
"""Where neighbors that are not there stand, in cutoffs."""


IMAGE = 32
TYPE = 48
"""From which bit on a slot tells the neighbor's image and type; below is its index."""


@compiled
def pack_slots(
    centres: Any,
    first: Any,
    neighbor: Any,
    shift: Any,
    types: Any,
    low: Any,
    span: Any,
    rows: Any,
    slots: Any,
) -> int:
    """A neighbor list's rows of some centres, each neighbor in one number; return how many.

    Neighbors of a species that the expert does not know (type −1) are left out.

    Args:
        centres: (n,) int64, atoms.
        first, neighbor, shift: as in `edges.gather_edges`.
        types: (A,) int64.
        low, span: (3,) int64, least shift along each axis and how many there are.
        rows: (n + 1,) int64 OUTPUT, where each centre's slots begin.
        slots: (list,) int64 OUTPUT: index, image (see `shifts_of`) and type.
    """
    zero = ((0 - low[0]) * span[1] - low[1]) * span[2] - low[2]
    to = 0
    for row in range(centres.shape[0]):
        rows[row] = to
        for k in range(first[centres[row]], first[centres[row] + 1]):
            a, b, c = shift[k, 0], shift[k, 1], shift[k, 2]
            image = ((a - low[0]) * span[1] + b - low[1]) * span[2] + c - low[2]
            image = 0 if image == zero else image + 1
            j = np.int64(neighbor[k])
            if types[j] >= 0:
                slots[to] = j | (np.int64(image) << IMAGE) | (types[j] << TYPE)
                to += 1
    rows[centres.shape[0]] = to
    return to


@compiled
def keep_near(
    positions: Any,
    images: Any,
    rows: Any,
    slots: Any,
    centres: Any,
    types: Any,
    limits: Any,
    near_rows: Any,
    near_slots: Any,
) -> None:
    """Slots whose neighbors are within a distance, in their order.

    Args:
        positions, images, rows, slots, centres, types: as in `gather`, of all centres of a share.
        limits: (T, T) float64, squared distances by the types of centre and neighbor.
        near_rows, near_slots: OUTPUT, as `rows` and `slots`.
    """
    to = 0
    for row in range(centres.shape[0]):
        near_rows[row] = to
        i = centres[row]
        for place in range(rows[row], rows[row + 1]):
            slot = slots[place]
            j, image = slot & 0xFFFFFFFF, (slot >> IMAGE) & 0xFFFF
            square = 0.0
            for axis in range(3):
                away = positions[4 * j + axis] - positions[4 * i + axis] + images[4 * image + axis]
                square += away * away
            near_slots[to] = slot
            to += square < limits[types[i], slot >> TYPE]
    near_rows[centres.shape[0]] = to


def shifts_of(low: Any, span: Any) -> Any:
    """(images, 3) float64: by how many cell vectors each image is away, as `pack_slots` counts."""
    shifts = np.stack(np.meshgrid(*map(np.arange, low, low + span), indexing="ij"), axis=-1)
    return np.concatenate([np.zeros((1, 3)), shifts.reshape(-1, 3)])


@functools.cache
def gather(lanes: int, single: bool) -> Callable[..., None]:
    """Compile what finds the neighbors within the cutoff among packed slots.

    Differences of positions are taken in double precision and stored in that of `edges`.

    Args:
        lanes: centres of a block.
        single: whether there is one type only, whose neighbors need not be told apart.

    Args of the compiled function:
        positions: (4 A,) float64.
        images: (4 images,) float64.
        rows, slots: see `pack_slots`.
        centres: (n,) int64, n ≤ lanes, of one type.
        begin: row of the first centre.
        types: (A,) int64.
        places: species_of (T,) int64 and the squared cutoffs (T, T) float64, negative where a
            neighbor has no moments.
        edges: (S K lanes 4,) OUTPUT.
        where: (S K lanes,) int64 OUTPUT, the neighbor's index.
        count: (S, lanes) int64 OUTPUT.
    """
    of_one_species, of_several = _gather_alike(lanes), _gather_apart(lanes)

    @uncounted
    def kernel(
        positions: Any,
        images: Any,
        rows: Any,
        slots: Any,
        centres: Any,
        begin: int,
        types: Any,
        places: Any,
        edges: Any,
        where: Any,
        count: Any,
    ) -> None:
        species_of, limits = places
        room = where.shape[0] // (count.shape[0] * lanes)
        count[:] = 0
        for lane in range(centres.shape[0]):
            i = centres[lane]
            ti = types[i]
            here = load(4, positions, (4 * i,))
            first, last = np.uint64(rows[begin + lane]), np.uint64(rows[begin + lane + 1])
            among = positions, images, slots, first, last, here
            if single:
                count[0, lane] = of_one_species(among, limits[ti, ti], lane, edges, where)
            else:
                of_several(among, limits[ti], species_of, lane, room, edges, where, count)

    return kernel


@functools.cache
def _gather_alike(lanes: int) -> Callable[..., int]:
    """Compile `gather` of one centre whose neighbors are all of one species; it returns how many.

    Four slots at a time, so that their distances are compared side by side.
    """
    step = np.uint64(lanes)

    @uncounted
    def kernel(among: Any, limit: float, lane: int, edges: Any, where: Any) -> Any:
        positions, images, slots, first, last, here = among
        to, one, limits = np.uint64(lane), np.uint64(1), splat(4, limit)
        two, three, four = np.uint64(2), np.uint64(3), np.uint64(4)
        for place in range(first, last, four):
            # Beyond the last is the last again, which then does not count.
            left = last - place - one
            ja, away_a = away(positions, images, slots[place], here)
            jb, away_b = away(positions, images, slots[place + min(left, one)], here)
            jc, away_c = away(positions, images, slots[place + min(left, two)], here)
            jd, away_d = away(positions, images, slots[place + min(left, three)], here)
            near = which_are_below(
                multiply(away_a, away_a),
                multiply(away_b, away_b),
                multiply(away_c, away_c),
                multiply(away_d, away_d),
                limits,
            )
            near &= (one << (min(left, three) + one)) - one
            # Written whether it is near or not, and overwritten if not: the processor could not
            # foretell a branch here.
            store_as(edges, (four * to,), away_a)
            where[to] = ja
            to += step * (near & one)
            store_as(edges, (four * to,), away_b)
            where[to] = jb
            to += step * ((near >> one) & one)
            store_as(edges, (four * to,), away_c)
            where[to] = jc
            to += step * ((near >> two) & one)
            store_as(edges, (four * to,), away_d)
            where[to] = jd
            to += step * (near >> three)
        return np.int64(to) // lanes

    return kernel


@uncounted
def away(positions: Any, images: Any, slot: int, here: Any) -> Any:
    """A slot's neighbor, and where it is, seen from `here`."""
    j = np.int64(slot & 0xFFFFFFFF)
    apart = subtract(load(4, positions, (4 * j,)), here)
    return j, add(apart, load(4, images, (4 * ((slot >> IMAGE) & 0xFFFF),)))


@functools.cache
def _gather_apart(lanes: int) -> Callable[..., None]:
    """Compile `gather` of one centre whose neighbors are told apart by their types."""

    @uncounted
    def kernel(
        among: Any,
        limits: Any,
        species_of: Any,
        lane: int,
        room: int,
        edges: Any,
        where: Any,
        count: Any,
    ) -> None:
        positions, images, slots, first, last, here = among
        for place in range(first, last):
            slot = slots[place]
            j, apart = away(positions, images, slot, here)
            tj = slot >> TYPE
            s = max(species_of[tj], 0)
            to = np.uint64((s * room + count[s, lane]) * lanes + lane)
            store_as(edges, (np.uint64(4) * to,), apart)
            where[to] = j
            count[s, lane] += total(multiply(apart, apart)) < limits[tj]

    return kernel


@intrinsic
def which_are_below(typingctx: Any, a: Any, b: Any, c: Any, d: Any, limits: Any) -> Any:
    """Whether the sum of each vector's elements is below its limit, as the bits of a number.

    Four vectors of four; `limits` is a vector of four, too.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a_and_b, c_and_d = _halves(builder, *args[:2]), _halves(builder, *args[2:4])
        even, odd = [0, 2, 4, 6], [1, 3, 5, 7]
        sums = builder.fadd(
            _chosen(builder, a_and_b, c_and_d, even), _chosen(builder, a_and_b, c_and_d, odd)
        )
        bits = builder.fcmp_ordered("<", sums, args[4])
        return builder.zext(builder.bitcast(bits, ir.IntType(4)), ir.IntType(64))

    return types.uint64(a, b, c, d, limits), codegen


def _halves(builder: Any, a: Any, b: Any) -> Any:
    """a₀ + a₂, a₁ + a₃, b₀ + b₂, b₁ + b₃, as LLVM instructions."""
    return builder.fadd(_chosen(builder, a, b, [0, 1, 4, 5]), _chosen(builder, a, b, [2, 3, 6, 7]))


def _chosen(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), places))


@functools.cache
def take(lanes: int) -> Callable[..., None]:
    """Compile `take(rows, pair, vectors, centres, num_types, species_of, edges, where, count)`.

    As `gather`, from the edges of a chunk: `rows` (n + 1,), `pair` (E,), `vectors` (E, 3);
    `centres` (≤ lanes,) are rows of the chunk and `where` holds edges.
    """

    @uncounted
    def kernel(
        rows: Any,
        pair: Any,
        vectors: Any,
        centres: Any,
        num_types: int,
        species_of: Any,
        edges: Any,
        where: Any,
        count: Any,
    ) -> None:
        count[:] = 0
        for lane in range(centres.shape[0]):
            row = centres[lane]
            for e in range(rows[row], rows[row + 1]):
                s = species_of[pair[e] % num_types]
                if s >= 0:
                    found = count[s, lane]
                    for axis in range(3):
                        edges[s, found, lane, axis] = vectors[e, axis]
                    where[s, found, lane] = e
                    count[s, lane] = found + 1

    return kernel


@functools.cache
def fill(lanes: int) -> Callable[..., int]:
    """Compile `fill(count, far, edges)`: complete vectors; return how many there are.

    `count` (lanes,) and `edges` (K, lanes, 4) of one species; `far` is a distance beyond the
    cutoff.
    """

    @uncounted
    def kernel(count: Any, far: Any, edges: Any) -> int:
        most = 0
        for lane in range(lanes):
            most = max(most, count[lane])
        for lane in range(lanes):
            for k in range(count[lane], most):
                edges[k, lane, 0] = far
                edges[k, lane, 1] = 0.0
                edges[k, lane, 2] = 0.0
        return most

    return kernel


@functools.cache
def scatter(lanes: int) -> Callable[..., None]:
    """Compile `scatter(count, where, gradient, centres, weight, low, forces)`.

    F_i += w_i Σ_j g_ij and F_j −= w_i g_ij in double precision, one centre after the other in the
    order of its neighbors.

    Args of the compiled function:
        count: (lanes,); where: (K, lanes); gradient: (K, lanes, 4), of one species.
        centres, weight: (≤ lanes,).
        low: the atom whose force stands first in `forces`.
        forces: (any, 4) float64, ADDED TO.
    """

    @uncounted
    def kernel(
        count: Any,
        where: Any,
        gradient: Any,
        centres: Any,
        weight: Any,
        low: int,
        forces: Any,
    ) -> None:
        for lane in range(centres.shape[0]):
            share, own = splat(4, weight[lane]), splat(4, 0.0)
            for k in range(count[lane]):
                pull = multiply(share, doubled(load(4, gradient, (k, lane, 0))))
                j = where[k, lane] - low
                store(forces, (j, 0), subtract(load(4, forces, (j, 0)), pull))
                own = add(own, pull)
            i = centres[lane] - low
            store(forces, (i, 0), add(load(4, forces, (i, 0)), own))

    return kernel


@functools.cache
def give(lanes: int) -> Callable[..., None]:
    """Compile `give(count, where, block, gradient)`: the block's gradients to a chunk's (E, 3)."""

    @uncounted
    def kernel(count: Any, where: Any, block: Any, gradient: Any) -> None:
        for lane in range(lanes):
            for k in range(count[lane]):
                for axis in range(3):
                    gradient[where[k, lane], axis] = block[k, lane, axis]

    return kernel


@uncounted
def add_virial(per_centre: Any, weight: Any, sums: Any) -> None:
    """sums −= w_i Σ_j r_ij ⊗ g_ij, in double precision.

    Args:
        per_centre: (6, lanes) Σ_j r_ij ⊗ g_ij as xx, yy, zz, yz, xz, xy.
        weight: (≤ lanes,) float64.
        sums: (3, 3) float64, ADDED TO.
    """
    for place, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        found = 0.0
        for lane in range(weight.shape[0]):
            found += weight[lane] * np.float64(per_centre[place, lane])
        sums[a, b] -= found
        if a != b:
            sums[b, a] -= found
