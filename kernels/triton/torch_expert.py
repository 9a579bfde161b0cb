"""An expert that no kernel covers, evaluated by torch over the same edge rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.kernels.triton.neighbor_list import N_TILES, DeviceEdges

EDGES_AT_ONCE = 100_000

SiteEnergies = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""f(first (C + 1,), centre types (C,), neighbour types (E,), vectors (E, 3) Å) → energies (C,) in
eV and their gradients by the vectors (E, 3) in eV/Å."""


class DeviceTorchExpert:
    """Somebody's evaluation in torch behind the interface of the expert kernels.

    It reads sizes on the host, so that it cannot be captured in a graph.

    Attributes:
        pack_size: see `duetto.kernels.triton.mixture.DeviceExpert`; packs mean nothing here.
    """

    pack_size = 1

    def __init__(self, site_energies: SiteEnergies) -> None:
        """Evaluate by `site_energies`, whose arithmetic is in the dtype of the vectors."""
        self._site_energies = site_energies

    def evaluate(self, edges: DeviceEdges, index: int, energies: Tensor, gradients: Tensor) -> None:
        """See `duetto.kernels.triton.mixture.DeviceExpert`."""
        for key in range(index * N_TILES, (index + 1) * N_TILES):
            packs = edges.work[key, : int(edges.work_count[key])]
            rows = packs[packs >= 0].long()
            counts = edges.rowptr[rows + 1] - edges.rowptr[rows]
            part = counts.cumsum(0) // EDGES_AT_ONCE
            sizes = torch.unique_consecutive(part, return_counts=True)[1].tolist()
            for chunk in rows.split(sizes):
                self._evaluate_rows(edges, chunk, energies, gradients)

    def _evaluate_rows(
        self, edges: DeviceEdges, rows: Tensor, energies: Tensor, gradients: Tensor
    ) -> None:
        begin = edges.rowptr[rows]
        counts = edges.rowptr[rows + 1] - begin
        centre = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        before = counts.cumsum(0) - counts
        slots = begin[centre] + torch.arange(len(centre), device=rows.device) - before[centre]
        first = torch.cat([before, counts.sum(dim=0, keepdim=True)])
        with sums_in_fixed_order():
            result, gradient = self._site_energies(
                first,
                edges.row_types[rows].long(),
                edges.neighbor_types[slots].long(),
                edges.vectors[:, slots].T.contiguous(),
            )
        energies[rows] = result.to(energies.dtype)
        gradients[:, slots] = gradient.T.to(gradients.dtype)
