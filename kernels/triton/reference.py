"""The device step's kernels in plain torch: the same functions, for any device, to be held against.

They are written for being right by inspection, not for speed: the search is over all pairs of
atoms and all images within reach.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from duetto.kernels.triton.grid import complete_cell

FORCE_UNITS_PER_EV_PER_A = 2.0**40
GRADIENT_LIMIT_EV_PER_A = 2.0**10


def search_candidates(
    positions: Tensor, cell: Tensor, pbc: tuple[bool, bool, bool], distances: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs and images with |x_j + S · cell − x_i| < distances[i, j], the atom itself excepted.

    Args:
        positions: (A, 3) float64, Å, inside the cell or not.
        cell: (3, 3) float64, Å. pbc: (3,).
        distances: (A, A) float64, Å.

    Returns:
        i (E,), j (E,) and S (E, 3), int64, sorted by i, then j, then S.
    """
    basis = complete_cell(cell, pbc)
    inverse = torch.linalg.inv(basis)
    periodic = torch.tensor(pbc)
    home = torch.where(periodic, torch.floor(positions @ inverse), 0.0)
    wrapped = positions - home @ basis
    reach = [
        math.ceil(float(distances.max() * inverse[:, a].norm()) * (1 + 1e-9)) if pbc[a] else 0
        for a in range(3)
    ]
    found = []
    for image in itertools.product(*(range(-r, r + 1) for r in reach)):
        shift = torch.tensor(image, dtype=torch.float64)
        difference = wrapped[None, :] + shift @ basis - wrapped[:, None]
        near = difference.square().sum(dim=2) < distances.square()
        if image == (0, 0, 0):
            near.fill_diagonal_(False)
        i, j = near.nonzero(as_tuple=True)
        total = (shift + home[i] - home[j]).to(torch.int64)
        found.append(torch.cat([i[:, None], j[:, None], total], dim=1))
    edges = torch.cat(found)
    edges = torch.tensor(sorted(edges.tolist()), dtype=torch.int64).reshape(-1, 5)
    return edges[:, 0], edges[:, 1], edges[:, 2:]


def gather_forces(
    gradients: Tensor,
    centre_of_edge: Tensor,
    neighbors: Tensor,
    centre_atoms: Tensor,
    weights: Tensor,
    n_atoms: int,
) -> Tensor:
    """Forces as integers: each weighted gradient rounded to a unit, added to i, taken from j.

    Args:
        gradients: (E, 3) dE_c/dr_ij, eV/Å.
        centre_of_edge: (E,) centre c. neighbors: (E,) atom j. centre_atoms: (C,) atom i.
        weights: (C,) float64.

    Returns:
        (A, 3) int64, in units of 2⁻⁴⁰ eV/Å.

    Raises:
        ValueError: a gradient is not finite or as large as 2¹⁰ eV/Å.
    """
    weighted = gradients.double() * weights[centre_of_edge][:, None]
    if not bool((weighted.abs() < GRADIENT_LIMIT_EV_PER_A).all()):
        raise ValueError("a gradient is not finite or beyond the range of the forces")
    units = torch.floor(weighted * FORCE_UNITS_PER_EV_PER_A + 0.5).to(torch.int64)
    forces = torch.zeros(n_atoms, 3, dtype=torch.int64)
    forces.index_add_(0, centre_atoms[centre_of_edge].long(), units)
    return forces.index_add_(0, neighbors.long(), -units)


def virial(gradients: Tensor, vectors: Tensor, weights_of_edges: Tensor) -> Tensor:
    """(3, 3) symmetric part of Σ w r_ij ⊗ dE/dr_ij, eV."""
    weighted = gradients.double() * weights_of_edges[:, None]
    product = vectors.double().T @ weighted
    return 0.5 * (product + product.T)


def velocity_verlet_step(
    positions: Tensor, velocities: Tensor, forces: Tensor, accelerations: Tensor, timestep: float
) -> tuple[Tensor, Tensor]:
    """Positions after a step and velocities after its first half, (A,) acceleration per force."""
    half = velocities + 0.5 * timestep * (forces * accelerations[:, None])
    return positions + timestep * half, half


_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEYS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Four random numbers of 32 bits from a counter and a key of 32-bit words: Philox 4×32-10.

    Salmon, Moraes, Dror, Shaw, SC11, doi:10.1145/2063384.2063405.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = _PHILOX_FACTORS[0] * c[0], _PHILOX_FACTORS[1] * c[2]
        c = [
            second >> 32 ^ c[1] ^ k[0],
            second & 0xFFFFFFFF,
            first >> 32 ^ c[3] ^ k[1],
            first & 0xFFFFFFFF,
        ]
        k = [(word + step) & 0xFFFFFFFF for word, step in zip(k, _PHILOX_KEYS, strict=True)]
    return tuple(c)


def normal_numbers(seed: int, step: int, n_atoms: int) -> Tensor:
    """(A, 3) float64 standard normal numbers of a step, by Box and Muller's transform."""
    rows = []
    for atom in range(n_atoms):
        counter = (atom, step & 0xFFFFFFFF, step >> 32, 0)
        a, b, c, d = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        radii = [math.sqrt(-2 * math.log((bits + 1) / 2**32)) for bits in (a, c)]
        angles = [2 * math.pi * (bits >> 8) / 2**24 for bits in (b, d)]
        rows.append(
            [
                radii[0] * math.cos(angles[0]),
                radii[0] * math.sin(angles[0]),
                radii[1] * math.cos(angles[1]),
            ]
        )
    return torch.tensor(rows, dtype=torch.float64)


def langevin_first_half(
    positions: Tensor,
    velocities: Tensor,
    forces: Tensor,
    accelerations: Tensor,
    timestep: float,
    kept: float,
    thermal_energy: float,
    noise: Tensor,
) -> tuple[Tensor, Tensor, float]:
    """A BAOAB step up to the forces: kick, drift, thermostat without drift of the mass, drift.

    Args:
        positions, velocities, forces: (A, 3). accelerations: (A,) acceleration per force.
        timestep: h, fs. kept: c = exp(−γh). thermal_energy: k_B T, eV. noise: (A, 3).

    Returns:
        Positions, velocities and the kinetic energy that the noise gave, eV.
    """
    v = velocities + 0.5 * timestep * forces * accelerations[:, None]
    x = positions + 0.5 * timestep * v
    mass = 1.0 / accelerations[:, None]
    before = 0.5 * float((mass * v.square()).sum())
    v = kept * v + (thermal_energy * (1.0 - kept**2) / mass).sqrt() * noise
    v = v - (mass * v).sum(dim=0) / mass.sum()
    return x + 0.5 * timestep * v, v, 0.5 * float((mass * v.square()).sum()) - before
