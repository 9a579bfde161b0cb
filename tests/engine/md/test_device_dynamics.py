"""Runs that stay on the device between recorded states, against the host's step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor

from duetto.errors import RunStopped
from duetto.experts.pair import ExpertPair
from duetto.kernels.triton import flags as flag
from duetto.md.limits import Limits
from duetto.md.loop import NVE, Langevin, Stage, run_md
from duetto.md.state import State, initial_state
from duetto.partition.guard import Guard
from duetto.partition.keeper import Keeper
from duetto.potential.mixture import Potential
from duetto.run.checkpoint import load_checkpoint, save_checkpoint
from tests.engine.potential.test_triton import (
    TOLERANCE,
    blended,
    covered_by_torch,
    potential,
    scaled,
    some,
)

TIMESTEP = 1.0


def start(skin: float = 0.5, temperature: float = 300.0) -> tuple[State, Potential]:
    atoms = some("triclinic", 5)
    p = potential(atoms, blended(atoms), covered_by_torch(), skin=skin)
    state = initial_state(atoms, p, temperature_K=temperature, seed=1, device=p.device)
    return state, p


def run(
    state: State, p: Potential, steps: int, every: int, stages: list[Stage] | None = None, **options
) -> list[State]:
    limits = Limits(temperature_K=1e6, energy_drift_meV_per_atom=1e6)
    stages = stages or [NVE(steps)]
    return list(
        run_md(state, p, stages, timestep_fs=TIMESTEP, limits=limits, every=every, **options)
    )


def test_equals_the_host_step_by_step_bit_for_bit() -> None:
    """With a skin that lasts, both use one list and so the same order of sums."""
    on_host = run(*start(skin=1.5), 5, every=1)
    on_device = run(*start(skin=1.5), 5, every=2)
    assert [s.step for s in on_device] == [2, 4, 5]
    for state in on_device:
        twin = on_host[state.step - 1]
        assert state.time_fs == twin.time_fs
        for name in ("positions", "velocities", "forces", "energies", "virial"):
            assert torch.equal(getattr(state, name), getattr(twin, name)), name
        assert state.energy == twin.energy


def test_resumes_bit_for_bit_through_rebuilds() -> None:
    """A resumed run is given the state, and the list is built where the state says."""
    whole = run(*start(skin=0.06, temperature=2000.0), 6, every=2)
    assert whole[-1].n_rebuilds > 1
    middle = whole[0]
    _, p = start(skin=0.06, temperature=2000.0)
    p.rebuild(middle.list_reference, middle.cell)
    resumed = run(middle, p, 6, every=2, first_step=0)
    assert [s.step for s in resumed] == [4, 6]
    for name in ("positions", "velocities", "forces", "list_reference"):
        assert torch.equal(getattr(resumed[-1], name), getattr(whole[-1], name)), name
    assert resumed[-1].n_rebuilds == whole[-1].n_rebuilds


def spreading_slab(skin: float) -> tuple[State, Potential]:
    """Periodic along two axes; along the third just thinner than two search cells, and growing.

    The atoms count from the top, the search from the bottom; some have edges to both halves.
    """
    height = 2 * (4.2 + skin) - 0.1
    z = np.array([1.0, 0.64, 0.54, 0.46, 0.36, 0.0])
    x = np.arange(6) % 2 * 2.9
    positions = np.stack([x, x, z * height], axis=1)
    atoms = Atoms("PtCPtOPtC", positions=positions, cell=[5.8, 5.8, 0], pbc=(True, True, False))
    p = potential(atoms, blended(atoms), covered_by_torch(), skin=skin)
    velocities = np.zeros((len(atoms), 3))
    # Most of half the skin is used after ten steps, all of it two later than the list is rebuilt.
    velocities[:, 2] = 0.085 * skin * (z - 0.5)
    atoms.set_velocities(velocities / units.fs)
    return initial_state(atoms, p, device=p.device), p


def test_slab_resumes_bit_for_bit_although_its_grid_is_another(tmp_path: Path) -> None:
    """The cells along an open axis are planned for the atoms' extent, in a resumed run anew."""
    state, p = spreading_slab(skin=1.0)
    whole = run(state, p, 15, every=13)
    assert whole[0].n_rebuilds > 0
    kept = p.neighbor_list.mixture.neighbors._grid
    assert whole[-1].n_rebuilds == whole[0].n_rebuilds
    listed = p.neighbor_list.mixture.neighbors.candidates()
    save_checkpoint(tmp_path / "checkpoint", whole[0], {})
    _, p = spreading_slab(skin=1.0)
    middle, _ = load_checkpoint(tmp_path / "checkpoint", p.device)
    p.rebuild(middle.list_reference, middle.cell)
    assert p.neighbor_list.mixture.neighbors._grid.shape != kept.shape
    for one, other in zip(p.neighbor_list.mixture.neighbors.candidates(), listed, strict=True):
        np.testing.assert_array_equal(one, other)
    resumed = run(middle, p, 15, every=13, first_step=0)
    for name in ("positions", "velocities", "forces", "energies", "virial", "list_reference"):
        assert torch.equal(getattr(resumed[-1], name), getattr(whole[-1], name)), name


THERMALIZED = [Langevin(4, 800.0, 0.05), NVE(2)]


def test_thermostat_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Through a checkpoint, from the middle of a stage: noise, heat and list go on as they were."""
    whole = run(*start(skin=0.06), 6, every=2, stages=THERMALIZED)
    assert [s.step for s in whole] == [2, 4, 6]
    assert whole[0].thermostat_work != 0.0
    save_checkpoint(tmp_path / "checkpoint", whole[0], {})
    _, p = start(skin=0.06)
    middle, _ = load_checkpoint(tmp_path / "checkpoint", p.device)
    p.rebuild(middle.list_reference, middle.cell)
    resumed = run(middle, p, 6, every=2, stages=THERMALIZED, first_step=0)
    assert [s.step for s in resumed] == [4, 6]
    for one, other in zip(resumed, whole[1:], strict=True):
        for name in ("positions", "velocities", "forces", "list_reference"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        for name in ("energy", "thermostat_work", "time_fs", "n_rebuilds", "stage_conserved"):
            assert getattr(one, name) == getattr(other, name), name


def test_thermostat_books_its_heat() -> None:
    """What is conserved does not change with the noise, only with the error of the integrator."""
    state, p = start(skin=1.5)
    stages = [Langevin(6, 2000.0, 0.1)]
    last = run(state, p, 6, every=6, stages=stages)[-1]
    gained = last.energy + last.kinetic_energy - state.energy - state.kinetic_energy
    assert abs(last.thermostat_work) > 0.05
    # Some meV of error in six steps of 1 fs, against the heat.
    assert gained == pytest.approx(last.thermostat_work, rel=0.02)
    momentum = (last.masses[:, None] * last.velocities).sum(dim=0)
    assert momentum.abs().max() < 1e-12


class Watch:
    """Notes where it is asked to look."""

    changes_weights = False
    e_repartition = 0.0

    def __init__(self) -> None:
        self.seen: list[tuple[int, torch.Tensor]] = []

    def look(self, step: int, positions: torch.Tensor, cell: torch.Tensor) -> None:
        assert not cell.is_cuda
        self.seen.append((step, positions))


def test_guard_sees_every_rebuild_and_knows_its_step() -> None:
    state, p = start(skin=0.1, temperature=2000.0)
    watch = Watch()
    assert len(p.neighbor_list.neighbor)  # shown to the host once, before the list changes
    states = run(state, p, 6, every=3, partition=watch)
    assert len(watch.seen) == p.n_rebuilds - 1 > 0
    steps = [step for step, _ in watch.seen]
    assert steps == sorted(steps)
    assert 1 <= steps[0] <= steps[-1] <= 6
    # Positions at a rebuild are those of its step, and a state's list was built at the last one.
    every_step = {
        now.step: now.positions for now in run(*start(skin=0.1, temperature=2000.0), 6, 1)
    }
    for step, positions in watch.seen:
        # Another list sums in another order, in float32.
        assert float((positions - every_step[step]).abs().max()) < 1e-5
    assert torch.equal(watch.seen[-1][1], states[-1].list_reference)
    # The host is shown the list as it now is.
    fresh = start(skin=0.1)[1]
    fresh.rebuild(p.list_reference(), state.cell)
    assert p.neighbor_list.neighbor.tolist() == fresh.neighbor_list.neighbor.tolist()


def test_guard_has_seen_what_led_to_a_state_and_nothing_after_it() -> None:
    state, p = start(skin=0.1, temperature=2000.0)
    watch = Watch()
    for now in run_md(state, p, [NVE(6)], timestep_fs=TIMESTEP, every=2, partition=watch):
        assert len(watch.seen) == now.n_rebuilds - state.n_rebuilds
        assert all(step <= now.step for step, _ in watch.seen)


def test_many_steps_between_records_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = run(*start(skin=1.5), 6, every=6)
    monkeypatch.setattr("duetto.md.loop.STEPS_UNSEEN", 4)
    (parts,) = run(*start(skin=1.5), 6, every=6)
    for name in ("positions", "velocities", "forces", "energies", "virial"):
        assert torch.equal(getattr(parts, name), getattr(undisturbed[0], name)), name
    assert (parts.step, parts.time_fs) == (6, undisturbed[0].time_fs)


@pytest.mark.parametrize("distance", [0.01, 1.0])
def test_evaluating_elsewhere_while_steps_are_under_way(distance: float) -> None:
    """Near by, in the same list, or so far away that it is built there, and anew for the run."""
    undisturbed = run(*start(skin=1.5), 6, every=2)
    state, p = start(skin=1.5)
    disturbed = []
    for now in run_md(state, p, [NVE(6)], timestep_fs=TIMESTEP, every=2):
        disturbed.append(now)
        if now.step == 2:
            elsewhere = now.positions + distance * torch.sin(now.positions)
            p.evaluate(elsewhere.to(p.device), now.cell.to(p.device))
    assert (p.n_rebuilds > 1) == (distance == 1.0)
    # The steps to 4 were under way in the list of the run.
    same = disturbed if distance < 1.0 else disturbed[:2]
    for one, other in zip(same, undisturbed, strict=False):
        for name in ("positions", "velocities", "forces", "energies", "virial"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        for name in ("step", "energy", "n_rebuilds"):
            assert getattr(one, name) == getattr(other, name), name
    last, expected = disturbed[-1].forces, undisturbed[-1].forces
    # Another list sums in another order.
    assert float((last - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


def test_host_takes_every_step_where_the_guard_may_promote() -> None:
    state, p = start()
    keeper = Keeper.of(Guard(policy="promote"), p)
    assert len(run(state, p, 4, every=2, partition=keeper)) == 4


def test_changing_the_partition_on_the_device_stops() -> None:
    state, p = start(skin=0.1, temperature=2000.0)
    states = run_md(state, p, [NVE(9)], timestep_fs=TIMESTEP, every=3)
    next(states)
    p.set_weights(np.zeros(5))
    with pytest.raises(RunStopped, match="partition changed"):
        list(states)


def test_collision_stops_and_names_the_step() -> None:
    atoms = Atoms("Pt2", positions=[[0, 0, 0], [3.75, 0, 0]], pbc=False)
    atoms.set_velocities(np.array([[0.05, 0, 0], [-0.05, 0, 0]]) / units.fs)
    pair = covered_by_torch()
    # LF sees nothing at 3.65 Å, and at 3.55 Å a wall.
    p = potential(atoms, np.zeros(2), ExpertPair(pair.hf, scaled(pair.lf, 1e9)))
    state = initial_state(atoms, p, device=p.device)
    with pytest.raises(RunStopped, match=r"step 2: .*lower timestep_fs"):
        run(state, p, 4, every=4)


def test_host_backends_do_not_stay_on_a_device() -> None:
    atoms = some("triclinic", 5)
    pair = covered_by_torch()
    p = Potential(pair, list(atoms.symbols), np.ones(5), atoms.pbc, backend="torch")
    assert not p.takes_steps_on_device


def test_an_evaluation_that_was_given_up_does_not_stop_a_run() -> None:
    """Atoms that somebody has tried too close, in the list of the run: its steps go on."""
    undisturbed = run(*start(skin=1.5), 4, every=2)
    state, p = start(skin=1.5)
    mixture = p.neighbor_list.mixture
    experts = mixture.experts
    mixture.experts = (Diverging(), Diverging())
    with pytest.raises(RunStopped, match="exceeds 1024 eV/Å"):
        p.evaluate(state.positions, state.cell)
    mixture.experts = experts
    mixture.neighbors.flags[flag.FORCE_RANGE.value] = 1  # as it was left before
    mixture.neighbors.flags[flag.HALTED.value] = 1  # of steps that nobody has waited for
    for one, other in zip(run(state, p, 4, every=2), undisturbed, strict=True):
        for name in ("positions", "velocities", "forces", "energies", "virial"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


class Diverging:
    pack_size = 1

    def evaluate(self, edges: object, index: int, energies: Tensor, gradients: Tensor) -> None:
        gradients.fill_(1e9)
