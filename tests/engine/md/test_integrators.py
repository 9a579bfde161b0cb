import collections
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.md.verlet import VelocityVerlet

from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.integrators import langevin_baoab, velocity_verlet
from duetto.md.velocities import maxwell_boltzmann
from duetto.potential.base import Evaluation
from tests.engine.md.toy import LJ, Pairs, argon, lennard_jones, lj_potential

FAR = 1e4
"""Å: a cutoff that no pair of a cluster reaches, so that the forces are smooth."""


def cluster():
    """An isolated cluster of argon, its forces without any cutoff."""
    atoms = argon(2)
    atoms.set_cell(None)
    atoms.pbc = False
    return atoms


def smooth_lj(atoms):
    return Pairs(
        np.zeros(len(atoms)),
        atoms.pbc,
        lambda r: lennard_jones(r, cutoff=FAR),
        cutoff=100.0,
        skin=20.0,
        dtype=torch.float64,
    )


def last(states):
    return collections.deque(states, maxlen=1).pop()


def test_velocity_verlet_is_ases():
    atoms = cluster()
    start = initial_state(atoms, smooth_lj(atoms), temperature_K=40.0, seed=1)
    state = last(run_md(start, smooth_lj(atoms), [NVE(300)], timestep_fs=2.0))

    atoms.set_velocities(start.velocities.numpy() / units.fs)
    atoms.calc = LennardJones(epsilon=LJ["epsilon"], sigma=LJ["sigma"], rc=FAR)
    VelocityVerlet(atoms, timestep=2.0 * units.fs).run(300)

    # 300 steps of sums over 31 neighbours in another order: rounding of 1e-16 grows in a solid
    # cluster by at most a few orders of magnitude, an error of the scheme is of order 1e-2.
    assert np.abs(state.positions.numpy() - atoms.positions).max() < 1e-10
    assert np.abs(state.velocities.numpy() - atoms.get_velocities() * units.fs).max() < 1e-10
    assert np.abs(state.positions.numpy() - start.positions.numpy()).max() > 0.1
    assert state.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert state.temperature(state.kinetic_energy) * (3 * 32 - 3) / (3 * 32) == pytest.approx(
        atoms.get_temperature(), rel=1e-10
    )


def test_energy_error_is_of_second_order():
    atoms = cluster()

    def largest_error(timestep_fs, steps):
        potential = smooth_lj(atoms)
        start = initial_state(atoms, potential, temperature_K=60.0, seed=3)
        begin = start.conserved(start.kinetic_energy)
        states = run_md(start, potential, [NVE(steps)], timestep_fs=timestep_fs)
        # Every error is taken at the same times, the multiples of 8 fs.
        every = round(8.0 / timestep_fs)
        return max(
            abs(state.conserved(state.kinetic_energy) - begin)
            for state in states
            if state.step % every == 0
        )

    errors = [largest_error(h, round(400.0 / h)) for h in (8.0, 4.0, 2.0)]
    coarse, fine = errors[0] / errors[1], errors[1] / errors[2]
    # E(h) = a h² + b h⁴: the ratios are 4 + O(h²), and halving h brings them 4 times closer to 4.
    assert fine == pytest.approx(4.0, abs=0.1)
    assert coarse == pytest.approx(4.0, abs=0.4)


def test_velocity_verlet_is_reversible():
    atoms = argon(2)
    potential = lj_potential(atoms)
    start = initial_state(atoms, potential, temperature_K=40.0, seed=2)
    there = last(run_md(start, potential, [NVE(150)], timestep_fs=4.0))
    assert (there.positions - start.positions).abs().max() > 0.1

    turned = replace(there, velocities=-there.velocities)
    back = last(run_md(turned, potential, [NVE(150)], timestep_fs=4.0))
    # Rounding alone: 300 steps of 1e-16 relative to 10 Å, grown by the instability of the motion.
    assert (back.positions - start.positions).abs().max() < 1e-9
    assert (back.velocities + start.velocities).abs().max() < 1e-10


def test_momentum_is_conserved():
    atoms = argon(2)
    atoms.set_masses(np.linspace(5.0, 80.0, len(atoms)))
    potential = lj_potential(atoms)
    start = initial_state(atoms, potential, temperature_K=60.0, seed=4)
    stages = [Langevin(100, 60.0, 0.01), NVE(100)]
    largest = (start.masses[:, None] * start.velocities).abs().max()
    for state in run_md(start, potential, stages, timestep_fs=4.0):
        momentum = (state.masses[:, None] * state.velocities).sum(0)
        # A sum of 32 terms per step, over 200 steps, each with a rounding of 1e-16.
        assert momentum.abs().max() < 200 * 32 * 1e-16 * largest * 10


def dimers(count, separation=10.0):
    """Pairs of atoms on springs of zero length, all far apart: the relative motion is harmonic."""
    corner = np.arange(count)[:, None] * np.array([separation, 0.0, 0.0])
    positions = np.repeat(corner, 2, axis=0)
    positions[1::2] += [0.1, 0.0, 0.0]
    return Atoms("ArKr" * count, positions=positions)


class Springs:
    """E = Σ k |r_j − r_i|²/2 over given pairs."""

    n_rebuilds = 0

    def __init__(self, count, stiffness):
        self.weights, self.k = np.zeros(2 * count), stiffness

    def evaluate(self, positions, cell):
        vectors = positions[1::2] - positions[0::2]
        energies = 0.25 * self.k * vectors.square().sum(1).repeat_interleave(2)
        forces = torch.stack([self.k * vectors, -self.k * vectors], dim=1).reshape(-1, 3)
        return Evaluation(float(energies.sum()), energies, forces, torch.zeros(3, 3).double())

    def list_reference(self):
        return None


def test_langevin_samples_the_canonical_distribution():
    """BAOAB on harmonic springs has closed forms at any timestep.

    Positions are exact, ⟨|r|²⟩ = 3 k_B T / k; velocities of the relative motion have
    ⟨μ v²⟩ = 3 k_B T (1 − ω²h²/4), those of each pair's centre of mass 3 k_B T: Leimkuhler,
    Matthews, J. Chem. Phys. 138, 174102 (2013), sec. III.
    """
    count, stiffness, T, h, friction = 300, 2.0, 300.0, 30.0, 0.02
    atoms = dimers(count)
    m1, m2 = atoms.get_masses()[:2]
    reduced = m1 * m2 / (m1 + m2)
    omega = np.sqrt(stiffness / reduced) * units.fs  # 1/fs
    potential = Springs(count, stiffness)
    start = initial_state(atoms, potential, temperature_K=T, seed=5)

    # Underdamped, γ < 2ω, so the energy forgets as exp(−γt): the burn-in leaves e⁻¹⁰, samples
    # 5/γ apart are independent to e⁻⁵.
    assert friction < 2.0 * omega
    every, burn_in, samples = round(5 / friction / h), round(10 / friction / h), 150
    kT = units.kB * T
    potential_energy, relative, centre = [], [], []
    stages = [Langevin(burn_in + samples * every, T, friction)]
    for state in run_md(start, potential, stages, timestep_fs=h):
        if state.step <= burn_in or (state.step - burn_in) % every:
            continue
        v = state.velocities.numpy() / units.fs  # ASE's units: m v² in eV
        potential_energy.append(2.0 * state.energy / (3 * count * kT))
        relative.append(reduced * np.square(v[1::2] - v[0::2]).sum() / (3 * count * kT))
        together = (m1 * v[0::2] + m2 * v[1::2]) / (m1 + m2)
        # The centre of mass of all is at rest: of 3 count directions 3 are gone.
        centre.append((m1 + m2) * np.square(together).sum() / ((3 * count - 3) * kT))
    assert len(centre) == samples

    # A mean of N squares of standard normals is 1 ± √(2/N); 5 σ.
    five_sigma = 5.0 * np.sqrt(2.0 / (3 * count * samples))
    assert np.mean(potential_energy) == pytest.approx(1.0, abs=five_sigma)
    assert np.mean(centre) == pytest.approx(1.0, abs=five_sigma)
    expected = 1.0 - (omega * h) ** 2 / 4.0
    assert np.mean(relative) == pytest.approx(expected, abs=five_sigma * expected)
    # The correction itself is resolved, so the test sees the difference between schemes.
    assert (omega * h) ** 2 / 4.0 > 5.0 * five_sigma


def test_langevin_temperature_fluctuates_canonically():
    """var T = 2 T² / (3A − 3); the sample variance of n has a relative error of √(2/(n − 1))."""
    atoms = argon(1)
    atoms.set_cell(None)
    atoms.pbc = False
    atoms.positions *= 100.0  # free atoms: no force, so no error of the timestep
    potential = lj_potential(atoms)
    start = initial_state(atoms, potential, temperature_K=0.0)
    # A step of 5/γ: velocities are independent to e⁻⁵, and v² to e⁻¹⁰.
    samples, stages = 4000, [Langevin(4002, 80.0, friction_per_fs=0.5)]
    states = run_md(start, potential, stages, timestep_fs=10.0, limits=Limits(None))
    seen = np.array([state.temperature(state.kinetic_energy) for state in states][2:])
    dof = 3 * len(atoms) - 3
    assert seen.mean() == pytest.approx(80.0, abs=5.0 * 80.0 * np.sqrt(2.0 / dof / samples))
    variance = 2.0 * 80.0**2 / dof
    # χ² is not normal: with kurtosis excess 12/dof the variance's relative error is larger.
    spread = np.sqrt((2.0 + 12.0 / dof) / samples)
    assert seen.var() == pytest.approx(variance, rel=5.0 * spread)


def test_thermostat_work_is_booked():
    """The conserved energy of Langevin keeps to its start as well as that of NVE does."""
    atoms = argon(2)
    potential = lj_potential(atoms)
    start = initial_state(atoms, potential, temperature_K=20.0, seed=6)
    begin = start.conserved(start.kinetic_energy)
    total = start.energy + start.kinetic_energy
    worst, gained = 0.0, 0.0
    for state in run_md(start, potential, [Langevin(300, 60.0, 0.01)], timestep_fs=2.0):
        kinetic_energy = state.kinetic_energy
        worst = max(worst, abs(state.conserved(kinetic_energy) - begin))
        gained = state.energy + kinetic_energy - total
    assert gained > 0.1  # eV: the bath has heated the atoms by some 20 K at least
    assert worst < 0.01 * gained


def test_same_seed_same_noise_other_seed_other_noise():
    atoms = argon(1)

    def positions(seed):
        potential = lj_potential(atoms, cutoff=5.0)
        start = initial_state(atoms, potential, temperature_K=0.0, seed=seed)
        stages = [Langevin(5, 50.0, 0.1)]
        return last(run_md(start, potential, stages, timestep_fs=2.0)).positions

    assert torch.equal(positions(7), positions(7))
    assert not torch.equal(positions(7), positions(8))


def test_a_step_leaves_the_state_before_it_as_it_was():
    atoms = argon(1)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=50.0, seed=1)
    kept = {
        name: getattr(start, name).clone()
        for name in ("positions", "velocities", "forces", "energies", "virial")
    }
    generator = start.generator.get_state()
    once = langevin_baoab(start, potential, 2.0, temperature_K=50.0, friction_per_fs=0.1)
    velocity_verlet(once, potential, 2.0)
    again = langevin_baoab(start, potential, 2.0, temperature_K=50.0, friction_per_fs=0.1)
    for name, tensor in kept.items():
        assert torch.equal(getattr(start, name), tensor), name
    assert torch.equal(start.generator.get_state(), generator)
    assert torch.equal(once.positions, again.positions)
    assert torch.equal(once.generator.get_state(), again.generator.get_state())


def test_maxwell_boltzmann():
    masses = torch.linspace(1.0, 100.0, 3000, dtype=torch.float64)
    exact = maxwell_boltzmann(masses, 300.0, seed=1)
    drawn = maxwell_boltzmann(masses, 300.0, seed=1, exact=False)
    dof = 3 * len(masses) - 3

    def temperature(velocities):
        v = velocities.numpy() / units.fs
        return (masses.numpy()[:, None] * v**2).sum() / (dof * units.kB)

    assert temperature(exact) == pytest.approx(300.0, rel=1e-12)
    assert temperature(drawn) == pytest.approx(300.0, rel=5.0 * np.sqrt(2.0 / dof))
    assert temperature(drawn) != pytest.approx(300.0, rel=1e-6)
    for velocities in (exact, drawn):
        momentum = (masses[:, None] * velocities).sum(0)
        assert momentum.abs().max() < 1e-12 * (masses[:, None] * velocities).abs().sum()
    # Light and heavy atoms have the same kinetic energy per atom: equipartition, 5 σ.
    v = drawn.numpy() / units.fs
    kinetic = (masses.numpy()[:, None] * v**2).sum(1) / (3 * units.kB)
    for half in (kinetic[:1500], kinetic[1500:]):
        assert half.mean() == pytest.approx(300.0, rel=5.0 * np.sqrt(2.0 / (3 * 1500)))
    assert maxwell_boltzmann(masses[:1], 300.0, seed=1).abs().max() == 0.0
