"""Nosé–Hoover chains, ramps and fixed atoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.loop import NoseHoover
from duetto.md.nose_hoover import chain_energy, nose_hoover
from duetto.md.velocities import maxwell_boltzmann
from tests.engine.md.test_integrators import cluster, last, smooth_lj

LIMITS = Limits(temperature_K=1e6, energy_drift_meV_per_atom=None)


def warm(atoms, potential, temperature=40.0, **options):
    return initial_state(atoms, potential, temperature_K=temperature, seed=3, **options)


def test_the_chain_takes_what_the_atoms_give() -> None:
    """What is booked as work is the change of the chain's energy, and both fall with the step.

    The error of a symmetric splitting is of second order: a quarter at half the step.
    """
    errors = []
    for timestep in (4.0, 2.0):
        atoms = cluster()
        potential = smooth_lj(atoms)
        state = warm(atoms, potential)
        start = state.energy + state.kinetic_energy
        worst = 0.0
        for _ in range(round(400 / timestep)):
            state = nose_hoover(state, potential, timestep, temperature_K=60.0, period_fs=200.0)
            total = state.energy + state.kinetic_energy + chain_energy(state, 60.0, 200.0)
            worst = max(worst, abs(total - start))
            # Booking and chain are two accounts of the same.
            booked = state.conserved(state.kinetic_energy) - start
            assert abs(booked) < 0.05 * abs(state.thermostat_work) + 1e-6
        errors.append(worst)
    assert abs(state.thermostat_work) > 0.01
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)


def test_the_chain_can_be_run_backwards() -> None:
    atoms = cluster()
    potential = smooth_lj(atoms)
    start = warm(atoms, potential)
    bath = {"temperature_K": 60.0, "period_fs": 100.0}
    state = start
    for _ in range(100):
        state = nose_hoover(state, potential, 2.0, **bath)
    for _ in range(100):
        state = nose_hoover(state, potential, -2.0, **bath)
    # 200 steps, each of some hundred roundings of 1e-16 that a cluster carries on.
    assert float((state.positions - start.positions).abs().max()) < 1e-10
    assert float((state.velocities - start.velocities).abs().max()) < 1e-12


@pytest.mark.parametrize("bath", [NoseHoover, Langevin], ids=["nose_hoover", "langevin"])
def test_a_bath_holds_its_temperature(bath) -> None:
    atoms = cluster()
    potential = smooth_lj(atoms)
    stage = bath(3000, 30.0)
    states = run_md(
        warm(atoms, potential, 30.0), potential, [stage], timestep_fs=5.0, limits=LIMITS
    )
    temperatures = [s.temperature(s.kinetic_energy) for s in states][1000:]
    freedom = 3 * len(atoms) - 3
    # Relative spread of the kinetic energy √(2 / g); the mean of 10 ps has ten or more independent
    # values of it.
    assert np.mean(temperatures) == pytest.approx(30.0, rel=4 * np.sqrt(2 / freedom / 10))
    assert np.std(temperatures) / 30.0 == pytest.approx(np.sqrt(2 / freedom), rel=0.35)


def test_a_ramp_goes_in_a_straight_line() -> None:
    stage = Langevin(100, 100.0, final_temperature_K=300.0).beginning(50)
    assert stage.temperature_at(50) == pytest.approx(101.0)
    assert stage.temperature_at(99) == pytest.approx(199.0)
    assert stage.temperature_at(149) == pytest.approx(299.0)
    atoms = cluster()
    potential = smooth_lj(atoms)
    ramp = Langevin(2000, 5.0, 0.02, final_temperature_K=30.0)
    states = list(run_md(warm(atoms, potential, 5.0), potential, [NVE(10), ramp], timestep_fs=5.0))
    late = np.mean([s.temperature(s.kinetic_energy) for s in states[-300:]])
    assert 20.0 < late < 35.0


@pytest.mark.parametrize(
    "stage", [NVE(60), Langevin(60, 60.0), NoseHoover(60, 60.0)], ids=lambda s: type(s).__name__
)
def test_fixed_atoms_stay(stage) -> None:
    atoms = cluster()
    potential = smooth_lj(atoms)
    fixed = np.arange(len(atoms)) % 4 == 0
    start = warm(atoms, potential, fixed=fixed)
    assert start.temperature(start.kinetic_energy) == pytest.approx(40.0)
    assert start.degrees_of_freedom == 3 * int((~fixed).sum())
    end = last(run_md(start, potential, [stage], timestep_fs=2.0, limits=LIMITS))
    held = torch.as_tensor(fixed)
    assert torch.equal(end.positions[held], start.positions[held])
    assert not end.velocities[held].any()
    moved = (end.positions - start.positions)[~held].norm(dim=1)
    assert float(moved.min()) > 1e-3
    if isinstance(stage, NVE):
        assert end.conserved(end.kinetic_energy) == pytest.approx(
            start.conserved(start.kinetic_energy), abs=1e-5
        )


def test_velocities_beside_fixed_atoms() -> None:
    masses = torch.full((40,), 40.0, dtype=torch.float64)
    fixed = torch.arange(40) < 10
    velocities = maxwell_boltzmann(masses, 100.0, 0, fixed=fixed)
    assert not velocities[fixed].any()
    assert velocities[~fixed].sum(0).abs().max() > 0  # nothing holds their momentum at zero
