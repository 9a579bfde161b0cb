"""Constant temperature by a Nosé–Hoover chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from duetto.md.integrators import velocity_verlet
from duetto.md.state import BOLTZMANN_EV_PER_K, DrivingPotential, State

LENGTH = 3
"""Links of the chain; one alone is not ergodic for stiff systems, three are the usual choice."""


def nose_hoover(
    state: State,
    potential: DrivingPotential,
    timestep_fs: float,
    *,
    temperature_K: float,
    period_fs: float,
) -> State:
    """One step of constant temperature, deterministic and reversible.

    Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996): half a step of the chain, a step
    of velocity Verlet, half a step of the chain. With g degrees of freedom and T the bath's
    temperature the masses are Q_1 = g k_B T τ² and Q_k = k_B T τ². What the chain takes from the
    atoms' kinetic energy is booked in `thermostat_work`.

    Args:
        state: its `chain` is that of the step before; None starts one at rest.
        potential: what computes the forces.
        timestep_fs: fs.
        temperature_K: of the bath, above zero.
        period_fs: τ, the time in which the chain responds, fs.
    """
    return within_chain(
        state,
        lambda now: velocity_verlet(now, potential, timestep_fs),
        timestep_fs,
        temperature_K=temperature_K,
        period_fs=period_fs,
    )


def within_chain(
    state: State,
    step: Callable[[State], State],
    time_fs: float,
    *,
    temperature_K: float,
    period_fs: float,
) -> State:
    """Half a step of the chain, a step at constant energy that takes `time_fs`, another half."""
    thermal_energy = BOLTZMANN_EV_PER_K * temperature_K
    state = step(_half_step(state, 0.5 * time_fs, thermal_energy, period_fs))
    return _half_step(state, 0.5 * time_fs, thermal_energy, period_fs)


def _half_step(state: State, time_fs: float, thermal_energy: float, period_fs: float) -> State:
    """Advance the chain by `time_fs` and scale the velocities.

    The links from the last to the first and back, each as in eqs. (28) to (30) of the reference
    with one Suzuki–Yoshida step; velocities in 1/fs, so forces on links are energies over Q.
    """
    freedom = state.degrees_of_freedom
    chain = state.masses.new_zeros(2, LENGTH) if state.chain is None else state.chain
    eta, rate = chain[0].tolist(), chain[1].tolist()
    mass = [thermal_energy * period_fs**2 * (freedom if k == 0 else 1) for k in range(LENGTH)]
    kinetic = state.kinetic_energy

    def pull(k: int) -> float:
        if k == 0:
            return (2.0 * kinetic - freedom * thermal_energy) / mass[0]
        return (mass[k - 1] * rate[k - 1] ** 2 - thermal_energy) / mass[k]

    def kick(k: int) -> None:
        damping = math.exp(-0.25 * time_fs * rate[k + 1]) if k + 1 < LENGTH else 1.0
        rate[k] = (rate[k] * damping + 0.5 * time_fs * pull(k)) * damping

    for k in reversed(range(LENGTH)):
        kick(k)
    scale = math.exp(-time_fs * rate[0])
    before, kinetic = kinetic, kinetic * scale**2
    eta = [position + time_fs * speed for position, speed in zip(eta, rate, strict=True)]
    for k in range(LENGTH):
        kick(k)
    return replace(
        state,
        velocities=state.velocities * scale,
        chain=torch.tensor([eta, rate], dtype=chain.dtype, device=chain.device),
        thermostat_work=state.thermostat_work + (kinetic - before),
    )


def chain_energy(state: State, temperature_K: float, period_fs: float) -> float:
    """Energy of the chain, eV: with it the total energy is conserved at constant temperature."""
    if state.chain is None:
        return 0.0
    eta, rate = state.chain[0].tolist(), state.chain[1].tolist()
    thermal_energy = BOLTZMANN_EV_PER_K * temperature_K
    freedom = state.degrees_of_freedom
    weights = [freedom, *([1] * (LENGTH - 1))]
    return sum(
        thermal_energy * w * (0.5 * period_fs**2 * speed**2 + position)
        for w, speed, position in zip(weights, rate, eta, strict=True)
    )
