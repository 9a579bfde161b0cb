"""Timing in turns: what is called when, and what counts."""

import time

import numpy as np
import pytest
import torch
from ase.build import bulk

from duetto.md import initial_state
from duetto.measure.turns import StepTimes, Timing, time_in_turns, time_steps
from duetto.potential.mixture import Potential
from tests.pairs import mismatched_pair


def test_each_round_runs_every_task_and_begins_with_another():
    calls = []
    tasks = {name: lambda name=name: calls.append(name) for name in "abc"}
    ended = []
    timings = time_in_turns(tasks, rounds=4, after_round=lambda: ended.append(len(calls)))
    assert calls == [*"abc", *"bca", *"cab", *"abc"]
    assert ended == [3, 6, 9, 12]
    assert {name: len(timing.samples_ms) for name, timing in timings.items()} == dict.fromkeys(
        "abc", 4
    )


def test_times_are_milliseconds_of_the_task_alone():
    timings = time_in_turns(
        {"slow": lambda: time.sleep(0.02), "fast": lambda: None},
        rounds=3,
        after_round=lambda: time.sleep(0.05),
    )
    assert timings["slow"].minimum_ms >= 20.0
    assert timings["fast"].minimum_ms < 20.0  # neither the other task's nor the round's end


def test_another_clock_is_asked_before_and_after():
    ticks = iter(range(100))
    timings = time_in_turns({"a": int}, rounds=2, clock=lambda: next(ticks) ** 2 / 1000)
    assert timings["a"].samples_ms == pytest.approx([1.0, 5.0])


def test_minimum_and_median():
    timing = Timing([3.0, 1.0, 10.0])
    assert timing.to_dict() == {"minimum": 1.0, "median": 3.0, "samples": 3}


def test_a_step_bears_its_share_of_a_rebuild():
    times = StepTimes({"hf": Timing([10.0])}, {"hf": Timing([40.0])})
    assert times.milliseconds("hf", 20.0) == 12.0


@pytest.mark.parametrize(("tasks", "rounds"), [({}, 3), ({"a": int}, 0)])
def test_nothing_to_time_is_refused(tasks, rounds):
    with pytest.raises(ValueError, match="nothing to time"):
        time_in_turns(tasks, rounds=rounds)


def warm_bulk(skin):
    atoms = bulk("Pt", cubic=True).repeat((2, 2, 2))
    atoms.rattle(0.1, seed=0)
    pair, species = mismatched_pair(zbl=True), atoms.get_chemical_symbols()
    potentials = {
        name: Potential(pair, species, np.full(len(atoms), w), atoms.pbc, skin=skin)
        for name, w in (("hf", 1.0), ("lf", 0.0))
    }
    return initial_state(atoms, potentials["hf"], temperature_K=300, seed=1), potentials


def test_every_potential_steps_to_the_same_positions():
    state, potentials = warm_bulk(skin=0.5)
    seen = {name: [] for name in potentials}
    for name, potential in potentials.items():
        evaluate = potential.evaluate

        def watched(positions, cell, evaluate=evaluate, name=name):
            seen[name].append(positions.clone())
            return evaluate(positions, cell)

        potential.evaluate = watched
    times = time_steps(state, potentials, timestep_fs=1.0, rounds=4, rebuilds=2)
    assert len(seen["hf"]) == len(seen["lf"]) == 5  # once before, then once a round
    assert all(torch.equal(a, b) for a, b in zip(seen["hf"], seen["lf"], strict=True))
    assert not torch.equal(seen["hf"][1], seen["hf"][2])
    assert {len(timing.samples_ms) for timing in times.step.values()} == {4}
    assert {len(timing.samples_ms) for timing in times.rebuild.values()} == {2}


def test_steps_that_rebuild_the_list_do_not_count():
    state, potentials = warm_bulk(skin=0.0)
    with pytest.raises(ValueError, match="every step rebuilt the neighbour list; widen the skin"):
        time_steps(state, potentials, timestep_fs=1.0, rounds=2)
