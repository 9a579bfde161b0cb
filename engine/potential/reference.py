"""The reference backend: experts' own evaluation in plain torch.

Slow and simple; every other backend is compared with it, and it is what runs on CUDA where no
kernel covers an expert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from duetto.experts.base import Edges, Expert, cutoff_matrix
from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.potential.base import Array, Evaluation, ListOfNeighbors
from duetto.potential.neighbors import NeighborList
from duetto.potential.over_list import OverList
from duetto.potential.terms import ExpertWork


class ReferenceBackend:
    """Experts in plain torch on any device."""

    name = "reference"

    def __init__(
        self,
        experts: Mapping[str, Expert],
        dtype: torch.dtype,
        device: str = "cpu",
        *,
        tf32: bool = False,
    ) -> None:
        """Evaluate in `dtype` on `device`; `tf32` allows products in TF32 on CUDA."""
        self.device = device
        self.dtype = dtype
        self.experts = dict(experts)
        self._products = "high" if tf32 else "highest"
        cutoffs = {role: cutoff_matrix(e).to(device) for role, e in experts.items()}
        self._over_list = OverList(self.site_energies, cutoffs, dtype, device)

    def new_list(
        self, work: Sequence[ExpertWork], ranges: Array, pbc: Array, skin: float
    ) -> NeighborList:
        """See `duetto.potential.base.Backend`."""
        return NeighborList(ranges, pbc, skin)

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: ListOfNeighbors,
        work: Sequence[ExpertWork],
    ) -> list[Evaluation]:
        """See `duetto.potential.base.Backend`."""
        return self._over_list.evaluate(positions, cell, neighbors, work)

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.potential.base.Backend`."""
        with _float32_products(self._products), sums_in_fixed_order():
            return self.experts[role].site_energies(edges)


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Matrix products of float32 numbers in a precision of PyTorch's, whatever the process's is."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
