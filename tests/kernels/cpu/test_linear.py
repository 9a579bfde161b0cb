"""The CPU's kernel of linear experts against the plain reference, both ways through it."""

import numpy as np
import pytest
import torch

from duetto.kernels.cpu.expert import Chunk, Workspace
from duetto.kernels.cpu.linear import CPULinear, ListShare
from duetto.kernels.linear import LinearForm, atomic_energies
from tests.linear_experts import SHAPES, Box, random_expert

RELATIVE = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Sums of some hundred products of three moments, each good to the type's rounding."""


def reference(form: LinearForm, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies, weighted forces and weighted virial, by autograd in positions and strain."""
    x = torch.from_numpy(box.positions).requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    vectors = box.vectors_of(x)[box.near] @ (torch.eye(3, dtype=torch.float64) + strain)
    types = torch.from_numpy(box.types)
    energies = atomic_energies(form, vectors, box.i, types, types[box.j])
    total = (energies * torch.from_numpy(box.weights)).sum()
    forces, virial = torch.autograd.grad(total, (x, strain))
    return energies.detach().numpy(), -forces.numpy(), -virial.numpy()


def assert_near(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    assert np.abs(found - expected).max() < relative * np.abs(expected).max()


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_pass_from_list_to_forces(shape: str, dtype: torch.dtype) -> None:
    assert_one_pass_is_right(random_expert(shape).form(), dtype)


@pytest.mark.parametrize("only", [0, 1, 2])
def test_one_pass_where_species_are_missing(only: int) -> None:
    """Nothing is read of what was not written for them."""
    form = random_expert("three species, one without moments, wall").form()
    assert_one_pass_is_right(form, torch.float64, only)


def assert_one_pass_is_right(form: LinearForm, dtype: torch.dtype, only: int | None = None) -> None:
    box = Box(form, only=only)
    kernel = CPULinear(form, dtype)
    order, _ = kernel.blocks(box.types, np.arange(len(box.types)))
    lists = box.neighbors
    share = kernel.share(order, box.types, lists.first, lists.neighbor, lists.shift)
    assert share is not None
    found = np.full(len(order), np.nan)
    forces, virial = np.zeros((share.high - share.low, 4)), np.zeros((3, 3))
    work = Workspace(dtype)
    poison(work, kernel, share.room)
    rows = np.pad(box.positions, ((0, 0), (0, 1)))
    kernel.add_forces(work, rows, box.cell, share, box.weights[order], found, forces, virial)
    energies, expected_forces, expected_virial = reference(form, box)
    assert_near(found, energies[order], RELATIVE[dtype])
    assert_near(forces[:, :3], expected_forces[share.low : share.high], RELATIVE[dtype])
    assert_near(virial, expected_virial, RELATIVE[dtype])
    # Both ends of an edge take the same number, so that momentum stays but for double rounding.
    assert np.abs(forces.sum(axis=0)).max() < 1e-13 * np.abs(forces).max() * len(order)


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_chunk_of_edges(shape: str, dtype: torch.dtype) -> None:
    form = random_expert(shape).form()
    box = Box(form)
    kernel = CPULinear(form, dtype)
    vectors = box.vectors_of(torch.from_numpy(box.positions))[box.near].numpy()
    i, j = box.i.numpy(), box.j.numpy()
    pair = box.types[i] * form.num_types + box.types[j]
    chunk = Chunk(box.rows, pair, box.types, vectors.astype(kernel.numpy_dtype))
    energy = np.full(len(box.types), np.nan)
    gradient = np.full(vectors.shape, np.nan, kernel.numpy_dtype)
    kernel.evaluate(Workspace(dtype), chunk, energy, gradient)
    energies, expected, _ = reference(form, box)
    forces = np.zeros((len(energies), 3))
    weighted = gradient * box.weights[i][:, None]
    np.add.at(forces, i, weighted)
    np.add.at(forces, j, -weighted)
    assert_near(energy, energies, RELATIVE[dtype])
    assert_near(forces, expected, RELATIVE[dtype])


def test_what_is_near_is_chosen_again_when_atoms_move_or_the_cell_changes() -> None:
    """Slots left out are beyond every cutoff: a fresh share gives the same bits."""
    form = random_expert("three species, one without moments, wall").form()
    box, dtype = Box(form), torch.float64
    kernel, lists = CPULinear(form, dtype), box.neighbors
    order, _ = kernel.blocks(box.types, np.arange(len(box.types)))

    def share() -> ListShare:
        made = kernel.share(order, box.types, lists.first, lists.neighbor, lists.shift)
        assert made is not None
        return made

    def evaluate(share: ListShare, x: np.ndarray, cell: np.ndarray) -> np.ndarray:
        forces = np.zeros((share.high - share.low, 4))
        rows = np.pad(x, ((0, 0), (0, 1)))
        weight, found = np.ones(len(order)), np.empty(len(order))
        kernel.add_forces(
            Workspace(dtype), rows, cell, share, weight, found, forces, np.zeros((3, 3))
        )
        return forces

    old, rng, chosen = share(), np.random.default_rng(1), set()
    for step in (0.0, 0.02, 0.08, 0.19):
        x = box.positions + rng.uniform(-step, step, box.positions.shape) / 3**0.5
        cell = box.cell * (1.0 + 1e-3 * (step > 0.1))
        np.testing.assert_array_equal(evaluate(old, x, cell), evaluate(share(), x, cell))
        chosen.add(int(old.near.rows[-1]))
        assert old.near.rows[-1] < old.rows[-1]
    assert len(chosen) > 1


def test_neighbors_of_unknown_species_are_left_out() -> None:
    form = random_expert("one species, l_max 2").form()
    box = Box(form)
    kernel, lists, others = CPULinear(form, torch.float64), box.neighbors, np.arange(0, 40, 5)
    types = box.types.copy()
    types[others] = -1
    known = np.flatnonzero(types >= 0)
    share = kernel.share(known, types, lists.first, lists.neighbor, lists.shift)
    assert share is not None
    found, forces = np.empty(len(known)), np.zeros((share.high - share.low, 4))
    rows = np.pad(box.positions, ((0, 0), (0, 1)))
    ones = np.ones(len(known))
    work = Workspace(torch.float64)
    kernel.add_forces(work, rows, box.cell, share, ones, found, forces, np.zeros((3, 3)))
    keep = ~np.isin(box.j.numpy(), others)
    vectors = box.vectors_of(torch.from_numpy(box.positions))[box.near][keep]
    zero = torch.zeros(len(box.types), dtype=torch.int64)
    i, j = box.i[keep], box.j[keep]
    expected = atomic_energies(form, vectors, i, zero, zero[j]).numpy()[known]
    assert_near(found, expected, 1e-12)


def test_centre_without_neighbors_has_its_shift() -> None:
    form = random_expert("three species, one without moments, wall").form()
    empty = np.zeros(0, dtype=np.int64)
    chunk = Chunk(np.zeros(3, dtype=np.int64), empty, np.array([2, 0]), np.zeros((0, 3)))
    energy = np.full(2, np.nan)
    kernel = CPULinear(form, torch.float64)
    kernel.evaluate(Workspace(torch.float64), chunk, energy, np.zeros((0, 3)))
    np.testing.assert_array_equal(energy, form.shift[[2, 0]].numpy())


def poison(work: Workspace, kernel: CPULinear, room: int) -> None:
    """Fill the scratch memory with NaN: what is read before it is written shows."""
    memory, _ = kernel._memory(work, room)
    for array in memory:
        array.fill(np.nan)
