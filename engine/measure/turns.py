"""Step times of several potentials, measured turn by turn in one process.

Whatever else the machine does then slows all of them alike, and their quotients stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import torch

from duetto.md.integrators import velocity_verlet
from duetto.md.state import DrivingPotential, State


@dataclass
class Timing:
    """Wall times of one task, one per round, in ms."""

    samples_ms: list[float] = field(default_factory=list)

    @property
    def minimum_ms(self) -> float:
        """The fastest round: the task's cost on an idle machine, if there was an idle moment."""
        return min(self.samples_ms)

    @property
    def median_ms(self) -> float:
        """The middle round."""
        return median(self.samples_ms)

    def to_dict(self) -> dict[str, float | int]:
        """Minimum, median and count, as plain data."""
        return {
            "minimum": self.minimum_ms,
            "median": self.median_ms,
            "samples": len(self.samples_ms),
        }


def time_in_turns(
    tasks: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    synchronize: Callable[[], object] = lambda: None,
    after_round: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run every task once per round, each round beginning with another one.

    Args:
        tasks: what to time, by name; each has been run before, so that nothing is compiled now.
        rounds: how often.
        synchronize: waits until the device has done all that was asked of it.
        after_round: called after each round, outside the measured time.
        clock: in seconds; `time.thread_time` for tasks of one thread on a machine that does other
            things meanwhile.

    Raises:
        ValueError: no task or no round.
    """
    if not tasks or rounds < 1:
        raise ValueError("nothing to time: give at least one task and one round")
    timings = {name: Timing() for name in tasks}
    for turn in range(rounds):
        for name in _rotated(list(tasks), turn):
            timings[name].samples_ms.append(_milliseconds(tasks[name], synchronize, clock))
        after_round()
    return timings


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


def _milliseconds(
    task: Callable[[], object],
    synchronize: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    synchronize()
    began = clock()
    task()
    synchronize()
    return 1000.0 * (clock() - began)


@dataclass(frozen=True)
class StepTimes:
    """What a step of molecular dynamics takes with each potential.

    Attributes:
        step: velocity Verlet steps in which the neighbour list stayed valid.
        rebuild: building the neighbour list.
    """

    step: dict[str, Timing]
    rebuild: dict[str, Timing]

    def milliseconds(self, name: str, steps_per_rebuild: float) -> float:
        """Median time of a step and its share of a rebuild every `steps_per_rebuild` steps, ms."""
        return self.step[name].median_ms + self.rebuild[name].median_ms / steps_per_rebuild


def time_steps(
    state: State,
    potentials: Mapping[str, DrivingPotential],
    *,
    timestep_fs: float,
    rounds: int,
    rebuilds: int = 3,
    after_round: Callable[[], object] = lambda: None,
) -> StepTimes:
    """Time steps of constant energy and, apart from them, rebuilds of the neighbour list.

    In each round every potential steps from the same state, to the same positions; the next round
    begins where the first potential led. A step in which a list was built anew does not count.

    Args:
        state: where to begin, with forces of the first potential.
        potentials: what to time, by name.
        timestep_fs: timestep, fs.
        rounds: steps per potential.
        rebuilds: rebuilds to time per potential.
        after_round: called after each round, outside the measured time.

    Raises:
        ValueError: nothing to time, or a list that no step left valid.
    """
    on_cuda = state.positions.device.type == "cuda"
    synchronize = torch.cuda.synchronize if on_cuda else _nothing_to_wait_for
    rebuild = time_in_turns(
        {
            name: partial(potential.rebuild, state.positions, state.cell)
            for name, potential in potentials.items()
        },
        rounds=rebuilds,
        synchronize=synchronize,
    )
    leader = next(iter(potentials))
    for potential in potentials.values():  # whatever a new list makes it prepare
        potential.evaluate(state.positions, state.cell)
    timings = {name: Timing() for name in potentials}
    for turn in range(rounds):
        stepped: dict[str, State] = {}
        for name in _rotated(list(potentials), turn):
            step = partial(_step, stepped, name, state, potentials[name], timestep_fs)
            elapsed = _milliseconds(step, synchronize)
            if stepped[name].n_rebuilds == state.n_rebuilds:
                timings[name].samples_ms.append(elapsed)
        state = stepped[leader]
        after_round()
    for name, timing in timings.items():
        if not timing.samples_ms:
            raise ValueError(f"{name}: every step rebuilt the neighbour list; widen the skin")
    return StepTimes(timings, rebuild)


def _step(
    stepped: dict[str, State],
    name: str,
    state: State,
    potential: DrivingPotential,
    timestep_fs: float,
) -> None:
    stepped[name] = velocity_verlet(state, potential, timestep_fs)


def _nothing_to_wait_for() -> None:
    """The processor has done what it was asked when the call returns."""
