"""Multiple time steps: the slow part of the forces acts once in several steps.

Reversible reference system propagation in its impulse form, Tuckerman, Berne, Martyna, J. Chem.
Phys. 97, 1990 (1992): with F = F_fast + F_slow and k inner steps of h,

    v ← v + (k h/2) F_slow/m
    k times a step of h with F_fast
    v ← v + (k h/2) F_slow/m

The half kicks by F_slow fall together with the first and the last by F_fast: the forces there are
F + (k − 1) F_slow, which for k = 1 is F to the last bit. Symplectic and reversible in time, energy
error of order h² at fixed k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from duetto.errors import InputError
from duetto.md.device import DeviceStage
from duetto.md.integrators import ornstein_uhlenbeck
from duetto.md.loop import NVE, Langevin, NoseHoover, Stage
from duetto.md.nose_hoover import within_chain
from duetto.md.state import DrivingPotential, State, evaluated, with_forces, with_list
from duetto.potential.base import Evaluation


class SplitInTime(DrivingPotential, Protocol):
    """A potential whose forces have a slow part: `evaluate` gives `slow_forces`, too."""

    def evaluate_fast(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The rest alone, at `positions` (A, 3) in `cell` (3, 3), Å."""


@dataclass(frozen=True)
class SplitNVE(NVE):
    """Constant energy, the slow forces once in `every` steps; `steps` counts the short ones."""

    every: int = 1

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the state `every` steps later.

        Raises:
            TypeError: the potential has no slow part.
        """
        return respa_verlet(state, _split(potential), timestep_fs, self.every)

    @property
    def steps_together(self) -> int:
        """Those of an outer step."""
        return self.every

    def on_device(
        self, state: State, potential: DrivingPotential, timestep_fs: float
    ) -> DeviceStage:
        """The same on the potential's device."""
        return DeviceStage(state, potential, timestep_fs, every=self.every)


@dataclass(frozen=True)
class SplitLangevin(Langevin):
    """Constant temperature, the slow forces once in `every` steps of noise and friction."""

    every: int = 1

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the state `every` steps later.

        Raises:
            TypeError: the potential has no slow part.
        """
        return respa_baoab(
            state,
            _split(potential),
            timestep_fs,
            self.every,
            temperature_K=self.temperature_at(state.step),
            friction_per_fs=self.friction_per_fs,
        )

    @property
    def steps_together(self) -> int:
        """Those of an outer step."""
        return self.every

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
            every=self.every,
        )


@dataclass(frozen=True)
class SplitNoseHoover(NoseHoover):
    """Constant temperature by a chain, the slow forces once in `every` steps."""

    every: int = 1

    def advance(self, state: State, potential: DrivingPotential, timestep_fs: float) -> State:
        """Return the state `every` steps later.

        The chain acts at the ends of an outer step, the form XO-RESPA of Martyna, Tuckerman,
        Tobias, Klein, Mol. Phys. 87, 1117 (1996): its period is long beside an outer step.

        Raises:
            TypeError: the potential has no slow part.
        """
        parts = _split(potential)
        return within_chain(
            state,
            lambda now: respa_verlet(now, parts, timestep_fs, self.every),
            self.every * timestep_fs,
            temperature_K=self.temperature_at(state.step),
            period_fs=self.period_fs,
        )


def split_stage(stage: Stage, every: int) -> NVE | Langevin | NoseHoover:
    """The same stage with the slow forces once in `every` steps.

    Raises:
        InputError: the stage has no such form.
    """
    if isinstance(stage, Langevin):
        return SplitLangevin(
            stage.steps,
            stage.temperature_K,
            stage.friction_per_fs,
            every,
            final_temperature_K=stage.final_temperature_K,
        )
    if isinstance(stage, NoseHoover):
        return SplitNoseHoover(
            stage.steps,
            stage.temperature_K,
            stage.period_fs,
            every,
            final_temperature_K=stage.final_temperature_K,
        )
    if isinstance(stage, NVE):
        return SplitNVE(stage.steps, every)
    raise InputError(
        f"multiple_timestep: a stage {type(stage).__name__} is not split; allowed: NVE, Langevin, "
        "NoseHoover"
    )


def respa_verlet(state: State, potential: SplitInTime, timestep_fs: float, every: int) -> State:
    """One outer step at constant energy: `every` steps of velocity Verlet by the fast forces."""

    def drift(state: State) -> State:
        return replace(state, positions=state.positions + timestep_fs * state.velocities)

    return _outer_step(state, potential, timestep_fs, every, drift)


def respa_baoab(
    state: State,
    potential: SplitInTime,
    timestep_fs: float,
    every: int,
    *,
    temperature_K: float,
    friction_per_fs: float,
) -> State:
    """One outer step of Langevin dynamics: `every` steps of BAOAB by the fast forces.

    Friction and noise act at every inner step; see `duetto.md.integrators.langevin_baoab`.
    """
    generator = state.generator.clone_state()

    def drift(state: State) -> State:
        before = state.kinetic_energy
        halfway = state.positions + 0.5 * timestep_fs * state.velocities
        velocities = ornstein_uhlenbeck(
            state, generator, timestep_fs, temperature_K, friction_per_fs
        )
        moved = replace(
            state, velocities=velocities, positions=halfway + 0.5 * timestep_fs * velocities
        )
        work = state.thermostat_work + (moved.kinetic_energy - before)
        return replace(moved, thermostat_work=work)

    stepped = _outer_step(state, potential, timestep_fs, every, drift)
    return replace(stepped, generator=generator)


def _outer_step(
    state: State,
    potential: SplitInTime,
    timestep_fs: float,
    every: int,
    drift: Callable[[State], State],
) -> State:
    """Kicks around `every` drifts of `timestep_fs` each."""
    before = potential.n_rebuilds
    state = _kicked(state, 0.5 * timestep_fs, _boundary_forces(state, every))
    for inner in range(1, every + 1):
        state = drift(state)
        state = replace(
            state,
            step=state.step + 1,
            # A sum of decimal timesteps stays decimal, however many there are.
            time_fs=round(state.time_fs + timestep_fs, 9),
        )
        if inner < every:
            fast = evaluated(potential.evaluate_fast, state).forces
            state = _kicked(state, timestep_fs, fast)
    rebuilds = potential.n_rebuilds - before
    if rebuilds:
        state = with_list(state, potential, rebuilds)
    state = with_forces(state, potential)
    return _kicked(state, 0.5 * timestep_fs, _boundary_forces(state, every))


def _boundary_forces(state: State, every: int) -> Tensor:
    """Forces where an outer step begins or ends, (A, 3) eV/Å: fast ones once, slow ones k times."""
    if state.slow_forces is None:
        raise TypeError("the state has no slow forces: it comes from another potential")
    return state.forces + (every - 1) * state.slow_forces


def _kicked(state: State, time_fs: float, forces: Tensor) -> State:
    return replace(state, velocities=state.velocities + time_fs * state.accelerations_by(forces))


def _split(potential: DrivingPotential) -> SplitInTime:
    if not hasattr(potential, "evaluate_fast"):
        raise TypeError("the potential is not split in time")
    return potential  # type: ignore[return-value]
