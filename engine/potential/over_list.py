"""Evaluation over any neighbour list: the edges of each centre to its expert, the sums in torch.

For lists that a backend's own kernels do not walk: the reference's, and those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duetto.experts.base import Edges
from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.potential.base import Evaluation, ListOfNeighbors
from duetto.potential.terms import ExpertWork

_CHUNK_EDGES = 20_000
"""Edges whose tensors are held at once: about 200 MB for a 64/32 expert in float64."""

SiteEnergies = Callable[[str, Edges], tuple[Tensor, Tensor]]
"""f(role, edges) → energies of centres (C,) eV and gradients by edges (E, 3) eV/Å."""


@dataclass
class _Sums:
    """What evaluations add up to, by group of terms (G) and atom (A), float64."""

    energies: Tensor  # (G, A)
    forces: Tensor  # (G, A, 3)
    virial: Tensor  # (G, 3, 3)


@dataclass(frozen=True)
class OverList:
    """How experts are asked for the centres of a list.

    Attributes:
        site_energies: asks one of them.
        cutoffs: by role, (T, T) float64, Å.
        dtype: of the vectors that it is given.
        device: where it computes.
    """

    site_energies: SiteEnergies
    cutoffs: Mapping[str, Tensor]
    dtype: torch.dtype
    device: str

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: ListOfNeighbors,
        work: Sequence[ExpertWork],
    ) -> list[Evaluation]:
        """See `duetto.potential.base.Backend.evaluate`."""
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
        cutoffs = self.cutoffs[job.role][types[centres[row]], types[j]]
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
