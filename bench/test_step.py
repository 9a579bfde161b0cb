"""Whole evaluations against the plain reference on the same atoms, in turns.

The reference is the folded form in plain torch with autograd: what the compiled engine must be
faster than, by how much the baseline says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from duetto.kernels.cpu.expert import Chunk, CPUExpert, Workspace
from duetto.kernels.folded import atomic_energies
from duetto.measure.bench.architectures import random_pair
from duetto.measure.bench.force_check import expert_work, tensors
from duetto.measure.bench.systems import build_system, complex_weights
from duetto.potential.mixture import Potential
from duetto.potential.neighbors import NeighborList
from duetto.potential.reference import ReferenceBackend

PAIR = random_pair("hf64", "lf16", hf_r_max=5.0, lf_r_max=4.5, species=("Pt",), seed=0)


@pytest.mark.parametrize("role", ["hf", "lf"])
def test_expert(measure: Callable[..., None], role: str) -> None:
    """One chunk of 24 centres: energies and gradients of its edges."""
    rng = np.random.default_rng(0)
    neighbors = {"hf": 42, "lf": 18}[role]
    E = 24 * neighbors
    unit = rng.normal(size=(E, 3))
    vectors = unit / np.linalg.norm(unit, axis=1)[:, None] * rng.uniform(2.6, 4.4, size=(E, 1))
    folded = PAIR.experts[role].fold()
    expert, work = CPUExpert(folded, torch.float32), Workspace(torch.float32)
    zeros = np.zeros(E, dtype=np.int64)
    chunk = Chunk(
        rows=np.arange(25, dtype=np.int64) * neighbors,
        pair=zeros,
        types=np.zeros(24, dtype=np.int64),
        vectors=vectors.astype(np.float32),
    )
    energy, gradient = np.empty(24), np.empty((E, 3), dtype=np.float32)
    plain = folded.to(torch.float32)
    centre = torch.arange(24).repeat_interleave(neighbors)
    types = torch.zeros(24, dtype=torch.int64)

    def reference() -> torch.Tensor:
        r = torch.from_numpy(vectors).requires_grad_()
        energies = atomic_energies(plain, r, centre, types, torch.from_numpy(zeros))
        return torch.autograd.grad(energies.sum(), r)[0]

    expert.evaluate(work, chunk, energy, gradient)
    scale = float(reference().abs().max())
    assert np.abs(gradient - reference().numpy()).max() < 1e-5 * scale
    measure(lambda: expert.evaluate(work, chunk, energy, gradient), reference, calls=2)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
def test_step(measure: Callable[..., None], fraction: float) -> None:
    """A whole step of 108 atoms: full LF, the mixture, full HF."""
    atoms = build_system("pt", 108)
    weights = complex_weights(atoms, fraction)
    potential = Potential(PAIR, atoms.get_chemical_symbols(), weights, atoms.pbc)
    x, cell = tensors(atoms, "cpu")
    forces = potential.evaluate(x, cell).forces
    plain = ReferenceBackend(PAIR.experts, torch.float32)
    everything = np.ones(len(atoms), dtype=bool)
    work = expert_work(PAIR, potential.species, weights, everything)

    def reference() -> torch.Tensor:
        return plain.evaluate(x, cell, potential.neighbor_list, work)[0].forces

    assert (forces - reference()).abs().max() < 1e-5 * forces.abs().max()
    measure(lambda: potential.evaluate(x, cell), reference, rounds=25)


def test_neighbor_list(measure: Callable[..., None], matrix_product) -> None:
    """Building the list of 500 atoms."""
    atoms = build_system("pt", 500)
    neighbors = NeighborList(np.full(len(atoms), 5.0), atoms.pbc, skin=0.5)
    cell = atoms.cell.array
    neighbors.rebuild(atoms.positions, cell)
    measure(lambda: neighbors.rebuild(atoms.positions, cell), matrix_product, rounds=25)
