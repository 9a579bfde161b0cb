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
