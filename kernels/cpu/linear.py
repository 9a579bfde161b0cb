"""A linear expert on the CPU: blocks of centres, forward and adjoint, in the first-level cache.

What an edge needs lives only as long as its block: from a neighbor list, gathering, evaluation and
scattering are one pass without memory per edge.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duetto.kernels.cpu import linear_blocks as blocks
from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.expert import Chunk, Listener, Workspace
from duetto.kernels.cpu.linear_embedding import edge_gradients, embed
from duetto.kernels.cpu.linear_moments import sum_moments
from duetto.kernels.cpu.linear_polynomial import polynomial
from duetto.kernels.cpu.pairs import stayed
from duetto.kernels.cpu.product import registers
from duetto.kernels.cpu.uncounted import uncounted
from duetto.kernels.cpu.wall import wall_of_centre, wall_of_edges
from duetto.kernels.linear import COMPRESSION, LinearForm, gradient_entries

Array = NDArray[Any]

NEAR_SKIN = 0.2
"""Å by which pairs may be beyond their cutoff and still be looked at in every step."""

MOST_IMAGES = (1 << (blocks.TYPE - blocks.IMAGE)) - 2


@functools.cache
def block_energy(
    dtype: str, lanes: int, species: int, radials: tuple[int, ...], size: int
) -> Callable[..., None]:
    """Compile energies of a block's centres and the gradients of its edges.

    Args of the compiled function:
        type: of the block's centres.
        count: (S, lanes) neighbors of each species.
        shapes: (T, S, 5) see `embed`, and the place of missing neighbors.
        coefficients: linear, quadratic and cubic, see `polynomial`.
        memory: edges (S, K, lanes, 4); OUTPUT unit, R, dR, Y (S, K, any, lanes), gradient as edges,
            A, G (1, M, lanes), gY (1, D, lanes), products (1, P, lanes).
        most: (S,) OUTPUT, vectors of neighbors of each species.
        nearest: (lanes,) OUTPUT, Å², of the nearest neighbor that has moments.
        virial: (6, lanes) OUTPUT, see `edge_gradients`.
        energy: (lanes,) OUTPUT, without the shift.
    """
    l_max = len(radials) - 1
    moments = sum(n * (2 * degree + 1) for degree, n in enumerate(radials))
    fill, embedding = blocks.fill(lanes), embed(dtype, lanes, size, l_max)
    evaluate = polynomial(dtype, lanes, species, radials)
    adjoint = edge_gradients(dtype, lanes, radials)

    @uncounted
    def kernel(
        type: int,
        count: Any,
        shapes: Any,
        coefficients: Any,
        memory: Any,
        most: Any,
        nearest: Any,
        virial: Any,
        energy: Any,
    ) -> None:
        nearest[:], virial[:] = np.inf, 0.0
        edges, unit, R, dR, Y, gradient, A, G, gY, products = memory
        for s in range(count.shape[0]):
            shape = shapes[type, s]
            most[s] = fill(count[s], shape[4], edges[s])
            if most[s] > 0:
                embedding(edges[s], most[s], shape, nearest, unit[s], R[s], dR[s], Y[s])
                sum_moments(radials, lanes, R[s], Y[s], most[s], A, s * moments)
            else:
                A[0, s * moments : (s + 1) * moments] = 0.0
        linear, quadratic, cubic = coefficients
        evaluate(type, A, linear, quadratic, cubic, products, most, energy, G)
        for s in range(count.shape[0]):
            arrays = unit[s], R[s], dR[s], Y[s]
            adjoint(most[s], *arrays, G, s * moments, gY, gradient[s], virial)

    return kernel


@functools.cache
def from_chunk(
    dtype: str, lanes: int, species: int, radials: tuple[int, ...], size: int
) -> Callable[..., None]:
    """Compile what evaluates a chunk of edges, block by block.

    `order` (n,) are the chunk's rows by type and `borders` where each block begins in it; `energy`
    (n,) float64 and `gradient` (E, 3) OUTPUT, zero on entry.
    """
    take, give = blocks.take(lanes), blocks.give(lanes)
    evaluate = block_energy(dtype, lanes, species, radials, size)
    T = np.float32 if dtype == "float32" else np.float64

    @compiled
    def kernel(
        rows: Any,
        pair: Any,
        vectors: Any,
        order: Any,
        borders: Any,
        types: Any,
        species_of: Any,
        shift: Any,
        shapes: Any,
        coefficients: Any,
        memory: Any,
        where: Any,
        energy: Any,
        gradient: Any,
    ) -> None:
        S, num_types = where.shape[0], species_of.shape[0]
        count, most = np.empty((S, lanes), dtype=np.int64), np.empty(S, dtype=np.int64)
        virial = np.empty((6, lanes), dtype=T)
        found, nearest = np.empty(lanes, dtype=T), np.empty(lanes, dtype=T)
        for block in range(borders.shape[0] - 1):
            centres = order[borders[block] : borders[block + 1]]
            t = types[centres[0]]
            take(rows, pair, vectors, centres, num_types, species_of, memory[0], where, count)
            evaluate(t, count, shapes, coefficients, memory, most, nearest, virial, found)
            for lane in range(centres.shape[0]):
                energy[centres[lane]] = np.float64(found[lane]) + shift[t]
            for s in range(S):
                give(count[s], where[s], memory[5][s], gradient)

    return kernel


@functools.cache
def from_list(
    dtype: str,
    lanes: int,
    species: int,
    radials: tuple[int, ...],
    size: int,
    single: bool,
    walled: bool,
) -> Callable[..., None]:
    """Compile what goes from packed slots to forces in one pass.

    `centres` (n,) are atoms by type and `borders` where each block begins among them, `weight` (n,)
    their weights; `wall_reach` (T,) is the squared distance of the nearest neighbor from which on
    a centre of that type meets no wall; `energy` (n,) float64 OUTPUT, not weighted; `forces`
    (any, 4), from atom `low` on, and the virial `sums` (3, 3) ADDED TO.
    """
    T = np.float32 if dtype == "float32" else np.float64
    one_block = _block_from_list(dtype, lanes, species, radials, size, single, walled)

    @compiled
    def kernel(
        positions: Any,
        images: Any,
        rows: Any,
        slots: Any,
        centres: Any,
        borders: Any,
        weight: Any,
        types: Any,
        places: Any,
        wall: Any,
        wall_reach: Any,
        shift: Any,
        shapes: Any,
        coefficients: Any,
        memory: Any,
        where: Any,
        low: int,
        energy: Any,
        forces: Any,
        sums: Any,
    ) -> None:
        S = where.shape[0]
        count, most = np.empty((S, lanes), dtype=np.int64), np.empty(S, dtype=np.int64)
        virial = np.empty((6, lanes), dtype=T)
        found, nearest = np.empty(lanes, dtype=T), np.empty(lanes, dtype=T)
        scratch = (count, most, virial, found, nearest)
        flat = (memory[0].reshape(-1), where.reshape(-1))
        for block in range(borders.shape[0] - 1):
            one_block(
                positions,
                images,
                rows,
                slots,
                centres,
                borders[block],
                borders[block + 1],
                weight,
                types,
                places,
                wall,
                wall_reach,
                shift,
                shapes,
                coefficients,
                memory,
                where,
                flat,
                scratch,
                low,
                energy,
                forces,
                sums,
            )

    return kernel


@functools.cache
def _block_from_list(
    dtype: str,
    lanes: int,
    species: int,
    radials: tuple[int, ...],
    size: int,
    single: bool,
    walled: bool,
) -> Callable[..., None]:
    """Compile `from_list` for the centres from `begin` to `end`, which are one block."""
    gather, scatter = blocks.gather(lanes, single), blocks.scatter(lanes)
    add_virial = blocks.add_virial
    evaluate = block_energy(dtype, lanes, species, radials, size)

    @uncounted
    def kernel(
        positions: Any,
        images: Any,
        rows: Any,
        slots: Any,
        centres: Any,
        begin: int,
        end: int,
        weight: Any,
        types: Any,
        places: Any,
        wall: Any,
        wall_reach: Any,
        shift: Any,
        shapes: Any,
        coefficients: Any,
        memory: Any,
        where: Any,
        flat: Any,
        scratch: Any,
        low: int,
        energy: Any,
        forces: Any,
        sums: Any,
    ) -> None:
        count, most, virial, found, nearest = scratch
        flat_edges, flat_where = flat
        these, shares = centres[begin:end], weight[begin:end]
        t = types[these[0]]
        gather(
            positions,
            images,
            rows,
            slots,
            these,
            begin,
            types,
            places,
            flat_edges,
            flat_where,
            count,
        )
        evaluate(t, count, shapes, coefficients, memory, most, nearest, virial, found)
        for lane in range(end - begin):
            energy[begin + lane] = np.float64(found[lane]) + shift[t]
        add_virial(virial, shares, sums)
        for s in range(where.shape[0]):
            scatter(count[s], where[s], memory[5][s], these, shares, low, forces)
        if walled:
            for lane in range(end - begin):
                if nearest[lane] > wall_reach[t]:
                    continue
                energy[begin + lane] += wall_of_centre(
                    positions,
                    images,
                    slots[rows[begin + lane] : rows[begin + lane + 1]],
                    these[lane],
                    shares[lane],
                    types,
                    wall,
                    low,
                    forces,
                    sums,
                )

    return kernel


class NearSlots:
    """The slots of a share that can come within reach while no atom moves by half of NEAR_SKIN.

    A list holds pairs up to its skin, often twice as many as are within the cutoff. What is left
    out here is beyond every cutoff, and the order stays, so that results do not depend on when the
    slots were chosen.

    Attributes:
        rows, slots: as in `ListShare`.
    """

    def __init__(self, share_rows: Array, share_slots: Array) -> None:
        """Nothing is chosen yet."""
        self._all = share_rows, share_slots
        self.rows, self.slots = np.empty_like(share_rows), np.empty_like(share_slots)
        self._reference = self._images = np.full((0, 4), np.nan)

    def update(
        self, positions: Array, images: Array, centres: Array, types: Array, limits: Array
    ) -> None:
        """Choose again if an atom has moved too far, or the cell has changed.

        Args:
            positions: (A, 4) float64. images: (images, 4) float64.
            centres: (n,) int64. types: (A,) int64.
            limits: (T, T) float64, squared distances up to which slots are kept.
        """
        same = len(positions) == len(self._reference) and np.array_equal(images, self._images)
        if same and stayed(positions, self._reference, (0.5 * NEAR_SKIN) ** 2):
            return
        self._reference, self._images = positions.copy(), images.copy()
        flat, away = positions.reshape(-1), images.reshape(-1)
        blocks.keep_near(flat, away, *self._all, centres, types, limits, self.rows, self.slots)


@dataclass(frozen=True)
class ListShare:
    """Centres that one thread evaluates from a neighbor list.

    Attributes:
        centres: (n,) int64, atoms by type.
        types: (A,) int64, types of all atoms.
        borders: where each block begins among the centres.
        low, high: the atoms that any force goes to are from `low` on and before `high`.
        room: most neighbors of one atom in the list.
        rows, slots: the neighbors, see `linear_blocks.pack_slots`.
        shifts: (images, 3) float64, see `linear_blocks.shifts_of`.
        near: those of the neighbors that are near enough to matter soon.
    """

    centres: Array
    types: Array
    borders: Array
    low: int
    high: int
    room: int
    rows: Array
    slots: Array
    shifts: Array
    near: NearSlots


class CPULinear:
    """A linear expert made ready for chunks of centres, or for neighbor lists, on the CPU."""

    def __init__(self, form: LinearForm, dtype: torch.dtype) -> None:
        """Lay out the coefficients and compile.

        Args:
            form: weights.
            dtype: torch.float32 or torch.float64, of all arithmetic but sums over atoms.
        """
        self.dtype = dtype
        self.listener = Listener()
        self.form = form
        name = "float32" if dtype == torch.float32 else "float64"
        self.lanes = registers().size // dtype.itemsize
        layout = form.layout
        self.cutoff_squared = (form.cutoffs**2).numpy()
        self.species_of = form.species_of.numpy()
        limits = np.where(self.species_of[None] >= 0, self.cutoff_squared, -1.0)
        self._places = (self.species_of, np.ascontiguousarray(limits))
        reach = np.where(self.species_of[None] >= 0, form.cutoffs.numpy(), 0.0)
        if form.wall is not None:
            reach = np.maximum(reach, form.wall.radii.numpy())
        self._near_limits = (reach + NEAR_SKIN) ** 2
        self._shapes = _shapes(form).astype(name)
        self._coefficients = _coefficients(form, name)
        self._shift = form.shift.numpy()
        self._wall = _wall(form)
        self._wall_reach = _wall_reach(form, name)
        arguments = (name, self.lanes, layout.num_species, layout.radials, layout.size)
        self._from_chunk = from_chunk(*arguments)
        self._from_list = from_list(*arguments, form.num_types == 1, form.wall is not None)

    @property
    def numpy_dtype(self) -> Any:
        """The NumPy type of `dtype`."""
        return np.float32 if self.dtype == torch.float32 else np.float64

    @property
    def floats_per_edge(self) -> int:
        """Numbers that a chunk keeps per edge, about: vectors and gradients."""
        return 8

    def evaluate(self, work: Workspace, chunk: Chunk, energy: Array, gradient: Array) -> None:
        """Energies of the chunk's centres and dE/dr_ij of its edges, not weighted.

        Args:
            work: scratch memory of this thread.
            chunk: the edges.
            energy: (n,) float64 OUTPUT, eV.
            gradient: (E, 3) OUTPUT, eV/Å.
        """
        order, borders = self.blocks(chunk.types, np.arange(len(chunk.types)))
        room = int(np.diff(chunk.rows).max(initial=0))
        memory, where = self._memory(work, room)
        gradient[:] = 0.0  # edges to neighbors without moments
        self._from_chunk(
            chunk.rows,
            chunk.pair,
            chunk.vectors,
            order,
            borders,
            chunk.types,
            self.species_of,
            self._shift,
            self._shapes,
            self._coefficients,
            memory,
            where,
            energy,
            gradient,
        )
        if self.form.wall is not None:
            wall_of_edges(chunk.rows, chunk.pair, chunk.vectors, self._wall, energy, gradient)
        self.listener.done("linear/energy_and_gradient")

    def blocks(self, types: Array, centres: Array) -> tuple[Array, Array]:
        """Centres by type, and where each block of one type begins.

        Args:
            types: types of whatever `centres` number.
            centres: (n,) int64.
        """
        kinds = types[centres]
        order = np.argsort(kinds, kind="stable")
        ends = np.cumsum(np.bincount(kinds, minlength=1))
        begins = np.concatenate([[0], ends[:-1]])
        borders = [np.arange(a, b, self.lanes) for a, b in zip(begins, ends, strict=True)]
        return centres[order], np.append(np.concatenate(borders), len(centres)).astype(np.int64)

    def share(
        self,
        centres: Array,
        types: Array,
        first: Array,
        neighbor: Array,
        shift: Array,
    ) -> ListShare | None:
        """Prepare centres of a neighbor list for `add_forces`, as long as the list is the same.

        Args:
            centres: (n,) int64, n ≥ 1, atoms in the order of their types, see `blocks`.
            types: (A,) int64.
            first, neighbor, shift: see `edges.gather_edges`.

        Returns:
            None where neighbors are in more images of the cell than a slot can tell apart.
        """
        _, borders = self.blocks(types, centres)
        rows = np.empty(len(centres) + 1, dtype=np.int64)
        slots = np.empty(int(np.diff(first)[centres].sum()), dtype=np.int64)
        least = shift.min(axis=0, initial=0).astype(np.int64)
        span = shift.max(axis=0, initial=0).astype(np.int64) - least + 1
        if span.prod() > MOST_IMAGES:
            return None
        found = blocks.pack_slots(centres, first, neighbor, shift, types, least, span, rows, slots)
        slots = slots[:found]
        others = slots & 0xFFFFFFFF
        low = int(min(centres.min(), others.min(initial=centres[0])))
        high = int(max(centres.max(), others.max(initial=centres[0]))) + 1
        room = int(np.diff(rows).max())
        near = NearSlots(rows, slots)
        shifts = blocks.shifts_of(least, span)
        return ListShare(centres, types, borders, low, high, room, rows, slots, shifts, near)

    def add_forces(
        self,
        work: Workspace,
        positions: Array,
        cell: Array,
        share: ListShare,
        weight: Array,
        energy: Array,
        forces: Array,
        virial: Array,
    ) -> None:
        """From a neighbor list to forces in one pass, without memory per edge.

        Args:
            work: scratch memory of this thread.
            positions: (A, 4) float64, x, y, z and nothing, Å.
            cell: (3, 3) float64, rows are the cell's vectors, Å.
            share: the centres and their neighbors.
            weight: (n,) float64, of the centres' energies.
            energy: (n,) float64 OUTPUT, eV, not weighted.
            forces: (high − low, 4) float64, eV/Å, weighted, ADDED TO.
            virial: (3, 3) float64, eV, weighted, ADDED TO.
        """
        memory, where = self._memory(work, share.room)
        images = np.zeros((len(share.shifts), 4))
        images[:, :3] = share.shifts @ cell
        share.near.update(positions, images, share.centres, share.types, self._near_limits)
        self._from_list(
            positions.reshape(-1),
            images.reshape(-1),
            share.near.rows,
            share.near.slots,
            share.centres,
            share.borders,
            weight,
            share.types,
            self._places,
            self._wall,
            self._wall_reach,
            self._shift,
            self._shapes,
            self._coefficients,
            memory,
            where,
            share.low,
            energy,
            forces,
            virial,
        )
        self.listener.done("linear/one_pass")

    def _memory(self, work: Workspace, room: int) -> tuple[tuple[Array, ...], Array]:
        """Scratch of one block whose centres have up to `room` neighbors of a species."""
        layout, L = self.form.layout, self.lanes
        S, K = layout.num_species, room + 1  # one more, for what is written and not counted
        D, M = len(layout.radials) ** 2, layout.num_moments
        alone = {"A": M, "G": M, "gY": D, "products": len(self._coefficients[2][2])}
        widths = {"unit": 5, "R": layout.size, "dR": layout.size, "Y": D}
        memory = [
            work("linear edges", S, K, L, 4),
            *(work(f"linear {key}", S, K, width, L) for key, width in widths.items()),
            work("linear gradient", S, K, L, 4),
            *(work(f"linear {key}", 1, size, L) for key, size in alone.items()),
        ]
        return tuple(memory), np.empty((S, K, L), dtype=np.int64)


def _shapes(form: LinearForm) -> Array:
    """(T, S, 5) what `embed` and `fill` take: see `duetto.kernels.linear.radial_functions`."""
    of_species = [
        int((form.species_of == s).nonzero()[0, 0]) for s in range(form.layout.num_species)
    ]
    cutoff, inner = form.cutoffs[:, of_species], form.inner[:, of_species]
    lowest = (inner - 0.5 * COMPRESSION) / cutoff
    steepness = 2.0 / (1.0 - lowest)
    offset = -(1.0 + lowest) / (1.0 - lowest)
    columns = (1.0 / cutoff, inner, steepness, offset, blocks.BEYOND * cutoff)
    return torch.stack(columns, dim=2).numpy()


def _coefficients(form: LinearForm, name: str) -> tuple[Any, ...]:
    """Linear, quadratic and cubic coefficients as `polynomial` takes them."""
    rows, factors, values = gradient_entries(form, 3)
    moments = torch.unique(rows)
    begin = torch.searchsorted(rows, torch.cat([moments, moments.new_tensor([1 << 62])]))
    pairs, entries = torch.unique(factors, dim=0, return_inverse=True)
    cubic = (moments, begin, pairs.reshape(-1, 2), entries, values)
    return (
        form.c1.numpy().astype(name),
        tuple(_plain(matrix, name) for matrix in _quadratic(form)),
        tuple(_plain(tensor, name) for tensor in cubic),
    )


def _quadratic(form: LinearForm) -> list[torch.Tensor]:
    """(T, V, V) by degree 0 … 3, see `linear_polynomial.degree`; empty beyond l_max."""
    layout = form.layout
    rows, factors, values = gradient_entries(form, 2)
    entries = torch.column_stack([rows, factors]).tolist()
    column = {(a, b): k for k, (a, b) in enumerate(entries)}
    matrices = []
    for degree in range(4):
        size = layout.radials[degree] if degree <= layout.l_max else 0
        channels = [(s, n) for s in range(layout.num_species) for n in range(size)]
        matrix = torch.zeros(form.num_types, len(channels), len(channels), dtype=torch.float64)
        for v, left in enumerate(channels):
            for w, right in enumerate(channels):
                places = [
                    column.pop(
                        (layout.index(*left, degree, m), layout.index(*right, degree, m)), -1
                    )
                    for m in range(2 * degree + 1)
                ]
                if places[0] >= 0:
                    matrix[:, v, w] = values[:, places[0]]
                    assert bool((values[:, places] == matrix[:, v, w, None]).all())
        matrices.append(matrix)
    assert not column, "products of two moments couple equal degrees and components"
    return matrices


def _plain(tensor: torch.Tensor, name: str) -> Array:
    array = tensor.contiguous().numpy()
    return array.astype(name) if tensor.is_floating_point() else array


def _wall(form: LinearForm) -> tuple[Array, Array, float]:
    """Atomic numbers, radii and exponent of the wall; no radius where there is none."""
    T = form.num_types
    if form.wall is None:
        return np.zeros(T, dtype=np.int64), np.zeros((T, T)), 6.0
    return form.wall.pair.atomic_numbers.numpy(), form.wall.radii.numpy(), float(form.wall.pair.p)


def _wall_reach(form: LinearForm, name: str) -> Array:
    """(T,) Å², squared distance of the nearest neighbor with moments beyond which is no wall.

    Infinity where a neighbor without moments, whose distance nobody takes, may have one.
    """
    if form.wall is None:
        return np.zeros(form.num_types, dtype=name)
    radii = form.wall.radii.numpy()
    reach = np.where(form.species_of.numpy()[None] >= 0, radii, np.where(radii > 0, np.inf, 0.0))
    # Wider by what the squared distance, a sum of three rounded products, may be off.
    margin = 1.0 + 16.0 * float(np.finfo(name).eps)
    return (reach.max(axis=1) ** 2 * margin).astype(name)
