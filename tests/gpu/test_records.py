"""Runs that are one record ahead of the states they hand out: the same bits as runs that wait."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duetto.md import NVE, Langevin, Limits, initial_state, loop, run_md
from duetto.md.state import State
from duetto.potential.mixture import Potential
from duetto.run.checkpoint import load_checkpoint, save_checkpoint
from tests.gpu.systems import layered, on_gpu, system
from tests.waiting import wait_for_every_record

STAGES = (Langevin(50, 600.0, 0.02), NVE(50))
TENSORS = ("positions", "velocities", "forces", "energies", "virial", "list_reference")
NUMBERS = ("step", "energy", "n_rebuilds", "time_fs", "thermostat_work", "stage_conserved")


def potential() -> tuple[State, Potential]:
    atoms, pair = system("pt", 500)
    field = on_gpu(atoms, pair, layered(atoms), precision="bf16x3", skin=0.1)
    return initial_state(atoms, field, temperature_K=600.0, seed=3, device="cuda"), field


def run(state: State, field: Potential) -> list[State]:
    states = run_md(
        state, field, STAGES, timestep_fs=1.0, limits=Limits(None, None), first_step=0, every=20
    )
    return list(states)


def require_equal(some: list[State], others: list[State]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in TENSORS:
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        for name in NUMBERS:
            assert getattr(one, name) == getattr(other, name), name


def test_states_are_those_of_a_run_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = run(*potential())
    monkeypatch.setattr(loop, "_one_record_behind", wait_for_every_record)
    waited = run(*potential())
    assert [state.step for state in ahead] == [20, 40, 50, 60, 80, 100]
    assert ahead[-1].n_rebuilds > 2
    assert all(state.positions.is_pinned() for state in ahead)
    require_equal(ahead, waited)


def test_a_run_given_up_with_steps_under_way_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = run(*potential())
    state, field = potential()
    states = run_md(
        state, field, STAGES, timestep_fs=1.0, limits=Limits(None, None), first_step=0, every=20
    )
    save_checkpoint(tmp_path / "checkpoint", next(states), {})
    states.close()
    middle, _ = load_checkpoint(tmp_path / "checkpoint", "cuda")
    _, field = potential()
    field.rebuild(middle.list_reference, middle.cell)
    require_equal(run(middle, field), whole[1:])


def test_evaluating_elsewhere_while_steps_are_under_way() -> None:
    """In the same list, by who was given a state: the run goes on as if nobody had."""
    undisturbed = run(*potential())
    state, field = potential()
    disturbed = []
    for now in run_md(
        state, field, STAGES, timestep_fs=1.0, limits=Limits(None, None), first_step=0, every=20
    ):
        elsewhere = field.neighbor_list.mixture.neighbors.reference.clone()
        field.backend.evaluate(elsewhere, state.cell, field.neighbor_list, field._work)
        disturbed.append(now)
    require_equal(disturbed, undisturbed)
