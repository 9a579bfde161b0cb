"""One step of dynamics: from a state to the next."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from duetto.md.state import BOLTZMANN_EV_PER_K, DrivingPotential, State, with_forces
from duetto.md.velocities import remove_drift


def velocity_verlet(state: State, potential: DrivingPotential, timestep_fs: float) -> State:
    """One step of constant energy by velocity Verlet.

    Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982):

        v(t + h/2) = v(t) + (h/2) F(t)/m
        x(t + h)   = x(t) + h v(t + h/2)
        v(t + h)   = v(t + h/2) + (h/2) F(t + h)/m

    Symplectic, reversible in time, energy error of order h².
    """
    velocities = state.velocities + 0.5 * timestep_fs * state.accelerations
    moved = _moved(state, timestep_fs, velocities=velocities, drift_fs=timestep_fs)
    return _kicked(with_forces(moved, potential), timestep_fs)


def langevin_baoab(
    state: State,
    potential: DrivingPotential,
    timestep_fs: float,
    *,
    temperature_K: float,
    friction_per_fs: float,
) -> State:
    """One step of Langevin dynamics by the BAOAB splitting: one force evaluation.

    Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010: half a kick
    (B), half a drift (A), the exact Ornstein–Uhlenbeck step of friction γ (O), half a drift, half
    a kick. O reads, with c = exp(−γh) and R standard normal,

        v ← c v + √(1 − c²) √(k_B T/m) R

    The drift of the centre of mass is projected out of O, so the total momentum stays zero and
    the 3A − 3 remaining degrees of freedom are sampled canonically. The kinetic energy that O
    gives is added to `thermostat_work`.
    """
    velocities = state.velocities + 0.5 * timestep_fs * state.accelerations
    halfway = _moved(state, 0.0, velocities=velocities, drift_fs=0.5 * timestep_fs)

    generator = state.generator.clone_state()
    thermalized = ornstein_uhlenbeck(
        replace(state, velocities=velocities),
        generator,
        timestep_fs,
        temperature_K,
        friction_per_fs,
    )
    moved = _moved(halfway, timestep_fs, velocities=thermalized, drift_fs=0.5 * timestep_fs)
    work = moved.kinetic_energy - halfway.kinetic_energy
    moved = replace(moved, generator=generator, thermostat_work=state.thermostat_work + work)
    return _kicked(with_forces(moved, potential), timestep_fs)


def ornstein_uhlenbeck(
    state: State,
    generator: torch.Generator,
    timestep_fs: float,
    temperature_K: float,
    friction_per_fs: float,
) -> torch.Tensor:
    """Velocities (A, 3) after the O of `langevin_baoab`; `generator` moves on.

    Where atoms are fixed they get none, and the drift of the others is theirs.
    """
    velocities = state.velocities
    noise = torch.randn(
        velocities.shape, generator=generator, dtype=velocities.dtype, device=velocities.device
    )
    kept = math.exp(-friction_per_fs * timestep_fs)
    thermal_energy = BOLTZMANN_EV_PER_K * temperature_K  # eV
    spread = (thermal_energy * (1.0 - kept**2) * state.response).sqrt()[:, None]
    velocities = kept * velocities + spread * noise
    return velocities if state.fixed is not None else remove_drift(velocities, state.masses)


def _moved(state: State, elapsed_fs: float, *, velocities: torch.Tensor, drift_fs: float) -> State:
    """The state after a drift with `velocities`; a step has passed where time has."""
    return replace(
        state,
        positions=state.positions + drift_fs * velocities,
        velocities=velocities,
        step=state.step + (elapsed_fs > 0.0),
        # A sum of decimal timesteps stays decimal, however many there are.
        time_fs=round(state.time_fs + elapsed_fs, 9),
    )


def _kicked(state: State, timestep_fs: float) -> State:
    """The state after half a kick with its present forces."""
    return replace(state, velocities=state.velocities + 0.5 * timestep_fs * state.accelerations)
