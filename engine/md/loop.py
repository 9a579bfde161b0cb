"""The loop: stage after stage, step after step, until the end or until something is wrong."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor

from duetto.errors import InputError, RunStopped
from duetto.md.device import DeviceStage, PendingState, on_host
from duetto.md.integrators import langevin_baoab, velocity_verlet
from duetto.md.limits import Limits, check
from duetto.md.nose_hoover import nose_hoover
from duetto.md.repartition import KeptPartition, between_steps
from duetto.md.state import DrivingPotential, State

_log = logging.getLogger("duetto")

STEPS_UNSEEN = 500
"""How many steps the device takes at most before the host looks at the rebuilds among them: the
positions of every one of them wait in the host's memory."""


@dataclass(frozen=True)
class Stage(ABC):
    """A number of steps by one integrator.

    Attributes:
        steps: how many.
        constant_energy: whether the conserved energy is to stay within the limit of its drift.
    """

    steps: int
    constant_energy: ClassVar[bool] = False

    @property
    def has_device_form(self) -> bool:
        """Whether there is `on_device`; without it the host takes every step of the run."""
        return False

    @property
    def steps_together(self) -> int:
        """How many steps lead from one state to the next."""
        return 1

    def beginning(self, step: int) -> Self:
        """The same stage, knowing the step of the run at which it begins."""
        return self

    @abstractmethod
    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the next state."""

    def on_device(
        self, state: State, potential: DrivingPotential, timestep_fs: float
    ) -> DeviceStage:
        """The same on the potential's device.

        Raises:
            TypeError: it has no such form.
        """
        raise TypeError(f"{type(self).__name__} has no form on a device")


@dataclass(frozen=True)
class NVE(Stage):
    """Steps at constant energy."""

    constant_energy: ClassVar[bool] = True

    @property
    def has_device_form(self) -> bool:
        """It has."""
        return True

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the next state."""
        return velocity_verlet(state, potential, timestep_fs)

    def on_device(
        self, state: State, potential: DrivingPotential, timestep_fs: float
    ) -> DeviceStage:
        """The same on the potential's device."""
        return DeviceStage(state, potential, timestep_fs)


@dataclass(frozen=True)
class Bath(Stage):
    """Steps at a temperature that stays, or goes from one to another in a straight line.

    Attributes:
        steps: how many.
        temperature_K: at the start, K.
        final_temperature_K: at the end, K; None for the same.
        begin: step of the run at which the stage begins.
    """

    temperature_K: float
    final_temperature_K: float | None = field(default=None, kw_only=True)
    begin: int = field(default=0, kw_only=True)

    def beginning(self, step: int) -> Self:
        """The same stage, knowing the step of the run at which it begins."""
        return replace(self, begin=step)

    def temperature_at(self, step: int) -> float:
        """Temperature of the bath in the middle of the step that follows `step`, K."""
        if self.final_temperature_K is None:
            return self.temperature_K
        done = (step - self.begin + 0.5) / self.steps
        return self.temperature_K + done * (self.final_temperature_K - self.temperature_K)


@dataclass(frozen=True)
class Langevin(Bath):
    """A bath by friction and noise."""

    friction_per_fs: float = 0.01

    @property
    def has_device_form(self) -> bool:
        """It has, at a temperature that stays."""
        return self.final_temperature_K is None

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the next state."""
        return langevin_baoab(
            state,
            potential,
            timestep_fs,
            temperature_K=self.temperature_at(state.step),
            friction_per_fs=self.friction_per_fs,
        )

    def on_device(
        self, state: State, potential: DrivingPotential, timestep_fs: float
    ) -> DeviceStage:
        """The same on the potential's device, with other random numbers."""
        return DeviceStage(
            state,
            potential,
            timestep_fs,
            temperature_K=self.temperature_K,
            friction_per_fs=self.friction_per_fs,
        )


@dataclass(frozen=True)
class NoseHoover(Bath):
    """A bath by a Nosé–Hoover chain: deterministic, and of constant temperature on average."""

    period_fs: float = 100.0

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the next state."""
        return nose_hoover(
            state,
            potential,
            timestep_fs,
            temperature_K=self.temperature_at(state.step),
            period_fs=self.period_fs,
        )


def run_md(
    state: State,
    potential: DrivingPotential,
    stages: Sequence[Stage],
    *,
    timestep_fs: float,
    limits: Limits | None = None,
    partition: KeptPartition | None = None,
    first_step: int | None = None,
    every: int = 1,
) -> Iterator[State]:
    """Run the stages and yield the state after each step.

    Args:
        state: where to start, with forces (`initial_state`, or from a checkpoint).
        potential: what computes the forces.
        stages: what to do, one after the other.
        timestep_fs: timestep, fs.
        limits: when to stop.
        partition: who keeps it: is asked after every step, and what it books goes to the state.
        first_step: the step at which the first stage began; default: that of `state`. A resumed
            run gives 0, and the steps already done are skipped.
        every: where a stage can stay on the device, only states at multiples of this many steps
            are yielded and checked, and the last of the stage. Their tensors are on the host. The
            potential is then ahead, by up to as many steps.

    Raises:
        RunStopped: energy, forces or velocities that are not finite, a limit exceeded, out of
            memory, or the partition's guard. The state yielded last is good.
    """
    limits = limits or Limits()
    end = state.step if first_step is None else first_step
    on_device = every > 1 and _may_stay_on_device(state, potential, stages, partition)
    if on_device:
        state = on_host(state)
    check(state, limits, constant_energy=False)
    for one in stages:
        begin, end = end, end + one.steps
        stage = one.beginning(begin)
        if state.step == begin:
            state = replace(
                state, stage_conserved=state.conserved(state.kinetic_energy), chain=None
            )
        if state.step >= end:
            continue
        if on_device:
            device = stage.on_device(state, potential, timestep_fs)
            states = _one_record_behind(state, device, end, every, partition, stage.steps_together)
        else:
            states = _step_by_step(state, potential, stage, timestep_fs, partition, end)
        for state in states:
            check(state, limits, constant_energy=stage.constant_energy)
            yield state


def _may_stay_on_device(
    state: State,
    potential: DrivingPotential,
    stages: Sequence[Stage],
    partition: KeptPartition | None,
) -> bool:
    if not potential.takes_steps_on_device:
        return False
    if not all(stage.has_device_form for stage in stages):
        _log.info("the host takes every step, since a stage here is none of the device's")
        return False
    if state.fixed is not None and any(isinstance(stage, Bath) for stage in stages):
        _log.info("the host takes every step, since atoms are fixed in a bath")
        return False
    if partition is not None and partition.changes_weights:
        _log.info("the host takes every step, since weights may change between them")
        return False
    return True


def _one_record_behind(
    state: State,
    device: DeviceStage,
    end: int,
    every: int,
    partition: KeptPartition | None,
    together: int = 1,
) -> Iterator[State]:
    """The states to be recorded; each while the device is on its way to the next.

    The guard looks in a thread of its own meanwhile: a look takes as long as many steps.
    """
    step, pending = state.step, None
    unseen = max(STEPS_UNSEEN // together, 1) * together
    with ThreadPoolExecutor(1, "guard") as aside:
        while step < end:
            n_steps = min(every - step % every, unseen - step % unseen, end - step)
            looked = aside.submit(_look, pending, partition, state.cell)
            try:
                device.launch(n_steps)
            finally:  # where a step has failed, the state before is still to be had
                if pending is not None:
                    state = _arrived(state, pending, looked)
                    if state.step % every == 0:
                        yield state
            pending = device.finish()
            step += n_steps
        if pending is not None:
            looked = aside.submit(_look, pending, partition, state.cell)
            yield _arrived(state, pending, looked)


def _look(pending: PendingState | None, partition: KeptPartition | None, cell: Tensor) -> None:
    """Show the partition's guard the rebuilds on the way to a state."""
    if pending is not None and partition is not None:
        for step, positions in pending.rebuilds():
            partition.look(step, positions, cell)


def _arrived(state: State, pending: PendingState, looked: Future[None]) -> State:
    """The state that the device has reached, once the guard has looked at the way there."""
    after = pending.after(state)
    looked.result()
    return after


def _step_by_step(
    state: State,
    potential: DrivingPotential,
    stage: Stage,
    timestep_fs: float,
    partition: KeptPartition | None,
    end: int,
) -> Iterator[State]:
    while state.step < end:
        state = _advance(state, potential, stage, timestep_fs, partition)
        yield state


def _advance(
    state: State,
    potential: DrivingPotential,
    stage: Stage,
    timestep_fs: float,
    partition: KeptPartition | None,
) -> State:
    before = state
    try:
        state = stage.advance(state, potential, timestep_fs)
        if partition is None:
            return state
        rebuilt = state.n_rebuilds != before.n_rebuilds
        return between_steps(state, potential, partition, rebuilt=rebuilt)
    except InputError as error:  # of the potential, about positions that the run led to
        raise RunStopped(f"step {before.step + 1}: {error}; lower timestep_fs") from error
