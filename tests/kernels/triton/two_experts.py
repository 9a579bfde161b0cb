"""A few atoms between two experts whose kernels run, small enough for the interpreter."""

from __future__ import annotations

import torch

from duetto.kernels.triton.expert_launch import ExpertKernels
from duetto.kernels.triton.expert_packing import pack
from duetto.kernels.triton.linear_launch import LinearKernels
from duetto.kernels.triton.mixture import DeviceExpert, Mixture
from duetto.kernels.triton.neighbor_list import DeviceNeighborList
from tests.kernels.triton.expert_cases import folded_expert
from tests.linear_experts import random_expert

CUTOFF = 4.1
POSITIONS = [[0.0, 0.0, 0.0], [2.6, 0.1, 0.2], [-1.4, 2.4, 0.1], [1.3, 1.2, 2.4]]
WEIGHTS = [1.0, 0.5, 0.4, 0.0]


def positions() -> torch.Tensor:
    return torch.tensor(POSITIONS, dtype=torch.float64)


def cell() -> torch.Tensor:
    return torch.eye(3, dtype=torch.float64) * 9.0


def deep(seed: int) -> ExpertKernels:
    """Two layers: a forward and a backward kernel with numbers between them."""
    folded = folded_expert(types=("Pt",), r_max=CUTOFF, num_layers=2, seed=seed)
    return ExpertKernels(pack(folded), "fp32")


def shallow(seed: int) -> ExpertKernels:
    """One layer: one kernel."""
    return ExpertKernels(pack(folded_expert(types=("Pt",), r_max=CUTOFF, seed=seed)), "fp32")


def linear() -> LinearKernels:
    """Moments, polynomial and adjoint."""
    return LinearKernels(random_expert("one species, l_max 2").form(), "cpu")


def mixture(first: DeviceExpert, second: DeviceExpert, skin: float = 0.5) -> Mixture:
    types = torch.zeros(2, len(POSITIONS), dtype=torch.int32)
    cutoffs = torch.full((2, 1, 1), CUTOFF, dtype=torch.float64)
    neighbors = DeviceNeighborList(types, cutoffs, (True, True, False), skin=skin)
    found = Mixture(neighbors, (first, second))
    found.set_weights(torch.tensor(WEIGHTS, dtype=torch.float64))
    return found


def second_everywhere(found: Mixture) -> torch.Tensor:
    """Have expert 1 compute every atom, as time that is split asks; weights of the fast energy."""
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    first = weights.nonzero().flatten()
    found.set_centres((first, torch.arange(len(WEIGHTS))), (weights[first], 1.0 - weights))
    return torch.cat([torch.zeros(len(first)), torch.ones(len(WEIGHTS))]).double()
