"""Weights that follow atoms on the triton backend: the numbers of the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111

from duetto.errors import InputError
from duetto.experts.allegro.architecture import MLPShape
from duetto.experts.pair import ExpertPair
from duetto.md import NVE, Limits, initial_state, run_md
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.following_device import DeviceFollowingPotential
from duetto.potential.kinds import following_kind
from duetto.potential.split import SplitFollowingPotential
from duetto.potential.triton import TritonBackend
from tests.pairs import high_fidelity, low_fidelity, mismatched_pair

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = 1e-5
"""Of the largest force, as in test_triton: float32 experts."""


def slab() -> Atoms:
    """Few atoms, for the interpreter; a seed at the cell's face and one beside it."""
    atoms = fcc111("Pt", (2, 3, 1), a=3.97, vacuum=6.0, orthogonal=False)
    atoms.pbc = (False, True, False)
    top = atoms.positions[:, 2].max()
    atoms += Atoms("CC", [(0.2, 0.1, top + 1.6), (1.9, 1.0, top + 1.9)])
    atoms.rattle(0.08, seed=5)
    return atoms


def pair_in_torch() -> ExpertPair:
    """Experts that the kernels do not cover: cheap to evaluate where kernels are interpreted."""
    deep = MLPShape(2, 8, "silu")
    return ExpertPair(high_fidelity(latent=deep), low_fidelity(readout=deep))


def following() -> Following:
    return Following(np.array([6, 7]), 1.4, 2.0)


def on_triton(pair: ExpertPair, atoms: Atoms, kind: Any = DeviceFollowingPotential) -> Any:
    return kind(
        pair,
        list(atoms.symbols),
        np.zeros(len(atoms)),
        atoms.pbc,
        device=DEVICE,
        backend=TritonBackend(pair.experts, DEVICE, "fp32"),
        skin=0.4,
        following=following(),
    )


def on_cpu(pair: ExpertPair, atoms: Atoms, skin: float = 0.4) -> FollowingPotential:
    return FollowingPotential(
        pair,
        list(atoms.symbols),
        np.zeros(len(atoms)),
        atoms.pbc,
        dtype="float64",
        skin=skin,
        following=following(),
    )


def at(atoms: Atoms) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)


@pytest.mark.parametrize(("kernels", "correction"), [(False, False), (True, False), (False, True)])
def test_the_numbers_of_the_cpu_as_the_seeds_move_on(kernels: bool, correction: bool) -> None:
    atoms = slab()
    pair = mismatched_pair() if kernels else pair_in_torch()
    pair = replace(pair, correction=correction)
    p = on_triton(pair, atoms)
    for shift in (0.0,) if kernels else (0.0, 0.15, 0.9):
        atoms.positions[[6, 7], 0] += shift
        got, expected = p.evaluate(*at(atoms)), on_cpu(pair, atoms).evaluate(*at(atoms))
        scale = float(expected.forces.abs().max())
        assert float((got.forces - expected.forces).abs().max()) < TOLERANCE * scale
        size = max(float(expected.energies.abs().max()), scale)
        assert float((got.energies - expected.energies).abs().max()) < TOLERANCE * size
        size = max(float(expected.virial.abs().max()), scale)
        assert float((got.virial - expected.virial).abs().max()) < TOLERANCE * size
        assert expected.weights is not None
        np.testing.assert_allclose(got.weights, expected.weights, atol=1e-13)
        np.testing.assert_array_equal(p.weights, got.weights)
        assert float(got.forces.sum(dim=0).abs().max()) < 1e-10
    assert p.n_rebuilds == (1 if kernels else 2)
    if not kernels:
        assert p.self_check(*at(atoms)) < TOLERANCE


def test_a_run_is_that_of_the_cpu_and_the_host_takes_every_step() -> None:
    atoms = slab()
    pair = pair_in_torch()
    last = []
    for p in (on_triton(pair, atoms), on_cpu(pair, atoms)):
        device = DEVICE if p.backend.name == "triton" else "cpu"
        assert not p.takes_steps_on_device
        state = initial_state(atoms, p, temperature_K=600.0, seed=2, device=device)
        stages = [NVE(4)]
        *_, state = run_md(state, p, stages, timestep_fs=1.0, limits=Limits(None, None), every=4)
        last.append(state)
    mine, expected = last
    # Float32 forces along 4 fs: 1e-5 of some eV/Å, over some 12 amu, squared in time.
    np.testing.assert_allclose(mine.positions.cpu(), expected.positions, atol=1e-6)
    assert mine.conserved(mine.kinetic_energy) == pytest.approx(
        expected.conserved(expected.kinetic_energy), abs=1e-4
    )


def test_which_kind_serves_which_backend() -> None:
    atoms, pair = slab(), pair_in_torch()
    assert following_kind("triton") is DeviceFollowingPotential
    assert following_kind("numba") is FollowingPotential
    with pytest.raises(InputError, match="DeviceFollowingPotential"):
        on_triton(pair, atoms, FollowingPotential)
    with pytest.raises(InputError, match=r"multiple_timestep: with regions\.follow"):
        on_triton(pair, atoms, SplitFollowingPotential)
