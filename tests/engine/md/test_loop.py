import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import units

from duetto.errors import InputError, RunStopped
from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.integrators import velocity_verlet
from duetto.md.loop import Stage
from tests.engine.md.toy import Broken, argon, lj_potential


@pytest.fixture
def atoms():
    return argon(1)


def broken(atoms):
    return lj_potential(atoms, cutoff=5.0, kind=Broken)


def test_stages_follow_each_other(atoms):
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    stages = [Langevin(3, 40.0), NVE(4), Langevin(2, 40.0)]
    states = list(run_md(start, potential, stages, timestep_fs=0.1))
    assert [state.step for state in states] == list(range(1, 10))
    # Times are decimal: no 0.30000000000000004.
    assert [state.time_fs for state in states] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    work = [state.thermostat_work for state in states]
    assert len({0.0, *work[:3]}) == 4
    assert work[3:7] == [work[2]] * 4
    assert work[7] != work[6]


def test_a_second_call_goes_on_and_a_resumed_one_skips(atoms):
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    stages = [Langevin(3, 40.0), NVE(4)]
    whole = list(run_md(start, potential, stages, timestep_fs=1.0))
    for done in (2, 3, 5):
        rest = list(run_md(whole[done - 1], potential, stages, timestep_fs=1.0, first_step=0))
        assert [state.step for state in rest] == list(range(done + 1, 8))
        assert torch.equal(rest[-1].positions, whole[-1].positions)
        assert rest[-1].stage_conserved == whole[-1].stage_conserved
    assert list(run_md(whole[-1], potential, stages, timestep_fs=1.0, first_step=0)) == []
    more = list(run_md(whole[-1], potential, [NVE(2)], timestep_fs=1.0))
    assert [state.step for state in more] == [8, 9]


def test_forces_that_are_not_finite_stop_the_run(atoms, monkeypatch):
    monkeypatch.setenv("DUETTO_TEST_FAULT", "nan:4")
    eight = atoms.repeat((2, 1, 1))
    potential = broken(eight)
    start = initial_state(eight, potential, temperature_K=40.0)
    seen = []
    states = run_md(start, potential, [NVE(10)], timestep_fs=1.0)
    with pytest.raises(RunStopped) as stop:
        seen.extend(iter(lambda: next(states), None))
    assert [state.step for state in seen] == [1, 2]
    message = str(stop.value)
    assert message.startswith(
        "step 3 (3 fs): energy or forces are not finite, first at atom 5 (Ar, w = 0)"
    )
    # Its nearest neighbours by minimum image, as ASE has them one step before: in 1 fs an atom
    # at 40 K moves 1e-3 Å.
    eight.positions = seen[-1].positions.numpy()
    distances = eight.get_distances(5, range(8), mic=True)
    named = re.findall(r"Ar (\d) at ([\d.]+) Å", message.split("nearest: ")[1])
    assert [int(atom) for atom, _ in named] == np.argsort(distances)[1:5].tolist()
    for atom, distance in named:
        assert float(distance) == pytest.approx(distances[int(atom)], abs=0.01)
    assert torch.isfinite(seen[-1].forces).all()


def test_runaway_temperature_stops_the_run(atoms):
    atoms.positions[1] = atoms.positions[0] + [1.0, 0.0, 0.0]
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=10.0)
    with pytest.raises(RunStopped, match=r"temperature ran away to .* K, the limit is 5000 K"):
        list(run_md(start, potential, [NVE(50)], timestep_fs=5.0, limits=Limits(5000.0, None)))


def test_energy_drift_stops_nve_only(atoms):
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=60.0)
    limits = Limits(None, energy_drift_meV_per_atom=1e-6)
    list(run_md(start, potential, [Langevin(20, 60.0)], timestep_fs=5.0, limits=limits))
    with pytest.raises(RunStopped, match=r"conserved energy has changed by -?\d.* meV/atom"):
        list(run_md(start, potential, [NVE(20)], timestep_fs=5.0, limits=limits))


@dataclass(frozen=True)
class Heated(Stage):
    """An integrator from elsewhere, which knows no device and gains energy."""

    constant_energy: ClassVar[bool] = True

    def advance(self, state, potential, timestep_fs):
        state = velocity_verlet(state, potential, timestep_fs)
        return replace(state, velocities=1.01 * state.velocities)


def test_a_stage_of_ones_own_is_one_like_any_other(atoms):
    """All that it says is how it advances, and that its energy is to be held to the limit."""
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    stages = [NVE(2), Heated(3)]
    states = list(run_md(start, potential, stages, timestep_fs=1.0, every=5))
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    gained = [1e3 * (s.conserved(s.kinetic_energy) - s.stage_conserved) for s in states[2:]]
    assert 0.0 < gained[0] < gained[1]
    between = sum(gained[:2]) / 2 / len(atoms)
    limits = Limits(energy_drift_meV_per_atom=between)
    with pytest.raises(RunStopped, match="step 4"):
        list(run_md(start, potential, stages, timestep_fs=1.0, limits=limits))
    with pytest.raises(TypeError, match="Heated has no form on a device"):
        stages[1].on_device(start, potential, 1.0)


class Promoting:
    """Gives every atom another eighth, for 10 eV, whenever the list has been built anew."""

    changes_weights = True
    return_within = None
    e_repartition = 0.0

    def between_steps(self, step, positions, cell, potential, *, rebuilt):
        if not rebuilt:
            return None
        self.e_repartition += 10.0
        potential.set_weights(potential.weights + 0.125)
        return potential.evaluate(positions, cell)


def test_weights_change_between_steps_and_what_they_cost_is_no_drift(atoms):
    potential = lj_potential(atoms, cutoff=5.0, skin=0.05)
    plain = potential.evaluate

    def evaluate(positions, cell):
        evaluation = plain(positions, cell)
        return replace(evaluation, energy=evaluation.energy + 80.0 * potential.weights[0])

    potential.evaluate = evaluate
    start = initial_state(atoms, potential, temperature_K=80.0)
    assert start.weights.tolist() == [0.0] * 4
    limits = Limits(None, 1.0)

    def run(partition):
        return run_md(
            start, potential, [NVE(40)], timestep_fs=1.0, limits=limits, partition=partition
        )

    partition = Promoting()
    states = list(run(partition))
    changes = [now for before, now in pairwise(states) if now.e_repartition != before.e_repartition]
    assert len(changes) > 2
    assert states[-1].e_repartition == partition.e_repartition
    assert states[-1].weights.tolist() == [0.0125 * states[-1].e_repartition] * 4
    for state in changes:
        # The list of the old weights in the step, and that of the new ones after it.
        assert torch.equal(state.positions, state.list_reference)
    assert torch.equal(states[-1].list_reference, potential.list_reference())
    # A state keeps the list it was computed with.
    assert not torch.equal(changes[0].list_reference, states[-1].list_reference)

    class Silent(Promoting):
        """The same, and books nothing."""

        def between_steps(self, *args, **options):
            evaluation = super().between_steps(*args, **options)
            self.e_repartition = 0.0
            return evaluation

    potential.set_weights(start.weights)
    with pytest.raises(RunStopped, match=r"conserved energy has changed by 250\d? meV/atom"):
        list(run(Silent()))


def test_out_of_memory_and_bad_positions_stop_in_one_line(atoms, monkeypatch):
    monkeypatch.setenv("DUETTO_TEST_FAULT", "memory:3")
    eight = atoms.repeat((2, 1, 1))
    potential = broken(eight)
    start = initial_state(eight, potential, temperature_K=40.0)
    with pytest.raises(RunStopped, match="step 2: out of memory with 8 atoms on cpu: CUDA out of"):
        list(run_md(start, potential, [NVE(5)], timestep_fs=1.0))

    def refuse(positions, cell):
        raise InputError("atom 3 has the position [nan]")

    potential.evaluate = refuse
    with pytest.raises(RunStopped, match="step 1: atom 3 has the position"):
        list(run_md(start, potential, [NVE(5)], timestep_fs=1.0))


def test_start_from_given_velocities(atoms):
    potential = lj_potential(atoms, cutoff=5.0)
    with pytest.raises(InputError, match="no velocities"):
        initial_state(atoms, potential)
    atoms.set_velocities(np.arange(12.0).reshape(4, 3) * 1e-3)
    state = initial_state(atoms, potential)
    assert state.kinetic_energy == pytest.approx(atoms.get_kinetic_energy(), rel=1e-12)


def test_pressure_is_the_derivative_by_volume(atoms):
    atoms = atoms.repeat((2, 2, 2))
    state = initial_state(atoms, lj_potential(atoms, cutoff=5.0), temperature_K=0.0)

    def energy(strain):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * (1.0 + strain), scale_atoms=True)
        return initial_state(strained, lj_potential(strained, cutoff=5.0), temperature_K=0.0).energy

    # E(1 + s) at constant kinetic energy: p = −dE/dV, dV = 3 V ds. Central differences of step
    # 1e-4 have an error of 1e-8 E‴/6, and E‴ of r⁻¹² is up to 13·14 times E′.
    slope = (energy(1e-4) - energy(-1e-4)) / 2e-4
    expected = -slope / (3.0 * atoms.get_volume()) / units.GPa
    assert state.pressure_GPa(0.0) == pytest.approx(expected, rel=1e-5)
    # The ideal gas: p V = N k T, with 3N − 3 degrees of freedom carrying 2 K.
    extra = state.pressure_GPa(1.5) - state.pressure_GPa(0.0)
    assert extra == pytest.approx(1.0 / atoms.get_volume() / units.GPa, rel=1e-12)
    atoms.pbc = False
    free = initial_state(atoms, lj_potential(atoms), temperature_K=0.0)
    assert free.pressure_GPa(1.0) is None
