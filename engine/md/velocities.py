"""Velocities to start from."""

from __future__ import annotations

import math

import torch
from ase import units
from torch import Tensor


def remove_drift(velocities: Tensor, masses: Tensor) -> Tensor:
    """Velocities (A, 3) relative to the centre of mass of `masses` (A,)."""
    return velocities - (masses[:, None] * velocities).sum(0) / masses.sum()


def maxwell_boltzmann(
    masses: Tensor,
    temperature_K: float,
    seed: int,
    *,
    exact: bool = True,
    fixed: Tensor | None = None,
) -> Tensor:
    """Velocities (A, 3) in Å/fs of `masses` (A,) amu, drawn at `temperature_K`, without drift.

    Each component is normal with variance k_B T / m. Removing the drift projects the draw on the
    3A − 3 degrees of freedom of zero total momentum, where it is again canonical. With `exact`
    all velocities are scaled so that 2 K / (k_B (3A − 3)) is `temperature_K` to rounding. A single
    atom has no velocity but its drift, so it starts at rest. Where atoms are fixed, (A,) bool, they
    are at rest and the drift of the others stays: 3 degrees of freedom for each of those.

    The draw comes from a generator of its own on the CPU: the same seed gives the same velocities
    on every device.
    """
    n_atoms = len(masses)
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((n_atoms, 3), generator=generator, dtype=torch.float64)
    if n_atoms < 2 or temperature_K == 0.0:
        return torch.zeros_like(normal)
    thermal_energy = units.kB * temperature_K * units.fs**2  # amu Å²/fs²
    velocities = normal * (thermal_energy / masses).sqrt()[:, None]
    freedom = 3 * n_atoms - 3
    if fixed is None:
        velocities = remove_drift(velocities, masses)
    else:
        velocities[fixed] = 0.0
        freedom = 3 * int((~fixed).sum())
    if exact and freedom:
        twice_kinetic = float((masses[:, None] * velocities.square()).sum())
        velocities *= math.sqrt(thermal_energy * freedom / twice_kinetic)
    return velocities
