"""In which order a run that stays on a device asks for steps and hands out states."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from duetto.errors import RunStopped
from duetto.md import NVE, Limits, initial_state, loop, run_md
from duetto.md.state import State
from tests.engine.md.toy import Pairs, argon, lj_potential


@dataclass(frozen=True)
class Reached:
    step: int

    def after(self, state: State) -> State:
        return replace(state, step=self.step, time_fs=float(self.step))


@dataclass
class Device:
    """Only counts steps, and fails at one: on the way, or at the last ones, which are awaited."""

    step: int
    log: list[str] = field(default_factory=list)
    fails_at: int = -1
    on_the_way: bool = False

    def launch(self, n_steps: int) -> None:
        self.step += n_steps
        self.log.append(f"launch to {self.step}")
        self._fail(self.on_the_way)

    def finish(self) -> Reached:
        self._fail(not self.on_the_way)
        self.log.append(f"reached {self.step}")
        return Reached(self.step)

    def _fail(self, here: bool) -> None:
        if here and 0 <= self.fails_at <= self.step:
            raise RunStopped(f"step {self.fails_at} failed")


class Stage(NVE):
    """On the device of `options`."""

    def __init__(self, steps: int, log: list[str], **options: Any) -> None:
        super().__init__(steps)
        object.__setattr__(self, "options", {"log": log, **options})

    def on_device(self, state: State, potential: Any, timestep_fs: float) -> Any:
        self.options["log"].append(f"from {state.step}")
        return Device(state.step, **self.options)


@pytest.fixture(autouse=True)
def _stays_on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pairs, "takes_steps_on_device", True)


def run(*stages: NVE, every: int) -> Iterator[State]:
    atoms = argon(1)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    return run_md(start, potential, stages, timestep_fs=1.0, limits=Limits(None, None), every=every)


def test_the_next_steps_are_launched_before_a_state_is_had() -> None:
    log: list[str] = []
    for state in run(Stage(5, log), Stage(2, log), every=2):
        log.append(f"state {state.step}")
    assert log == [
        *("from 0", "launch to 2", "reached 2"),
        *("launch to 4", "state 2", "reached 4"),
        *("launch to 5", "state 4", "reached 5", "state 5"),
        # Records are at multiples of two of all steps.
        *("from 5", "launch to 6", "reached 6"),
        *("launch to 7", "state 6", "reached 7", "state 7"),
    ]


@pytest.mark.parametrize("on_the_way", [True, False])
def test_the_state_before_a_failure_is_had_first(on_the_way: bool) -> None:
    states = run(Stage(8, [], fails_at=5, on_the_way=on_the_way), every=2)
    assert next(states).step == 2
    assert next(states).step == 4
    with pytest.raises(RunStopped, match="step 5 failed"):
        next(states)


@pytest.mark.parametrize("on_the_way", [True, False])
def test_of_two_failures_the_first_counts(
    on_the_way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that fails its check is not had, whatever became of the steps after it."""

    def check(state: State, *_: Any, **__: Any) -> None:
        if state.step == 4:
            raise RunStopped("step 4 is beyond the limits")

    monkeypatch.setattr(loop, "check", check)
    states = run(Stage(8, [], fails_at=5, on_the_way=on_the_way), every=2)
    assert next(states).step == 2
    with pytest.raises(RunStopped, match="step 4 is beyond the limits"):
        next(states)


def test_a_run_that_is_given_up_launches_nothing_more() -> None:
    log: list[str] = []
    states = run(Stage(8, log), every=2)
    next(states)
    states.close()
    assert log[-1] == "launch to 4"


class Guarded(Reached):
    """The list was built on the way there."""

    def rebuilds(self) -> Iterator[tuple[int, Any]]:
        yield self.step, None


class Guard:
    """Takes its time: until the device has been launched again, or for good."""

    changes_weights = False
    e_repartition = 0.0

    def __init__(self) -> None:
        self.looking, self.launched = threading.Event(), threading.Event()
        self.seen: list[int] = []

    def look(self, step: int, positions: Any, cell: Any) -> None:
        self.looking.set()
        if step == 2:
            assert self.launched.wait(60.0), "the device waits for the guard"
        self.seen.append(step)


def test_the_device_goes_on_while_the_guard_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps after a record are launched in the middle of the look at what led to it."""
    guard = Guard()

    class Busy(Device):
        def launch(self, n_steps: int) -> None:
            super().launch(n_steps)
            if self.step == 4:
                assert guard.looking.wait(60.0), "the guard waits for the device"
                guard.launched.set()

        def finish(self) -> Guarded:
            return Guarded(super().finish().step)

    stage = Stage(6, [])
    monkeypatch.setattr(
        Stage, "on_device", lambda self, state, potential, timestep_fs: Busy(state.step)
    )
    atoms = argon(1)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=40.0)
    states = run_md(start, potential, [stage], timestep_fs=1.0, every=2, partition=guard)
    for state in states:
        assert guard.seen == list(range(2, state.step + 1, 2))


def test_what_the_guard_finds_stops_the_run_before_the_state() -> None:
    class Stern(Guard):
        def look(self, step: int, positions: Any, cell: Any) -> None:
            raise RunStopped(f"guard: step {step}")

    class Rebuilding(Device):
        def finish(self) -> Guarded:
            return Guarded(super().finish().step)

    looked = loop._one_record_behind(
        initial_state(argon(1), lj_potential(argon(1), cutoff=5.0), temperature_K=40.0),
        Rebuilding(0),
        6,
        2,
        Stern(),
    )
    with pytest.raises(RunStopped, match="guard: step 2"):
        next(looked)
