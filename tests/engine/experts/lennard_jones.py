"""The smallest expert there can be: Lennard-Jones with site energies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from duetto.experts.base import Edges, site_gradients


@dataclass(frozen=True)
class LennardJones:
    kind: ClassVar[str] = "lennard-jones"
    species: tuple[str, ...] = ("Pt", "C", "O")
    epsilon: float = 0.2  # eV
    sigma: float = 2.4  # Å
    r_max: float = 4.0  # Å

    def cutoff(self, centre: str, neighbor: str) -> float:
        return self.r_max

    def to_json(self) -> dict[str, Any]:
        return {"species": list(self.species), "r_max": self.r_max}

    def to_tensors(self) -> dict[str, Tensor]:
        return {"epsilon_sigma": torch.tensor([self.epsilon, self.sigma], dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> LennardJones:
        epsilon, sigma = tensors["epsilon_sigma"].tolist()
        return cls(tuple(data["species"]), epsilon, sigma, data["r_max"])

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            vectors = edges.vectors.detach().double().requires_grad_()
            r = vectors.norm(dim=1)
            smooth = (1 - (r / self.r_max) ** 2) ** 3
            x = (self.sigma / r) ** 6
            half = 2 * self.epsilon * (x * x - x) * smooth
            energies = torch.zeros(edges.n_centres, dtype=torch.float64)
            energies = energies.index_add(0, edges.centre, half)
            gradients = site_gradients(energies, vectors)
        return energies.detach(), gradients
