"""The neighbour list against ASE's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from duetto.errors import InputError
from duetto.potential.neighbors import NeighborList
from tests.structures import structures


def pairs(nl: NeighborList) -> Counter:
    i = np.repeat(np.arange(len(nl.first) - 1), np.diff(nl.first))
    rows = np.column_stack([i, nl.neighbor, nl.shift])
    return Counter(map(tuple, rows.tolist()))


def expected(atoms: Atoms, ranges: np.ndarray) -> Counter:
    i, j, S, d = neighbor_list("ijSd", atoms, float(ranges.max()))
    keep = d < ranges[i]
    return Counter(map(tuple, np.column_stack([i, j, S])[keep].tolist()))


@pytest.mark.parametrize("name", list(structures()))
def test_equals_ase(name: str) -> None:
    atoms = structures()[name]
    rng = np.random.default_rng(0)
    for ranges in (np.full(len(atoms), 4.7), rng.uniform(2.0, 5.0, len(atoms))):
        nl = NeighborList(ranges, atoms.pbc, skin=0.0)
        nl.rebuild(atoms.positions, atoms.cell.array)
        assert pairs(nl) == expected(atoms, ranges)
        assert (np.diff(nl.first) >= 0).all()


def test_atoms_far_outside_the_cell_keep_their_images() -> None:
    atoms = structures()["triclinic"]
    inside = NeighborList(np.full(len(atoms), 4.0), atoms.pbc, 0.0)
    inside.rebuild(atoms.positions, atoms.cell.array)
    rng = np.random.default_rng(1)
    atoms.positions += rng.integers(-3, 4, (len(atoms), 3)) @ atoms.cell.array
    nl = NeighborList(np.full(len(atoms), 4.0), atoms.pbc, 0.0)
    nl.rebuild(atoms.positions, atoms.cell.array)
    assert (np.diff(nl.first) == np.diff(inside.first)).all()
    i = np.repeat(np.arange(len(atoms)), np.diff(nl.first))
    vectors = atoms.positions[nl.neighbor] - atoms.positions[i] + nl.shift @ atoms.cell.array
    assert np.linalg.norm(vectors, axis=1).max() < 4.0


@pytest.mark.parametrize("cells", [32_767, 32_768, 40_000, 2**31, 10**9])
@pytest.mark.parametrize("name", ["triclinic", "slab_two_periodic", "smaller_than_cutoff"])
def test_any_lattice_translation_gives_the_same_edges(name: str, cells: int) -> None:
    """To the rounding of the coordinates: half a unit in the last place of the farthest each."""
    atoms = structures()[name]
    here = sorted_edges(atoms)
    rng = np.random.default_rng(2)
    jumps = rng.choice([-cells, -1, 0, 1, cells], (len(atoms), 3)) * atoms.pbc
    jumps[0] = cells * atoms.pbc
    atoms.positions += jumps @ atoms.cell.array
    rounding = np.spacing(
        np.abs(atoms.positions).max() + 3 * cells * np.abs(atoms.cell.array).max()
    )
    there = sorted_edges(atoms)
    assert [row[:2] for row in there] == [row[:2] for row in here]
    lengths = np.array([row[2] for row in there]) - np.array([row[2] for row in here])
    assert np.abs(lengths).max() <= 8 * rounding
    # The cost of one far atom is not that of a wider list for ordinary ones.
    assert new_list(structures()[name]).shift.dtype == np.int16


def test_an_atom_too_far_to_be_resolved_is_refused() -> None:
    nl = NeighborList(np.full(2, 3.0), np.array([True] * 3), skin=0.0)
    with pytest.raises(InputError, match=r"atom 1: its position is beyond 1e\+12 Å"):
        nl.rebuild(np.array([[0.0, 0, 0], [0, 1e13, 0]]), 9.0 * np.eye(3))


def new_list(atoms: Atoms) -> NeighborList:
    nl = NeighborList(np.full(len(atoms), 4.0), atoms.pbc, skin=0.0)
    nl.rebuild(atoms.positions, atoms.cell.array)
    return nl


def sorted_edges(atoms: Atoms) -> list[tuple[int, int, float]]:
    """Both atoms and the length of each edge, from the positions as they are."""
    nl = new_list(atoms)
    i = np.repeat(np.arange(len(atoms)), np.diff(nl.first))
    vectors = atoms.positions[nl.neighbor] - atoms.positions[i] + nl.shift @ atoms.cell.array
    lengths = np.linalg.norm(vectors, axis=1)
    return sorted(zip(i.tolist(), nl.neighbor.tolist(), lengths.tolist(), strict=True))


def test_valid_until_an_atom_moves_half_the_skin_or_the_cell_changes() -> None:
    atoms = structures()["cubic"]
    x, cell = atoms.positions.copy(), atoms.cell.array.copy()
    nl = NeighborList(np.full(len(atoms), 4.0), atoms.pbc, skin=1.0)
    assert not nl.is_valid(x, cell)
    nl.rebuild(x, cell)
    x[3, 0] += 0.499
    assert nl.is_valid(x, cell)
    x[3, 0] += 0.002
    assert not nl.is_valid(x, cell)
    x[3, 0] -= 0.2
    assert not nl.is_valid(x, cell * 1.001)


def test_not_a_number_never_counts_as_not_moved() -> None:
    atoms = structures()["cubic"]
    nl = NeighborList(np.full(len(atoms), 4.0), atoms.pbc, skin=1.0)
    nl.rebuild(atoms.positions, atoms.cell.array)
    x = atoms.positions.copy()
    x[0, 0] = np.nan
    assert not nl.is_valid(x, atoms.cell.array)
    with pytest.raises(InputError, match="atom 0"):
        nl.rebuild(x, atoms.cell.array)


def test_flat_periodic_cell_is_refused() -> None:
    nl = NeighborList(np.full(2, 3.0), np.array([True, True, False]), skin=0.0)
    with pytest.raises(InputError, match="the cell is flat"):
        nl.rebuild(np.eye(2, 3), np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 9.0]]))


@pytest.mark.parametrize("pbc", [False, True, (True, False, True)])
@pytest.mark.parametrize(
    ("count", "box"),
    [
        (1, (3.0, 3.0, 3.0)),  # its own images are its neighbours
        (5, (400.0, 300.0, 500.0)),  # far more bins than atoms, if each were as thin as the range
        (300, (2.5, 90.0, 4.0)),  # a rod, thinner than the range
        (150, (40.0, 40.0, 0.0)),  # a sheet without thickness
    ],
    ids=["one", "gas", "rod", "sheet"],
)
def test_odd_shapes(count: int, box: tuple[float, ...], pbc: bool | tuple[bool, ...]) -> None:
    rng = np.random.default_rng(count)
    cell = np.diag(np.where(np.array(box) > 0, box, 7.0))
    atoms = Atoms(f"Pt{count}", rng.uniform(size=(count, 3)) * box, cell=cell, pbc=pbc)
    ranges = np.full(count, 6.0)
    nl = NeighborList(ranges, atoms.pbc, skin=0.0)
    nl.rebuild(atoms.positions, atoms.cell.array)
    assert pairs(nl) == expected(atoms, ranges)
    nl.rebuild(atoms.positions, atoms.cell.array)
    assert pairs(nl) == expected(atoms, ranges)


def test_atoms_on_the_cell_s_faces() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [-1e-17, 5.0, 10.0], [10.0, 10.0, 10.0], [5.0, 5, 5]])
    atoms = Atoms("Pt4", positions, cell=[10.0, 10.0, 10.0], pbc=True)
    ranges = np.full(4, 5.5)
    nl = NeighborList(ranges, atoms.pbc, skin=0.0)
    nl.rebuild(atoms.positions, atoms.cell.array)
    assert pairs(nl) == expected(atoms, ranges)
