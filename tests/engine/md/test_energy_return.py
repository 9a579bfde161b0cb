"""Velocities that pay for changed weights: energy and momentum to rounding, or one clear line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from duetto.errors import RunStopped
from duetto.md import initial_state
from duetto.md.energy_return import with_energy_returned
from duetto.md.state import State
from duetto.partition.ledger import Due
from tests.engine.md.toy import lj_potential

WITHIN = 3.0


def start(temperature_K: float = 300.0, **settings: Any) -> State:
    atoms = bulk("Ar", "fcc", a=4.2, cubic=True).repeat((2, 2, 1))
    atoms.symbols[[1, 5]] = "C"
    return initial_state(
        atoms, lj_potential(atoms), temperature_K=temperature_K, seed=4, **settings
    )


def momentum(state: State) -> Any:
    return (state.masses[:, None] * state.velocities).sum(dim=0)


def distances(state: State, atom: int) -> Any:
    from ase import Atoms

    atoms = Atoms(list(state.species), state.positions.numpy(), cell=state.cell.numpy(), pbc=True)
    return atoms.get_distances(atom, range(len(atoms)), mic=True)


def test_energy_and_momentum_are_kept_to_rounding_and_others_do_not_notice() -> None:
    before = start()
    due = Due(np.array([2, 3, 2]), np.array([0.011, -0.02, 0.0]))
    after = with_energy_returned(before, due, WITHIN)
    paid = before.kinetic_energy - after.kinetic_energy
    assert paid == pytest.approx(-0.009, abs=1e-15 * before.n_atoms)
    # Momenta of some amu Å/fs times the rounding of float64.
    assert (momentum(after) - momentum(before)).abs().max() < 1e-14
    near = (distances(before, 2) <= WITHIN) | (distances(before, 3) <= WITHIN)
    changed = (after.velocities != before.velocities).any(dim=1).numpy()
    assert (changed == near).all()
    assert 0 < near.sum() < before.n_atoms


def test_fixed_atoms_stay_and_do_not_pay() -> None:
    fixed = np.zeros(16, dtype=bool)
    fixed[[0, 7]] = True
    before = start(fixed=fixed)
    after = with_energy_returned(before, Due(np.array([0]), np.array([0.01])), WITHIN)
    assert (after.velocities[fixed] == 0.0).all()
    assert before.kinetic_energy - after.kinetic_energy == pytest.approx(0.01, abs=1e-14)


def test_what_nobody_can_pay_stops_the_run_in_one_line() -> None:
    state = replace(start(), step=7)
    with pytest.raises(RunStopped, match=r"step 7: the changed weight of atom 2 costs 50 eV, and"):
        with_energy_returned(state, Due(np.array([2]), np.array([50.0])), WITHIN)
    cold = replace(state, velocities=torch.zeros_like(state.velocities))
    with pytest.raises(RunStopped, match=r"have 0 eV of kinetic energy to return it; raise"):
        with_energy_returned(cold, Due(np.array([2]), np.array([-0.1])), WITHIN)
