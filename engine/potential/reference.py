"""The reference backend: experts' own evaluation in plain torch.

Slow and simple; every other backend is compared with it, and it is what runs on CUDA where no
kernel covers an expert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duetto.experts.base import Edges, Expert, cutoff_matrix
from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.potential.base import Array, Evaluation, ListOfNeighbors
from duetto.potential.neighbors import NeighborList
from duetto.potential.terms import ExpertWork

_CHUNK_EDGES = 20_000
"""Edges whose tensors are held at once: about 200 MB for a 64/32 expert in float64."""


@dataclass
class _Sums:
    """What evaluations add up to, by group of terms (G) and atom (A), float64."""

    energies: Tensor  # (G, A)
    forces: Tensor  # (G, A, 3)
    virial: Tensor  # (G, 3, 3)


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
        self._cutoffs = {role: cutoff_matrix(e).to(device) for role, e in experts.items()}

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
        x, box = positions.detach().to(self.device), cell.detach().to(self.device)
        A, G = len(x), len(work[0].coefficients) if work else 1
        zeros = x.new_zeros
        sums = _Sums(zeros(G, A), zeros(G, A, 3), zeros(G, 3, 3))
        sites = {job.role: x.new_full((A,), torch.nan) for job in work}
        for job in work:
            for chunk in _chunks(job, neighbors):
                self._add(chunk, x, box, neighbors, sums, sites[job.role])
        home = positions.device
        sites = {role: energies.to(home) for role, energies in sites.items()}
        return [
            Evaluation(
                float(sums.energies[g].sum()),
                sums.energies[g].to(home),
                sums.forces[g].to(home),
                sums.virial[g].to(home),
                sites,
            )
            for g in range(G)
        ]

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.potential.base.Backend`."""
        with _float32_products(self._products), sums_in_fixed_order():
            return self.experts[role].site_energies(edges)

    def _add(
        self,
        job: ExpertWork,
        positions: Tensor,
        cell: Tensor,
        neighbors: ListOfNeighbors,
        sums: _Sums,
        sites: Tensor,
    ) -> None:
        slots, rows = _slots(neighbors, job.centres)
        row, centres, types = self._send(rows), self._send(job.centres), self._send(job.types)
        j = self._send(neighbors.neighbor[slots]).long()
        shift = self._send(neighbors.shift[slots]).double()
        vectors = positions[j] - positions[centres[row]] + shift @ cell
        cutoffs = self._cutoffs[job.role][types[centres[row]], types[j]]
        near = (types[j] >= 0) & ((vectors**2).sum(1) < cutoffs**2)
        row, j, vectors = row[near], j[near], vectors[near]
        first = torch.searchsorted(row, torch.arange(len(centres) + 1, device=row.device))
        edges = Edges(first, types[centres], types[j], vectors.to(self.dtype))
        energies, gradient = self.site_energies(job.role, edges)
        sites[centres] = energies.double()
        coefficients = self._send(job.coefficients)
        with sums_in_fixed_order():
            for g, c in enumerate(coefficients):
                pull = c[row, None] * gradient.double()
                sums.energies[g].index_add_(0, centres, c * energies.double())
                sums.forces[g].index_add_(0, centres[row], pull).index_add_(0, j, -pull)
                sums.virial[g] -= vectors.T @ pull

    def _send(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Matrix products of float32 numbers in a precision of PyTorch's, whatever the process's is."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _chunks(job: ExpertWork, neighbors: ListOfNeighbors) -> list[ExpertWork]:
    parts = np.cumsum(np.diff(neighbors.first)[job.centres]) // _CHUNK_EDGES
    borders = np.flatnonzero(np.diff(parts)) + 1
    return [job.of(places) for places in np.split(np.arange(len(job.centres)), borders)]


def _slots(neighbors: ListOfNeighbors, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in the list of all neighbours of `centres`, and the centre's row for each."""
    counts = np.diff(neighbors.first)[centres]
    row = np.repeat(np.arange(len(centres)), counts)
    begin = np.repeat(neighbors.first[centres] - np.cumsum(counts) + counts, counts)
    return begin + np.arange(len(row)), row
