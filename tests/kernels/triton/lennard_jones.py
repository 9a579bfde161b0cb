"""A Lennard-Jones expert in plain torch, with the interface of the expert kernels."""

from __future__ import annotations

from torch import Tensor

from duetto.kernels.triton.neighbor_list import N_TILES, DeviceEdges


class LennardJones:
    """Half of ε 4 [(σ/r)¹² − (σ/r)⁶ − shift] per edge, so that a pair has it once."""

    pack_size = 3

    def __init__(self, sigma: float, epsilon: float, cutoff: float) -> None:
        self.sigma, self.epsilon = sigma, epsilon
        inverse = (sigma / cutoff) ** 6
        self.shift = inverse * inverse - inverse

    def evaluate(self, edges: DeviceEdges, index: int, energies: Tensor, gradients: Tensor) -> None:
        for key in range(index * N_TILES, (index + 1) * N_TILES):
            # Only as many as the launches of a real kernel would be ready for.
            n = min(int(edges.work_count[key]), edges.work_capacity[key])
            packs = edges.work[key, :n]
            for row in packs[packs >= 0].tolist():
                first, last = edges.rowptr[row : row + 2].tolist()
                r = edges.vectors[:, first:last].double()
                square = r.square().sum(dim=0)
                inverse = (self.sigma**2 / square) ** 3
                energy = 2 * self.epsilon * (inverse * inverse - inverse - self.shift)
                energies[row] = energy.sum()
                slope = 12 * self.epsilon * (inverse - 2 * inverse * inverse) / square
                gradients[:, first:last] = (slope * r).to(gradients.dtype)
