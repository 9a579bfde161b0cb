"""Runs with multiple time steps that stay on the device, against the host's and the CPU's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duetto.errors import RunStopped
from duetto.kernels.triton.multiple_timestep import SplitDynamics
from duetto.md import Limits, initial_state, run_md
from duetto.md.loop import NVE, Langevin, Stage
from duetto.md.multiple_timestep import split_stage
from duetto.md.state import State
from duetto.partition.guard import Guard
from duetto.partition.keeper import Keeper
from duetto.potential.split import SplitPotential
from duetto.potential.triton import TritonBackend
from duetto.run.checkpoint import load_checkpoint, save_checkpoint
from tests.engine.md.test_device_dynamics import TIMESTEP, run
from tests.engine.potential.test_triton import (
    DEVICE,
    TOLERANCE,
    blended,
    covered_by_torch,
    potential,
    some,
)

EVERY = 3
TENSORS = ("positions", "velocities", "forces", "slow_forces", "energies", "virial",
           "list_reference")  # fmt: skip
NUMBERS = ("step", "energy", "n_rebuilds", "time_fs", "thermostat_work", "stage_conserved")


def start(skin: float = 0.5, temperature: float = 300.0) -> tuple[State, SplitPotential]:
    atoms, pair = some("triclinic", 5), covered_by_torch()
    p: Any = potential(atoms, blended(atoms), pair, skin, SplitPotential)
    return initial_state(atoms, p, temperature_K=temperature, seed=1, device=p.device), p


def split(*stages: Stage) -> list[Stage]:
    return [split_stage(stage, EVERY) for stage in stages]


def go(state: State, p: Any, *stages: Stage, every: int = EVERY, **options: Any) -> list[State]:
    return run(state, p, 0, every, stages=split(*stages), **options)


def same(one: State, other: State) -> None:
    for name in TENSORS:
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in NUMBERS:
        assert getattr(one, name) == getattr(other, name), name


def test_device_and_host_take_the_same_steps() -> None:
    """On one backend. The host kicks once between two inner steps, the device twice by a half."""
    state, p = start(skin=1.5)
    on_host = go(state, p, NVE(6), every=1)
    assert p.n_rebuilds == 1  # LF alone is asked over the list that serves both
    on_device = go(*start(skin=1.5), NVE(6))
    assert [s.step for s in on_device] == [s.step for s in on_host] == [3, 6]
    for device, host in zip(on_device, on_host, strict=True):
        assert device.time_fs == host.time_fs
        # Half kicks round otherwise, 1e-16 of 1e-2 Å/fs; float32 differences of positions are the
        # same on both sides, unless one lies at the edge between two.
        assert (device.positions - host.positions).abs().max() < 1e-14
        assert (device.velocities - host.velocities).abs().max() < 1e-15
        for name in ("forces", "slow_forces", "energies", "virial"):
            got, expected = getattr(device, name), getattr(host, name)
            assert (got - expected).abs().max() <= 1e-12 * expected.abs().max(), name


def test_device_follows_float64_on_the_cpu() -> None:
    atoms, pair = some("triclinic", 5), covered_by_torch()
    plain = SplitPotential(
        pair, list(atoms.symbols), blended(atoms), atoms.pbc, dtype="float64", backend="reference"
    )
    (expected,) = go(initial_state(atoms, plain, temperature_K=300.0, seed=1), plain, NVE(3))
    begin, p = start()
    (got,) = go(begin, p, NVE(3))
    for name in ("forces", "slow_forces"):
        found, true = getattr(got, name), getattr(expected, name)
        assert (found - true).abs().max() < TOLERANCE * expected.forces.abs().max(), name
    # An error of the forces, those of the slow ones taken k times, over t²/2m of the lightest.
    error = TOLERANCE * float(expected.forces.abs().max()) * EVERY
    far = error * 0.5 * (3 * TIMESTEP) ** 2 * float(begin.response.max())
    assert (got.positions - expected.positions).abs().max() < far
    assert (expected.positions - begin.positions.cpu()).abs().max() > 1000 * far


THERMALIZED = (Langevin(3, 800.0, 0.05), NVE(3))


def test_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Through a checkpoint, between two stages and between rebuilds."""
    whole = go(*start(skin=0.15, temperature=2000.0), *THERMALIZED)
    assert [s.step for s in whole] == [3, 6]
    assert whole[-1].n_rebuilds > 1
    assert whole[0].thermostat_work != 0.0
    save_checkpoint(tmp_path / "checkpoint", whole[0], {})
    _, p = start(skin=0.15, temperature=2000.0)
    middle, _ = load_checkpoint(tmp_path / "checkpoint", p.device)
    p.rebuild(middle.list_reference, middle.cell)
    resumed = go(middle, p, *THERMALIZED, first_step=0)
    assert [s.step for s in resumed] == [6]
    same(resumed[-1], whole[-1])


def test_parts_between_records_are_whole_outer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """And who was given a state may evaluate, which weighs the list's centres otherwise."""
    undisturbed = go(*start(skin=1.5), NVE(6), every=6)
    monkeypatch.setattr("duetto.md.loop.STEPS_UNSEEN", 4)
    launched = []
    launch = SplitDynamics.launch
    monkeypatch.setattr(
        SplitDynamics, "launch", lambda run, n: (launched.append(n), launch(run, n))[1]
    )
    state, p = start(skin=1.5)
    disturbed = []
    limits = Limits(temperature_K=None, energy_drift_meV_per_atom=None)
    stages = split(NVE(6))
    for now in run_md(state, p, stages, timestep_fs=TIMESTEP, limits=limits, every=3):
        disturbed.append(now)
        p.evaluate(state.positions, state.cell)
        p.evaluate_fast(state.positions, state.cell)
    assert launched == [3, 3]
    same(disturbed[-1], undisturbed[-1])
    (parts,) = go(*start(skin=1.5), NVE(6), every=6)
    assert launched == [3, 3, 3, 3]
    same(parts, undisturbed[-1])


def test_host_takes_the_steps_where_the_guard_may_promote() -> None:
    state, p = start()
    keeper = Keeper.of(Guard(policy="promote"), p)
    states = go(state, p, NVE(6), partition=keeper)
    assert [s.step for s in states] == [3, 6]
    assert all(s.slow_forces is not None for s in states)


def test_a_state_without_slow_forces_is_refused() -> None:
    state, p = start()
    with pytest.raises(TypeError, match="no slow forces"):
        go(replace(state, slow_forces=None), p, NVE(3))


def test_the_low_fidelity_expert_is_checked_where_the_mixture_has_none() -> None:
    """Full HF with time split: LF moves all atoms, though no weight counts it."""
    atoms, pair = some("triclinic", 5), covered_by_torch()
    backend = TritonBackend(pair.experts, DEVICE, "fp32")
    p = SplitPotential(
        pair, list(atoms.symbols), np.ones(5), atoms.pbc, device=DEVICE, backend=backend
    )
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    assert p.self_check(x, cell) < TOLERANCE
    backend.experts["lf"] = backend.experts["hf"]
    fresh = SplitPotential(
        pair, list(atoms.symbols), np.ones(5), atoms.pbc, device=DEVICE, backend=backend
    )
    with pytest.raises(RunStopped, match="differs from the reference"):
        fresh.self_check(x, cell)
