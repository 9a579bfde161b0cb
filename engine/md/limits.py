"""When a run has gone wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

from duetto.errors import RunStopped
from duetto.md.describe import describe_atom, hottest_atom, worst_atom
from duetto.md.state import State


@dataclass(frozen=True)
class Limits:
    """When a run has gone wrong; None switches a limit off.

    Attributes:
        temperature_K: highest temperature, K.
        energy_drift_meV_per_atom: largest change of the conserved energy since the start of an
            NVE stage, meV/atom.
    """

    temperature_K: float | None = 20000.0
    energy_drift_meV_per_atom: float | None = 50.0


def check(state: State, limits: Limits, *, constant_energy: bool) -> None:
    """Refuse a state that has gone wrong; `constant_energy` applies the limit on the drift.

    Raises:
        RunStopped: naming the step, the atom and its surroundings.
    """
    when = f"step {state.step} ({state.time_fs:g} fs)"
    # A force that is not finite is in the velocities already: one number tells all.
    kinetic_energy = state.kinetic_energy
    if not (math.isfinite(state.energy) and math.isfinite(kinetic_energy)):
        raise RunStopped(
            f"{when}: energy or forces are not finite, first at "
            f"{describe_atom(state, worst_atom(state))}; look for atoms too close together, "
            "lower timestep_fs"
        )
    temperature = state.temperature(kinetic_energy)
    if limits.temperature_K is not None and temperature > limits.temperature_K:
        raise RunStopped(
            f"{when}: the temperature ran away to {temperature:.4g} K, the limit is "
            f"{limits.temperature_K:g} K (limits.temperature_K); the fastest is "
            f"{describe_atom(state, hottest_atom(state))}; lower timestep_fs, or equilibrate first"
        )
    if not constant_energy or limits.energy_drift_meV_per_atom is None:
        return
    drift = 1000.0 * (state.conserved(kinetic_energy) - state.stage_conserved) / state.n_atoms
    if abs(drift) > limits.energy_drift_meV_per_atom:
        raise RunStopped(
            f"{when}: the conserved energy has changed by {drift:.4g} meV/atom since the stage "
            f"began, the limit is {limits.energy_drift_meV_per_atom:g} "
            f"(limits.energy_drift_meV_per_atom); the largest force is on "
            f"{describe_atom(state, worst_atom(state))}; lower timestep_fs"
        )
