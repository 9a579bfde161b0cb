"""The reference backend: the folded form in plain torch, forces by autograd.

Slow and simple; every other backend is compared with it, and it is what runs on CUDA where no
kernel covers an architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.kernels.folded import FoldedExpert, atomic_energies
from duetto.potential.base import Evaluation, ExpertWork
from duetto.potential.neighbors import NeighborList

_CHUNK_EDGES = 20_000
"""Edges whose tensors are held at once: about 200 MB for a 64/32 expert in float64."""


class ReferenceBackend:
    """Folded experts in plain torch on any device."""

    name = "torch"

    def __init__(
        self,
        experts: Mapping[str, FoldedExpert],
        dtype: torch.dtype,
        device: str = "cpu",
        *,
        tf32: bool = False,
    ) -> None:
        """Bring the weights to `dtype` and `device`; `tf32` allows products in TF32 on CUDA."""
        self.device = device
        self._products = "high" if tf32 else "highest"
        self._experts = {role: expert.to(dtype, device) for role, expert in experts.items()}

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: NeighborList,
        work: Sequence[ExpertWork],
    ) -> Evaluation:
        """See `duetto.potential.base.Backend`."""
        A = len(positions)
        x = positions.detach().to(self.device)
        box = cell.to(self.device)
        energies = torch.zeros(A, dtype=torch.float64, device=self.device)
        forces = torch.zeros(A, 3, dtype=torch.float64, device=self.device)
        virial = torch.zeros(3, 3, dtype=torch.float64, device=self.device)
        with _float32_products(self._products), sums_in_fixed_order():
            for job in work:
                for centres, weight in _chunks(job, neighbors):
                    self._add(job, centres, weight, x, box, neighbors, energies, forces, virial)
        energies, forces, virial = (t.to(positions.device) for t in (energies, forces, virial))
        return Evaluation(float(energies.sum()), energies, forces, virial)

    def _add(
        self,
        job: ExpertWork,
        centres: np.ndarray,
        weight: np.ndarray,
        positions: Tensor,
        cell: Tensor,
        neighbors: NeighborList,
        energies: Tensor,
        forces: Tensor,
        virial: Tensor,
    ) -> None:
        expert = self._experts[job.role]
        slots, rows = _slots(neighbors, centres)
        row = self._send(rows)
        i, j = self._send(centres)[row], self._send(neighbors.neighbor[slots]).long()
        shift = self._send(neighbors.shift[slots]).double()
        types, w = self._send(job.types), self._send(weight)
        vectors = positions[j] - positions[i] + shift @ cell
        near = (vectors**2).sum(1) < expert.cutoffs[types[i], types[j]] ** 2
        i, j, row, vectors = i[near], j[near], row[near], vectors[near].requires_grad_()
        centre_energies = atomic_energies(
            expert, vectors, row, types[self._send(centres)], types[j]
        )
        (gradient,) = torch.autograd.grad((centre_energies * w).sum(), vectors)
        energies.index_add_(0, self._send(centres), (centre_energies * w).detach())
        forces.index_add_(0, i, gradient).index_add_(0, j, -gradient)
        virial -= vectors.detach().T @ gradient

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


def _chunks(job: ExpertWork, neighbors: NeighborList) -> list[tuple[np.ndarray, np.ndarray]]:
    counts = np.diff(neighbors.first)[job.centres]
    parts = np.cumsum(counts) // _CHUNK_EDGES
    borders = np.flatnonzero(np.diff(parts)) + 1
    return (
        list(zip(np.split(job.centres, borders), np.split(job.weight, borders), strict=True))
        if len(job.centres)
        else []
    )


def _slots(neighbors: NeighborList, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in the list of all neighbours of `centres`, and the centre's row for each."""
    counts = np.diff(neighbors.first)[centres]
    row = np.repeat(np.arange(len(centres)), counts)
    begin = np.repeat(neighbors.first[centres] - np.cumsum(counts) + counts, counts)
    return begin + np.arange(len(row)), row
