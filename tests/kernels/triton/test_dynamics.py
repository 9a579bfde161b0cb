"""Dynamics on the device against ASE's velocity Verlet and Lennard-Jones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.lj import LennardJones as ASELennardJones
from ase.md.verlet import VelocityVerlet

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.dynamics import Dynamics, ForceRangeError, Thermostat
from duetto.kernels.triton.mixture import Mixture
from duetto.kernels.triton.neighbor_list import DeviceNeighborList
from tests.kernels.triton.lennard_jones import LennardJones

SIGMA, EPSILON, CUTOFF = 2.6, 0.05, 4.2
SKIN = 0.3


def cluster(speed: float = 0.02) -> Atoms:
    """Four atoms in a small skewed cell, periodic along two axes; speeds in Å/fs."""
    atoms = Atoms("Ar4", cell=[[6, 0, 0], [1, 6.5, 0], [0, 0, 9]], pbc=(True, True, False))
    atoms.positions = [[0, 0, 0], [3.0, 0.1, 0.2], [-1.5, 2.8, 0.1], [1.4, 1.5, 2.4]]
    velocities = np.random.default_rng(4).normal(size=(4, 3)) * speed
    atoms.set_velocities(velocities / units.fs)
    return atoms


def mixture(atoms: Atoms, device: str, weights: list[float]) -> Mixture:
    cutoffs = torch.full((2, 1, 1), CUTOFF, dtype=torch.float64)
    types = torch.zeros(2, len(atoms), dtype=torch.int32, device=device)
    pbc = tuple(bool(p) for p in atoms.pbc)
    neighbors = DeviceNeighborList(types, cutoffs, pbc, skin=SKIN, dtype=torch.float64)
    first = LennardJones(SIGMA, EPSILON, CUTOFF)
    second = LennardJones(SIGMA, 2 * EPSILON, CUTOFF)
    # The experts read sizes on the host, which no graph can capture.
    field = Mixture(neighbors, (first, second), capturable=False)
    field.set_weights(torch.tensor(weights, dtype=torch.float64))
    return field


def dynamics(
    atoms: Atoms,
    device: str,
    timestep: float,
    weights: list[float] | None = None,
    **options: object,
) -> Dynamics:
    return Dynamics(
        mixture(atoms, device, weights or [1.0] * len(atoms)),
        torch.tensor(atoms.positions),
        torch.tensor(atoms.get_velocities() * units.fs),
        torch.tensor(atoms.cell.array),
        torch.tensor(units.fs**2 / atoms.get_masses()),
        timestep,
        **options,
    )


def with_ase(atoms: Atoms, timestep: float, steps: int) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = ASELennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    VelocityVerlet(atoms, timestep * units.fs).run(steps)
    return atoms


def check_state(run: Dynamics, expected: Atoms) -> None:
    """Equal within what 2⁻⁴⁰ eV/Å of rounding per edge does to some ten steps of argon."""
    got = run.snapshot().wait()
    np.testing.assert_allclose(got.positions.cpu(), expected.positions, rtol=0, atol=1e-11)
    velocities = expected.get_velocities() * units.fs
    np.testing.assert_allclose(got.velocities.cpu(), velocities, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.forces.cpu(), expected.get_forces(), rtol=0, atol=1e-10)
    energy = expected.get_potential_energy()
    assert float(got.energies.sum()) == pytest.approx(energy, abs=1e-11)
    assert float(got.kinetic) == pytest.approx(expected.get_kinetic_energy(), rel=1e-11)


def test_start(device: str) -> None:
    atoms = cluster()
    run = dynamics(atoms, device, 1.0)
    check_state(run, with_ase(atoms, 1.0, 0))
    assert run.step == 0


def test_follows_ase_through_rebuilds(device: str) -> None:
    """Lists are rebuilt before they fail: the host never has to complete a step."""
    atoms = cluster(speed=0.006)
    run = dynamics(atoms, device, 1.0)
    run._complete_void_step = lambda flags: pytest.fail(f"the list failed first: {flags}")
    run.run(14)
    assert run.step == 14
    assert run.neighbors.n_rebuilds >= 2
    check_state(run, with_ase(atoms, 1.0, 14))
    assert run.mixture.forces.sum(dim=0).tolist() == [0.0, 0.0, 0.0]


def test_follows_ase_through_void_steps(device: str) -> None:
    """Atoms so fast that the list fails within one step: every step is completed by the host."""
    atoms = cluster(speed=0.2)
    run = dynamics(atoms, device, 1.0)
    completed = []
    complete = run._complete_void_step
    run._complete_void_step = lambda flags: (completed.append(run.step), complete(flags))[1]
    run.run(4)
    assert len(completed) >= 2
    assert run._steps_done.item() == 4
    check_state(run, with_ase(atoms, 1.0, 4))


def test_steps_left_under_way_are_completed(device: str) -> None:
    """The last two, whose flags nobody has read, ask the host for help: `finish` gives it."""
    atoms = cluster(speed=0.2)
    run = dynamics(atoms, device, 1.0)
    run.launch(2)
    assert run.step == 0
    run.finish()
    assert run.step == 2 == run._steps_done.item()
    check_state(run, with_ase(atoms, 1.0, 2))


BATH = Thermostat(thermal_energy=0.05, friction=0.02, seed=11)


def langevin(atoms: Atoms, timestep: float, steps: range) -> tuple[Atoms, float]:
    """Langevin dynamics in plain torch and ASE, and the heat that the thermostat gave, eV."""
    atoms = atoms.copy()
    atoms.calc = ASELennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    a = torch.tensor(units.fs**2 / atoms.get_masses())
    x, v = torch.tensor(atoms.positions), torch.tensor(atoms.get_velocities() * units.fs)
    kept, heat = math.exp(-BATH.friction * timestep), 0.0
    for step in steps:
        noise = reference.normal_numbers(BATH.seed, step, len(atoms))
        forces = torch.tensor(atoms.get_forces())
        x, v, given = reference.langevin_first_half(
            x, v, forces, a, timestep, kept, BATH.thermal_energy, noise
        )
        atoms.positions = x.numpy()
        v = v + 0.5 * timestep * torch.tensor(atoms.get_forces()) * a[:, None]
        heat += given
    atoms.set_velocities(v.numpy() / units.fs)
    return atoms, heat


@pytest.mark.parametrize(("speed", "steps"), [(0.012, 8), (0.2, 3)])
def test_langevin_follows_the_reference(speed: float, steps: int, device: str) -> None:
    """Slow atoms, whose lists are rebuilt in time, and fast ones, where the host must help."""
    atoms = cluster(speed)
    first = 2**32 - 2
    run = dynamics(atoms, device, 1.0, thermostat=BATH, first_step=first)
    run.run(steps)
    expected, heat = langevin(atoms, 1.0, range(first, first + steps))
    assert run.step == first + steps == run._steps_done.item()
    assert run.neighbors.n_rebuilds >= 2
    got = run.snapshot().wait()
    # The reference draws its noise in float64, the device its angles in float32: 5e-6 of the
    # √(2 γ h k_B T/m) ≈ 4e-4 Å/fs that a step's noise gives to argon, for some steps.
    np.testing.assert_allclose(got.positions.cpu(), expected.positions, rtol=0, atol=2e-8 * steps)
    velocities = expected.get_velocities() * units.fs
    np.testing.assert_allclose(got.velocities.cpu(), velocities, rtol=0, atol=1e-8 * steps)
    assert float(got.heat) == pytest.approx(heat, abs=1e-5 * steps * BATH.thermal_energy)


def test_langevin_goes_on_with_the_same_noise(device: str) -> None:
    """Two runs of two steps, the second from the state of the first, are one of four."""
    whole = dynamics(cluster(0.01), device, 1.0, thermostat=BATH)
    whole.run(4)
    begun = dynamics(cluster(0.01), device, 1.0, thermostat=BATH)
    begun.run(2)
    resumed = dynamics(cluster(0.01), device, 1.0)
    resumed.neighbors.build(begun.neighbors.reference, begun.cell)
    resumed = Dynamics(
        resumed.mixture, begun.positions, begun.velocities, begun.cell, begun._accelerations,
        1.0, forces=begun.mixture.forces, thermostat=BATH, first_step=2,
    )  # fmt: skip
    resumed.run(2)
    assert torch.equal(resumed.positions, whole.positions)
    assert torch.equal(resumed.velocities, whole.velocities)


def test_run_begins_as_a_resumed_one_would(device: str) -> None:
    """An atom that has come back since it asked for a new list does not get one."""
    run = dynamics(cluster(speed=0.002), device, 1.0)
    run.neighbors.flags[flag.MOVING.value] = 1
    run.run(2)
    assert run.neighbors.n_rebuilds == 1


def test_repeats_bit_for_bit(device: str) -> None:
    first, second = (dynamics(cluster(0.03), device, 1.0) for _ in range(2))
    first.run(3)
    second.run(3)
    assert torch.equal(first.positions, second.positions)
    assert torch.equal(first.velocities, second.velocities)


@pytest.mark.parametrize("bath", [None, BATH], ids=["nve", "langevin"])
def test_steps_and_rebuilds_keep_their_buffers(bath: Thermostat | None, device: str) -> None:
    """A captured graph writes where its buffers were: nothing may put others in their place."""
    run = dynamics(cluster(), device, 1.0, thermostat=bath)
    holders = (run, run.mixture, run.neighbors, run.neighbors.edges())

    def addresses() -> dict[str, int]:
        return {
            f"{type(holder).__name__}.{name}": value.data_ptr()
            for holder in holders
            for name, value in vars(holder).items()
            if isinstance(value, torch.Tensor)
        }

    run.run(1)
    before = addresses()
    generation = run.neighbors.generation
    run.neighbors.rebuild(run.positions)
    run.run(2)
    assert run.neighbors.generation == generation
    assert addresses() == before


def test_other_buffers_of_an_expert_are_noticed(device: str) -> None:
    """An expert serves several lists: for one of them it may take another stash."""
    run = dynamics(cluster(), device, 1.0)
    before = run.mixture.generation
    run.mixture.experts[1].generation = 3
    assert run.mixture.generation != before


def test_snapshot_is_not_changed_by_later_steps(device: str) -> None:
    run = dynamics(cluster(), device, 1.0)
    snapshot = run.snapshot().wait()
    kept = snapshot.positions.clone()
    run.run(1)
    assert torch.equal(snapshot.positions, kept)
    assert not torch.equal(run.positions.cpu(), kept)


def test_virials_are_computed_for_the_last_step_only(device: str) -> None:
    """Which is the one that is recorded; they are those of an evaluation that wants them."""
    run = dynamics(cluster(), device, 1.0)
    seen = []
    evaluate = run.mixture.evaluate

    def noting(positions: torch.Tensor) -> None:
        evaluate(positions)
        seen.append(bool(run.mixture.virial().isfinite().all()))

    run.mixture.evaluate = noting
    run.run(3)
    run.run(1)
    assert seen == [False, False, True, True]
    again = dynamics(cluster(), device, 1.0)
    again.run(4)
    assert torch.equal(run.mixture.virial(), again.mixture.virial())


def test_virial_is_the_derivative_by_strain(device: str) -> None:
    atoms = cluster()
    weights = [1.0, 0.4, 0.0, 0.4]
    virial = mixture_at(atoms, device, weights).virial().cpu()
    step = 1e-5
    for a, b in [(0, 0), (1, 2)]:
        energies = []
        for sign in (1, -1):
            strained = atoms.copy()
            deformation = np.eye(3)
            deformation[a, b] += sign * step
            strained.positions = strained.positions @ deformation
            strained.cell[:] = strained.cell.array @ deformation
            energies.append(float(mixture_at(strained, device, weights).energies.sum()))
        numeric = (energies[0] - energies[1]) / (2 * step)
        # Central differences: error of order step² times the third derivative.
        assert float(virial[a, b]) == pytest.approx(numeric, abs=1e-7)


def mixture_at(atoms: Atoms, device: str, weights: list[float]) -> Mixture:
    field = mixture(atoms, device, weights)
    positions = torch.tensor(atoms.positions, device=device)
    field.neighbors.build(positions, torch.tensor(atoms.cell.array))
    field.evaluate(positions)
    return field


def test_mixture_weights_centres(device: str) -> None:
    """The second expert is twice the first, so each atom's energy is (2 − w) times its own."""
    atoms = cluster()
    weights = [1.0, 0.25, 0.0, 0.5]
    whole = mixture_at(atoms, device, [1.0] * 4).energies.cpu()
    mixed = mixture_at(atoms, device, weights).energies.cpu()
    torch.testing.assert_close(
        mixed, (2 - torch.tensor(weights).double()) * whole, rtol=1e-14, atol=0
    )


def test_missing_expert_is_refused(device: str) -> None:
    neighbors = mixture(cluster(), device, [1.0] * 4).neighbors
    with pytest.raises(ValueError, match="2 atoms need expert 1"):
        Mixture(neighbors, (LennardJones(SIGMA, EPSILON, CUTOFF), None)).set_weights(
            torch.tensor([1.0, 0.5, 0.0, 1.0])
        )


def test_partition_may_change_when_the_list_does(device: str) -> None:
    run = dynamics(cluster(speed=0.08), device, 1.0)

    def make_all_second(now: Dynamics) -> None:
        if float(now.mixture.weights.max()) and now.mixture.neighbors.n_first:
            now.mixture.set_weights(torch.zeros(4))

    run.on_rebuild.append(make_all_second)
    run.run(3)
    assert run.neighbors.n_first == 0
    expected = mixture_at(
        Atoms("Ar4", positions=run.positions.cpu(), cell=run.cell, pbc=(True, True, False)),
        device,
        [0.0] * 4,
    )
    torch.testing.assert_close(run.mixture.forces, expected.forces, rtol=0, atol=1e-10)


def test_clash_stops_at_the_last_good_step(device: str) -> None:
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [3.9, 0, 0]], pbc=False)
    atoms.set_velocities(np.array([[0.9, 0, 0], [-0.9, 0, 0]]) / units.fs)
    run = dynamics(atoms, device, 1.0)
    with pytest.raises(ForceRangeError, match="eV/Å"):
        run.run(3)
    assert run.step == 1
    check_state(run_positions_only(run), with_ase(atoms, 1.0, 1))


def run_positions_only(run: Dynamics) -> Dynamics:
    """The run after recomputing what follows from its positions and velocities."""
    run._kinetic.copy_(run._kinetic_by_block())
    return run
