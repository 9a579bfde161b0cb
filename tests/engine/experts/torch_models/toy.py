"""A message-passing model of thirty lines: bonds feel how crowded their two ends are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from duetto.experts.adapters.graph import Graph


class CrowdedBonds:
    """E_i = ½ Σ_j a f(r_ij) (1 + c (n_i + n_j)),  n_i = Σ_k f(r_ik): two message passes."""

    species = ("Pt", "C", "O")
    cutoff = 4.0
    hops = 2

    def __init__(self, source: str = "") -> None:
        self.source = source
        self._dtype = torch.float64

    def to(self, device: torch.device, dtype: torch.dtype) -> CrowdedBonds:
        twin = CrowdedBonds(self.source)
        twin._dtype = dtype
        return twin

    def describe(self) -> dict[str, Any]:
        return {"strength": 0.5}

    def site_energies(self, graph: Graph) -> Tensor:
        r = torch.linalg.vector_norm(graph.vectors, dim=1).to(self._dtype)
        close = (1 - r / self.cutoff) ** 3 * (1 + 0.2 * graph.types[graph.neighbor])
        n = torch.zeros(len(graph.types), dtype=self._dtype).index_add(0, graph.centre, close)
        bond = 4.0 * close**2 - 0.5 * close * (1 + 0.05 * (n[graph.centre] + n[graph.neighbor]))
        energies = torch.zeros_like(n).index_add(0, graph.centre, bond)
        return energies[graph.hops == 0]
