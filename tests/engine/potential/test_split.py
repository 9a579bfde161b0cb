"""The mixture in two parts: what is slow, and how often each expert is asked."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.md import NVE, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitPotential
from tests.pairs import mismatched_pair


def crystal(repeat=(3, 2, 2)):
    atoms = bulk("Pt", "fcc", a=4.2, cubic=True).repeat(repeat)
    atoms.symbols[[1, 10]] = "C"
    atoms.symbols[[5]] = "O"
    atoms.rattle(0.1, seed=1)
    return atoms


def make(kind, atoms, weights, **options):
    options = {"dtype": "float64", "skin": 0.3, **options}
    pair = mismatched_pair(zbl=True)
    return kind(pair, list(atoms.symbols), weights, atoms.pbc, **options)


def tensors(atoms):
    return torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)


@pytest.fixture
def weights():
    w = np.zeros(48)
    w[:12], w[12:18] = 1.0, 0.4
    return w


def test_the_parts_sum_to_the_mixture(weights):
    atoms = crystal()
    x, cell = tensors(atoms)
    split = make(SplitPotential, atoms, weights)
    whole, fast = split.evaluate(x, cell), split.evaluate_fast(x, cell)
    mixture = make(Potential, atoms, weights).evaluate(x, cell)
    low = make(Potential, atoms, np.zeros(48)).evaluate(x, cell)
    # Float64 sums of some hundred terms of at most 10 eV/Å, in another order.
    for name in ("energies", "forces", "virial"):
        assert (getattr(whole, name) - getattr(mixture, name)).abs().max() < 1e-11, name
        assert (getattr(fast, name) - getattr(low, name)).abs().max() < 1e-11, name
    assert (whole.slow_forces + fast.forces - mixture.forces).abs().max() < 1e-11
    assert mixture.slow_forces is None
    assert whole.slow_forces.abs().max() > 0.1  # these experts have nothing in common
    # Each atom's force is the energy's: by the weights alone, HF − LF of the complex atoms.
    high = make(Potential, atoms, np.ones(48)).evaluate(x, cell)
    energy = (weights * (high.energies - low.energies).numpy()).sum()
    assert whole.energy - fast.energy == pytest.approx(energy, abs=1e-10)


def test_an_expert_computes_an_atom_once(weights):
    atoms = crystal()
    x, cell = tensors(atoms)
    split = make(SplitPotential, atoms, weights)
    computed = dict.fromkeys(split.backend.experts, 0)
    for role, expert in split.backend.experts.items():

        def counted(work, chunk, energy, gradient, role=role, evaluate=expert.evaluate):
            computed[role] += len(chunk.types)
            evaluate(work, chunk, energy, gradient)

        expert.evaluate = counted
    split.evaluate(x, cell)
    assert computed == {"hf": 18, "lf": 48}
    split.evaluate_fast(x, cell)
    assert computed == {"hf": 18, "lf": 96}
    assert split.n_rebuilds == 1  # one list serves both


def test_new_weights_move_the_parts(weights):
    atoms = crystal()
    x, cell = tensors(atoms)
    split = make(SplitPotential, atoms, np.zeros(48))
    assert split.evaluate(x, cell).slow_forces.abs().max() == 0.0
    split.set_weights(weights)
    expected = make(SplitPotential, atoms, weights).evaluate(x, cell)
    found = split.evaluate(x, cell)
    assert torch.equal(found.forces, expected.forces)
    assert torch.equal(found.slow_forces, expected.slow_forces)


def test_one_inner_step_is_velocity_verlet_to_the_last_bit(weights):
    atoms = crystal()
    last = []
    for kind, stage in ((Potential, NVE(20)), (SplitPotential, SplitNVE(20, every=1))):
        potential = make(kind, atoms, weights)
        start = initial_state(atoms, potential, temperature_K=600.0, seed=2)
        *_, state = run_md(start, potential, [stage], timestep_fs=1.0)
        last.append(state)
    plain, split = last
    # Atoms are cut into chunks otherwise where LF computes all of them, so products of matrices
    # of another size may round otherwise; the integrator adds nothing to that. Potentials that
    # round alike agree to the last bit: tests/engine/md/test_multiple_timestep.py.
    assert (plain.positions - split.positions).abs().max() < 1e-13
    assert (plain.velocities - split.velocities).abs().max() < 1e-13


def test_time_can_be_turned_back():
    """1,000 outer steps there and back on two experts of platinum, in a small cell."""
    from dataclasses import replace
    from pathlib import Path

    pair = ExpertPair.load(Path(__file__).parents[3] / "examples" / "ptco" / "ptco.duetto")
    atoms = bulk("Pt", "fcc", a=3.974, cubic=True)
    atoms.rattle(0.02, seed=3)
    potential = SplitPotential(
        pair, list(atoms.symbols), np.array([1.0, 0.0, 0.5, 0.0]), atoms.pbc, dtype="float64"
    )
    start = initial_state(atoms, potential, temperature_K=50.0, seed=3)
    stage = SplitNVE(2000, every=2)
    *_, there = run_md(start, potential, [stage], timestep_fs=2.0)
    assert (there.positions - start.positions).abs().max() > 0.02
    turned = replace(there, velocities=-there.velocities)
    *_, back = run_md(turned, potential, [stage], timestep_fs=2.0)
    # Rounding alone: 4,000 steps of 1e-16 relative to 4 Å, grown by the motion.
    assert (back.positions - start.positions).abs().max() < 1e-9
    assert (back.velocities + start.velocities).abs().max() < 1e-9


def test_what_cannot_be_split_is_refused():
    atoms = crystal()
    pair = mismatched_pair(zbl=True)
    alone = ExpertPair(pair.hf, None)
    with pytest.raises(InputError, match="expert lf"):
        SplitPotential(alone, list(atoms.symbols), np.ones(48), atoms.pbc, dtype="float64")
