import collections
from dataclasses import replace

import numpy as np
import pytest
import torch

from duetto.md import NVE, Langevin, initial_state, run_md
from duetto.md.loop import NoseHoover
from duetto.md.multiple_timestep import SplitLangevin, SplitNoseHoover, SplitNVE
from duetto.md.nose_hoover import chain_energy
from tests.engine.md.toy import LJ, Pairs, argon, lennard_jones, lj_potential

SLOW_SHARE = 0.3
"""How much of Lennard-Jones acts at long intervals; enough that the kicks matter."""


class SplitPairs(Pairs):
    """Lennard-Jones, a part of which is slow."""

    n_fast = 0

    def evaluate(self, positions, cell):
        whole = super().evaluate(positions, cell)
        return replace(whole, slow_forces=SLOW_SHARE * whole.forces)

    def evaluate_fast(self, positions, cell):
        self.n_fast += 1
        whole = super().evaluate(positions, cell)
        return replace(whole, forces=(1.0 - SLOW_SHARE) * whole.forces)


def split(atoms, cutoff=LJ["cutoff"]):
    return lj_potential(atoms, cutoff, kind=SplitPairs)


def smooth(atoms):
    """Without any cutoff: for orders and reversibility."""
    return SplitPairs(
        np.zeros(len(atoms)),
        atoms.pbc,
        lambda r: lennard_jones(r, cutoff=1e4),
        cutoff=100.0,
        skin=20.0,
        dtype=torch.float64,
    )


def cluster(repeat=2):
    atoms = argon(repeat)
    atoms.set_cell(None)
    atoms.pbc = False
    return atoms


def last(states):
    return collections.deque(states, maxlen=1).pop()


@pytest.mark.parametrize(
    ("plain", "stepped"),
    [
        (NVE(60), SplitNVE(60, every=1)),
        (Langevin(60, 50.0, 0.02), SplitLangevin(60, 50.0, 0.02, every=1)),
        (NoseHoover(60, 50.0, 200.0), SplitNoseHoover(60, 50.0, 200.0, every=1)),
    ],
)
def test_one_inner_step_is_the_plain_integrator_to_the_last_bit(plain, stepped):
    atoms = argon(2)
    start = initial_state(atoms, split(atoms), temperature_K=90.0, seed=1)
    states = [
        last(run_md(start, split(atoms), [stage], timestep_fs=4.0)) for stage in (plain, stepped)
    ]
    assert states[0].n_rebuilds > 0  # a list that moves on is part of it
    for name in ("positions", "velocities", "forces", "energies", "list_reference"):
        assert torch.equal(getattr(states[0], name), getattr(states[1], name)), name
    for name in ("energy", "step", "time_fs", "n_rebuilds", "thermostat_work"):
        assert getattr(states[0], name) == getattr(states[1], name), name


def test_time_can_be_turned_back():
    """1,000 outer steps there and back, in a cell of one Lennard-Jones crystal."""
    atoms = cluster(1)
    potential = smooth(atoms)
    start = initial_state(atoms, potential, temperature_K=20.0, seed=2)
    steps = [SplitNVE(4000, every=4)]
    there = last(run_md(start, potential, steps, timestep_fs=2.0))
    assert there.step == 4000
    assert (there.positions - start.positions).abs().max() > 0.1
    turned = replace(there, velocities=-there.velocities)
    back = last(run_md(turned, potential, steps, timestep_fs=2.0))
    # Rounding alone: 8,000 steps of 1e-16 relative to 5 Å, grown by the motion.
    assert (back.positions - start.positions).abs().max() < 1e-9
    assert (back.velocities + start.velocities).abs().max() < 1e-9


def test_error_is_of_second_order_in_the_outer_step():
    """At fixed k; the slope of the largest error of the energy over h, in the limit of small h."""
    atoms = cluster(2)

    def largest_error(timestep_fs):
        potential = smooth(atoms)
        start = initial_state(atoms, potential, temperature_K=60.0, seed=3)
        begin = start.conserved(start.kinetic_energy)
        states = run_md(
            start, potential, [SplitNVE(round(384.0 / timestep_fs), every=4)],
            timestep_fs=timestep_fs,
        )  # fmt: skip
        # Every error is taken at the same times, the multiples of 16 fs.
        every = round(16.0 / timestep_fs)
        return max(
            abs(state.conserved(state.kinetic_energy) - begin)
            for state in states
            if state.step % every == 0
        )

    errors = [largest_error(h) for h in (4.0, 2.0, 1.0)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert slopes[-1] == pytest.approx(2.0, rel=0.05)
    # E(h) = a h² + b h⁴: halving h brings the slope closer to 2.
    assert abs(slopes[1] - 2.0) < abs(slopes[0] - 2.0)


def test_it_is_the_impulse_form():
    """Against the equations of Tuckerman, Berne, Martyna written out, on the toy's own forces."""
    atoms, k, h = cluster(1), 3, 5.0
    potential = smooth(atoms)
    start = initial_state(atoms, potential, temperature_K=60.0, seed=4)
    x, v = start.positions.clone(), start.velocities.clone()
    per_mass = (start.accelerations / start.forces)[:, :1]
    for _ in range(5):
        v = v + 0.5 * k * h * per_mass * potential.evaluate(x, start.cell).slow_forces
        for _ in range(k):
            v = v + 0.5 * h * per_mass * potential.evaluate_fast(x, start.cell).forces
            x = x + h * v
            v = v + 0.5 * h * per_mass * potential.evaluate_fast(x, start.cell).forces
        v = v + 0.5 * k * h * per_mass * potential.evaluate(x, start.cell).slow_forces
    potential.n_fast = 0
    state = last(run_md(start, potential, [SplitNVE(5 * k, every=k)], timestep_fs=h))
    # Rounding of 30 sums; another scheme differs by h² times a force's change, 1e-3.
    assert (state.positions - x).abs().max() < 1e-12
    assert (state.velocities - v).abs().max() < 1e-14
    assert potential.n_fast == 5 * (k - 1)  # at the ends of an outer step both come at once


def test_conserved_energy_and_booked_heat():
    atoms = argon(2)
    potential = split(atoms)
    start = initial_state(atoms, potential, temperature_K=20.0, seed=6)
    begin = start.conserved(start.kinetic_energy)
    worst = 0.0
    states = run_md(start, potential, [SplitLangevin(300, 60.0, 0.01, every=3)], timestep_fs=2.0)
    for state in states:
        worst = max(worst, abs(state.conserved(state.kinetic_energy) - begin))
        momentum = (state.masses[:, None] * state.velocities).sum(0)
        # A sum of 32 terms per step, over 300 steps, each with a rounding of 1e-16.
        assert momentum.abs().max() < 300 * 32 * 1e-16 * 10
    gained = state.energy + state.kinetic_energy - start.energy - start.kinetic_energy
    assert gained > 0.1  # eV: the bath has heated the atoms by some 20 K at least
    assert worst < 0.01 * gained


def test_the_chain_takes_what_the_atoms_give_and_can_be_turned_back():
    """The error of a symmetric splitting is of second order: a quarter at half the step."""
    atoms, bath, errors = cluster(2), {"temperature_K": 60.0, "period_fs": 200.0}, []
    for timestep in (4.0, 2.0):
        potential = smooth(atoms)
        start = state = initial_state(atoms, potential, temperature_K=20.0, seed=5)
        step, worst, begin = (
            SplitNoseHoover(4, every=4, **bath),
            0.0,
            start.conserved(start.kinetic_energy),
        )
        for k in range(round(100 / timestep)):
            state = step.advance(state, potential, timestep)
            assert state.step == 4 * (k + 1)
            total = state.energy + state.kinetic_energy + chain_energy(state, **bath)
            worst = max(worst, abs(total - begin))
        errors.append(worst)
    assert state.thermostat_work > 0.01  # eV: the bath has heated the atoms
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)
    for _ in range(50):
        state = step.advance(state, potential, -2.0)
    # 100 outer steps, each of some hundred roundings of 1e-16 that a cluster carries on.
    assert (state.positions - start.positions).abs().max() < 1e-10
    assert (state.velocities - start.velocities).abs().max() < 1e-12


def test_states_are_those_of_whole_outer_steps():
    atoms = argon(1)
    potential = split(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    stages = [SplitLangevin(8, 40.0, every=4), SplitNVE(8, every=4)]
    states = list(run_md(start, potential, stages, timestep_fs=0.1))
    assert [state.step for state in states] == [4, 8, 12, 16]
    assert [state.time_fs for state in states] == [0.4, 0.8, 1.2, 1.6]
    rest = list(run_md(states[1], potential, stages, timestep_fs=0.1, first_step=0))
    assert [state.step for state in rest] == [12, 16]
    assert torch.equal(rest[-1].velocities, states[-1].velocities)


def test_a_potential_without_a_slow_part_is_refused():
    atoms = argon(1)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    with pytest.raises(TypeError, match="split"):
        last(run_md(start, potential, [SplitNVE(4, every=2)], timestep_fs=1.0))
