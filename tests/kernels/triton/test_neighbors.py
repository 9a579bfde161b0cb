"""The list of candidates and edges against ASE's neighbour list."""

from __future__ import annotations

from collections import defaultdict

import ase.neighborlist
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.edges import list_work, pack_centres
from duetto.kernels.triton.expert_launch import pack_tile
from duetto.kernels.triton.expert_spec import SLOTS
from duetto.kernels.triton.grid import plan_grid
from duetto.kernels.triton.neighbor_list import (
    CENTRES_PER_BLOCK,
    N_TILES,
    SMALLEST_TILE,
    CapacityError,
    DeviceNeighborList,
)
from duetto.kernels.triton.neighbors import EMPTY, order_cells
from tests.kernels.triton.awkward_cells import CUTOFF, awkward_cells

CELLS = awkward_cells()
SKIN = 0.4


def new_list(
    atoms: Atoms, device: str, cutoff: float = CUTOFF, dtype: torch.dtype = torch.float64
) -> DeviceNeighborList:
    types = torch.zeros(2, len(atoms), dtype=torch.int32, device=device)
    cutoffs = torch.full((2, 1, 1), cutoff, dtype=torch.float64)
    pbc = tuple(bool(p) for p in atoms.pbc)
    return DeviceNeighborList(types, cutoffs, pbc, skin=SKIN, dtype=dtype)


def geometry(atoms: Atoms, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(atoms.positions, device=device), torch.tensor(atoms.cell.array)


def built(atoms: Atoms, device: str, **options: object) -> DeviceNeighborList:
    neighbors = new_list(atoms, device, **options)
    neighbors.build(*geometry(atoms, device))
    return neighbors


def candidates(neighbors: DeviceNeighborList) -> list[tuple[int, ...]]:
    """(i, j, S) of the list, in its order."""
    i, j, S = neighbors.candidates()
    return list(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))


def edge_rows(neighbors: DeviceNeighborList, centre: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and vectors of one centre."""
    edges = neighbors.edges()
    first, last = edges.rowptr[2 * centre : 2 * centre + 2].tolist()
    return edges.neighbors[first:last].cpu().numpy(), edges.vectors[:, first:last].T.cpu().numpy()


def check_edges(neighbors: DeviceNeighborList, atoms: Atoms, cutoff: float, atol: float) -> None:
    """The edges of every centre are ASE's, vectors within atol."""
    i, j, D = ase.neighborlist.neighbor_list("ijD", atoms, cutoff)
    for c, atom in enumerate(neighbors.centre_atoms.tolist()):
        got_j, got_D = edge_rows(neighbors, c)
        # Rounding in the last bits must not decide the order in which vectors are compared.
        order = np.lexsort((*np.round(got_D, 5).T, got_j))
        expected = np.lexsort((*np.round(D[i == atom], 5).T, j[i == atom]))
        np.testing.assert_array_equal(got_j[order], j[i == atom][expected])
        np.testing.assert_allclose(got_D[order], D[i == atom][expected], rtol=0, atol=atol)


@pytest.mark.parametrize("name", CELLS)
def test_equals_ase(name: str, device: str) -> None:
    atoms = CELLS[name]
    neighbors = built(atoms, device)
    i, j, S = ase.neighborlist.neighbor_list("ijS", atoms, CUTOFF + SKIN)
    expected = sorted(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))
    assert sorted(candidates(neighbors)) == expected
    scale = np.abs(atoms.positions).max() + CUTOFF
    check_edges(neighbors, atoms, CUTOFF, atol=8 * np.finfo(float).eps * scale)


@pytest.mark.parametrize("name", CELLS)
def test_reference_equals_ase(name: str) -> None:
    atoms = CELLS[name]
    distances = torch.full((len(atoms), len(atoms)), CUTOFF, dtype=torch.float64)
    i, j, S = reference.search_candidates(
        *geometry(atoms, "cpu"), tuple(bool(p) for p in atoms.pbc), distances
    )
    expected = ase.neighborlist.neighbor_list("ijS", atoms, CUTOFF)
    order = np.lexsort((*expected[2].T[::-1], expected[1], expected[0]))
    for got, wanted in zip((i, j, S), expected, strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted[order])


def test_cells_are_awkward() -> None:
    """The set holds what it is meant to hold: few cells and many, open axes, far atoms."""
    assert len(CELLS) >= 20
    grids = [
        plan_grid(*geometry(a, "cpu"), tuple(bool(p) for p in a.pbc), CUTOFF + SKIN)
        for a in CELLS.values()
    ]
    assert any(min(g.shape) >= 2 and g.n_cells >= 8 for g in grids)
    assert any(max(g.reach) >= 3 for g in grids)
    assert any(g.shape == (1, 1, 1) and g.reach == (0, 0, 0) for g in grids)


def test_list_does_not_depend_on_slots(device: str) -> None:
    """Whatever slots the atomics hand out, ordered cells are the same."""
    slots = torch.tensor([[7, 3, 9, -1], [5, -1, -1, -1], [2, 0, 8, 1]], dtype=torch.int32)
    counts = torch.tensor([3, 1, 4], dtype=torch.int32, device=device)
    cells = torch.full_like(slots, -7).to(device)
    order_cells[(2,)](slots.to(device), counts, cells, 3, CAPACITY=4, CELLS=2)
    empty = EMPTY.value
    assert cells.tolist() == [[3, 7, 9, empty], [5, empty, empty, empty], [0, 1, 2, 8]]


def test_repeats(device: str) -> None:
    first, second = (built(CELLS["hexagonal"], device) for _ in range(2))
    assert candidates(first) == candidates(second)


@pytest.mark.parametrize("name", ["slab", "open first axis", "no cell", "rod"])
def test_rebuilt_equals_built_anew_on_open_axes(name: str, device: str) -> None:
    """Atoms that spread along an open axis: a grid of then, and one that is planned for now."""
    rng = np.random.default_rng(4)
    atoms = CELLS[name].repeat([2 if periodic else 1 for periodic in CELLS[name].pbc])
    atoms = atoms[rng.permutation(len(atoms))]
    kept = built(atoms, device)
    open_axes = ~np.array(atoms.pbc)
    atoms.positions[:, open_axes] *= 2.4
    atoms.positions += rng.normal(0.0, 0.3, atoms.positions.shape)
    positions, _ = geometry(atoms, device)
    kept.rebuild(positions)
    kept.update(positions)
    anew = built(atoms, device)
    assert kept._grid.shape != anew._grid.shape
    assert candidates(kept) == candidates(anew)
    assert candidates(kept) == sorted(candidates(kept))
    for field in ("rowptr", "row_types"):
        assert torch.equal(getattr(kept.edges(), field), getattr(anew.edges(), field))
    for c in range(kept.n_centres):
        for one, other in zip(edge_rows(kept, c), edge_rows(anew, c), strict=True):
            np.testing.assert_array_equal(one, other)


def test_skin_covers_small_moves(device: str) -> None:
    atoms = CELLS["sheared"].copy()
    neighbors = built(atoms, device)
    step = np.random.default_rng(1).normal(size=(len(atoms), 3))
    step *= 0.99 * SKIN / 2 / np.linalg.norm(step, axis=1)[:, None]
    atoms.positions += step
    positions, _ = geometry(atoms, device)
    neighbors.check_displacements(positions)
    neighbors.update(positions)
    raised = neighbors.flags.tolist()
    assert raised[flag.MOVED.value] == 0
    assert raised[flag.MOVING.value] == 1
    assert neighbors.n_rebuilds == 1
    check_edges(neighbors, atoms, CUTOFF, atol=1e-13)


@pytest.mark.parametrize("move", [1.01 * SKIN / 2, np.nan])
def test_large_moves_are_flagged(move: float, device: str) -> None:
    atoms = CELLS["slab"].copy()
    neighbors = built(atoms, device)
    atoms.positions[-1, 1] += move
    neighbors.check_displacements(geometry(atoms, device)[0])
    assert neighbors.flags[flag.MOVED.value] == 1
    assert neighbors.flags[flag.MOVING.value] == 1


def test_float32_vectors_are_rounded_once(device: str) -> None:
    """Far from the origin a difference of float32 positions would be off by 1e-4 Å."""
    atoms = CELLS["sheared"].copy()
    atoms.positions += 4096.0
    neighbors = built(atoms, device, dtype=torch.float32)
    check_edges(neighbors, atoms, CUTOFF, atol=0.5 * CUTOFF * np.finfo(np.float32).eps + 1e-11)


def poisoned(buffer: torch.Tensor, keep: int, value: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A buffer of `keep` places at the front of a larger one filled with `value`."""
    whole = torch.full_like(buffer, value)
    return whole[:keep], whole[keep:]


def test_overflow_is_flagged_and_nothing_is_written_beyond(device: str) -> None:
    atoms = CELLS["hexagonal"]
    neighbors = built(atoms, device)
    neighbors._candidates, beyond_j = poisoned(neighbors._candidates, 37, -7)
    neighbors._shifts, beyond_shift = poisoned(neighbors._shifts, 37, -7)
    neighbors._neighbors, beyond_found = poisoned(neighbors._neighbors, 37, -7)
    neighbors._found_shifts, beyond_found_shift = poisoned(neighbors._found_shifts, 37, -7)
    positions, _ = geometry(atoms, device)
    neighbors.rebuild(positions)
    neighbors.update(positions)
    assert neighbors.flags[flag.LIST_FULL.value] == 1
    for beyond in (beyond_j, beyond_shift, beyond_found, beyond_found_shift):
        assert (beyond == -7).all()


@pytest.mark.parametrize("what", ["candidates", "cells", "work"])
def test_build_outgrows_overflow(what: str, device: str) -> None:
    atoms = CELLS["hexagonal"]
    neighbors = new_list(atoms, device)
    if what == "candidates":
        neighbors._allocate_edges(3)
    elif what == "cells":
        neighbors._cell_capacity = 1
    else:
        neighbors.build(*geometry(atoms, device))
        neighbors._work_capacity.fill_(1)
        neighbors._work_capacities = (1,) * (2 * N_TILES)
    generation = neighbors.generation
    neighbors.build(*geometry(atoms, device))
    assert neighbors.generation > generation
    assert not neighbors.flags.any()
    check_edges(neighbors, atoms, CUTOFF, atol=1e-14)


def test_too_many_edges_are_refused(device: str) -> None:
    crowd = Atoms("Pt", cell=[2.0, 2.0, 2.0], pbc=True)
    with pytest.raises(CapacityError, match=r"has \d+ neighbours .* at most 256"):
        built(crowd, device, cutoff=8.6)


@pytest.mark.parametrize("cells", [2**20, 2**31, 10**9])
@pytest.mark.parametrize("name", ["sheared", "outside a slab"])
def test_any_lattice_translation_gives_the_same_edges(name: str, cells: int, device: str) -> None:
    """To the rounding of the coordinates: half a unit in the last place of the farthest each."""
    atoms = CELLS[name].copy()
    here = sorted_edges(built(atoms, device), len(atoms))
    rng = np.random.default_rng(2)
    jumps = rng.choice([-cells, -1, 0, 1, cells], (len(atoms), 3)) * atoms.pbc
    jumps[0] = cells * atoms.pbc
    atoms.positions += jumps @ atoms.cell.array
    neighbors = built(atoms, device)
    there = sorted_edges(neighbors, len(atoms))
    assert [row[:2] for row in there] == [row[:2] for row in here]
    # Where atoms are, and so how long an edge is, is known to the rounding of the coordinates.
    farthest = np.abs(atoms.positions).max() + 3 * cells * np.abs(atoms.cell.array).max()
    lengths = np.array([row[2] for row in there]) - np.array([row[2] for row in here])
    assert np.abs(lengths).max() <= 8 * np.spacing(farthest)
    # The list on the host is that of the device.
    i, j, S = neighbors.candidates()
    vectors = atoms.positions[j] - atoms.positions[i] + S @ atoms.cell.array
    longest = np.linalg.norm(vectors, axis=1).max()
    assert longest <= CUTOFF + SKIN + 8 * np.spacing(farthest)


def sorted_edges(neighbors: DeviceNeighborList, n_atoms: int) -> list[tuple[int, int, float]]:
    rows = []
    for atom in range(n_atoms):
        j, vectors = edge_rows(neighbors, atom)
        lengths = np.linalg.norm(vectors, axis=1)
        rows += [(atom, *row) for row in zip(j.tolist(), lengths.tolist(), strict=True)]
    return sorted(rows)


def test_positions_too_far_to_be_resolved_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beyond 1e\+12"):
        plan_grid(torch.full((1, 3), 1e13).double(), torch.eye(3).double(), (True,) * 3, 0.5)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros((3, 3)), "zero or parallel"),
        (np.array([[1, 0, 0], [2, 0, 0], [0, 0, 1.0]]), "zero or parallel"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_bad_cells_are_refused(cell: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_grid(torch.zeros(1, 3).double(), torch.tensor(cell), (True, True, True), 3.0)


def test_two_experts_have_lists_of_their_own(device: str) -> None:
    """Different cutoffs per expert and pair of types; a blend atom is a centre of both."""
    atoms = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    atoms.rattle(0.1, seed=5)
    is_cl = np.array(atoms.get_chemical_symbols()) == "Cl"
    # The second expert numbers the species the other way round.
    types = torch.tensor(np.array([is_cl, ~is_cl]).astype(np.int32), device=device)
    cutoffs = torch.tensor([[[4.1, 3.3], [2.9, 3.9]], [[2.8, 3.0], [3.1, 3.7]]])
    neighbors = DeviceNeighborList(types, cutoffs, (True,) * 3, skin=SKIN, dtype=torch.float64)
    centres = torch.tensor([0, 2, 5]), torch.tensor([1, 2, 3, 4, 5, 6, 7])
    neighbors.set_centres(*centres)
    neighbors.build(*geometry(atoms, device))
    symbols = np.array(["Na", "Cl"])
    edges = neighbors.edges()
    for c, atom in enumerate(torch.cat(centres).tolist()):
        expert = int(c >= 3)
        order = symbols if expert == 0 else symbols[::-1]
        i, j, d = ase.neighborlist.neighbor_list("ijd", atoms, 4.2)
        own = types[expert].cpu().numpy()
        near = (i == atom) & (d < cutoffs[expert].numpy()[own[i], own[j]])
        got, _ = edge_rows(neighbors, c)
        np.testing.assert_array_equal(np.sort(got), np.sort(j[near]))
        assert order[int(edges.row_types[2 * c])] == atoms[atom].symbol
        first = int(edges.rowptr[2 * c])
        got_types = edges.neighbor_types[first : first + len(got)].cpu().numpy()
        np.testing.assert_array_equal(got_types, own[got])
    check_work(neighbors)


def check_work(neighbors: DeviceNeighborList) -> None:
    """The packs are those of the plain algorithm, and the launches are ready for them."""
    edges = neighbors.edges()
    rowptr = edges.rowptr.cpu()
    counts = (rowptr[1::2] - rowptr[:-1:2]).tolist()
    types = edges.row_types[::2].tolist()
    expected = packed(counts, types, neighbors.n_first, neighbors.pack_sizes)
    for key, packs in enumerate(expected):
        n = int(edges.work_count[key])
        assert edges.work[key, :n].tolist() == packs
        assert n <= edges.work_capacity[key]


def packed(
    counts: list[int], types: list[int], n_first: int, sizes: tuple[int, int]
) -> list[list[list[int]]]:
    """Packs of rows by key, in plain Python."""
    keys: list[list[list[int]]] = [[] for _ in range(2 * N_TILES)]
    for begin in range(0, len(counts), CENTRES_PER_BLOCK):
        groups = defaultdict(list)
        for c in range(begin, min(begin + CENTRES_PER_BLOCK, len(counts))):
            groups[(c >= n_first) * N_TILES + tile_of(counts[c]), types[c]].append(c)
        for key, kind in sorted(groups, reverse=True):
            left = sorted(groups[key, kind], key=lambda c: (-counts[c], c))
            while left:
                keys[key].append(pack_of(left, counts, key % N_TILES, sizes[key // N_TILES]))
    return keys


def pack_of(left: list[int], counts: list[int], tile: int, size: int) -> list[int]:
    """The rows of the next pack, taken from the centres `left`, which are in falling order."""
    pack = [left.pop(0)]
    room = (SMALLEST_TILE << tile) - counts[pack[0]]
    while left and len(pack) < size:
        smallest = counts[left[-1]]
        more = min(size - len(pack), room // max(smallest, 1))
        fits = [c for c in left if more and counts[c] <= room - (more - 1) * smallest]
        if not fits:
            break
        pack.append(fits[0])
        left.remove(fits[0])
        room -= counts[fits[0]]
    return [2 * c for c in pack] + [-1] * (SLOTS - len(pack))


def tile_of(count: int) -> int:
    """The smallest tile that holds two such centres, of 256 rows only where 128 are too few."""
    sizes = [SMALLEST_TILE << t for t in range(N_TILES)]
    return next(t for t, s in enumerate(sizes) if 2 * count <= s or (count <= s and t >= 3))


def test_packs_over_several_blocks(device: str) -> None:
    """More centres than one block holds, three types, and edge counts of every size."""
    rng = np.random.default_rng(7)
    counts = rng.choice([*range(9), *range(9, 257, 7), 42, 42, 42, 43, 18, 18], 3 * 48 + 11)
    counts[:12] = [0, 1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 256]
    C, n_first, blocks = len(counts), 91, 4
    types = rng.integers(0, 3, C) // 2
    rowptr = np.zeros(2 * C + 1, dtype=np.int64)
    rowptr[1:] = np.stack([counts, rng.integers(0, 9, C)], axis=1).ravel().cumsum()
    expected = packed(counts.tolist(), types.tolist(), n_first, (3, 4))
    assert all(expected)
    assert {4 - pack.count(-1) for packs in expected for pack in packs} == {1, 2, 3, 4}

    def integers(*shape: int) -> torch.Tensor:
        return torch.full(shape, -7, dtype=torch.int32, device=device)

    row_types = integers(2 * C)
    row_types[::2] = torch.tensor(types)
    packs, keys = integers(blocks * 48, SLOTS), integers(blocks * 48)
    histogram = integers(2 * N_TILES, blocks)
    sizes = {"TILES": N_TILES, "SLOTS": SLOTS, "PER_BLOCK": CENTRES_PER_BLOCK, "BLOCK": 64}
    pack_centres[(blocks,)](
        torch.tensor(rowptr).to(device), row_types, packs, keys, histogram, C, n_first, 2, blocks,
        3, 4, SMALLEST=SMALLEST_TILE, **sizes,
    )  # fmt: skip
    capacity = torch.tensor([len(rows) for rows in expected], dtype=torch.int32, device=device)
    flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=device)
    work, sums = integers(2 * N_TILES, C, SLOTS), histogram.cumsum(1, dtype=torch.int32)
    launch = (packs, keys, histogram, sums, work, capacity, flags, C, blocks)
    list_work[(blocks,)](*launch, **sizes)
    for key, rows in enumerate(expected):
        assert work[key, : len(rows)].tolist() == rows
        assert (work[key, len(rows) :] == -7).all()
    assert not flags.any()
    capacity[3] -= 1
    list_work[(blocks,)](*launch, **sizes)
    assert flags.nonzero().flatten().tolist() == [flag.WORK_FULL.value]


def test_full_packs_for_equal_centres() -> None:
    """Centres of a crystal leave nothing unused: 2, 3 and 4 divide the centres of a block."""
    assert all(CENTRES_PER_BLOCK % size == 0 for size in (2, 3, 4))
    for count, tile, size, packs in [(42, 3, 3, 32), (18, 2, 4, 32), (54, 3, 3, 48), (8, 0, 4, 48)]:
        found = packed([count] * 96, [0] * 96, 96, (size, 1))
        assert pack_tile(count) == SMALLEST_TILE << tile
        assert [len(rows) for rows in found] == [packs * (t == tile) for t in range(2 * N_TILES)]


def test_tiles_are_known_beforehand() -> None:
    """By whoever compiles kernels before there is a list."""
    assert all(pack_tile(count) == SMALLEST_TILE << tile_of(count) for count in range(257))


def test_centres_without_edges(device: str) -> None:
    atoms = CELLS["single atom"]
    neighbors = built(atoms, device)
    assert neighbors.edges().rowptr.tolist()[:2] == [0, 0]
    assert int(neighbors.edges().work_count[0]) == 1


def test_no_centres(device: str) -> None:
    """An expert, or both, may have nothing to do."""
    neighbors = new_list(CELLS["slab"], device)
    neighbors.set_centres(torch.arange(0), torch.arange(0))
    neighbors.build(*geometry(CELLS["slab"], device))
    assert neighbors.edges().work_capacity == (0,) * (2 * N_TILES)
