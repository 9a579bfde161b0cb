"""An expert that the kernels do not cover, in plain torch over the same edge rows."""

from __future__ import annotations

import torch
from torch import Tensor

from duetto.kernels.fixed_order import sums_in_fixed_order
from duetto.kernels.folded import FoldedExpert, atomic_energies
from duetto.kernels.triton.neighbor_list import N_TILES, Edges

EDGES_AT_ONCE = 100_000


class TorchExpert:
    """The reference evaluation behind the interface of the expert kernels.

    It reads sizes on the host, so that it cannot be captured in a graph.
    """

    def __init__(self, expert: FoldedExpert, device: str) -> None:
        """Bring the weights to the device, in float32."""
        self._expert = expert.to(torch.float32, device)

    def evaluate(self, edges: Edges, index: int, energies: Tensor, gradients: Tensor) -> None:
        """See `duetto.kernels.triton.mixture.Expert`."""
        for key in range(index * N_TILES, (index + 1) * N_TILES):
            rows = edges.work[key, : int(edges.work_count[key])].long()
            counts = edges.rowptr[rows + 1] - edges.rowptr[rows]
            part = counts.cumsum(0) // EDGES_AT_ONCE
            sizes = torch.unique_consecutive(part, return_counts=True)[1].tolist()
            for chunk in rows.split(sizes):
                self._evaluate_rows(edges, chunk, energies, gradients)

    def _evaluate_rows(
        self, edges: Edges, rows: Tensor, energies: Tensor, gradients: Tensor
    ) -> None:
        begin = edges.rowptr[rows]
        counts = edges.rowptr[rows + 1] - begin
        centre = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        before = counts.cumsum(0) - counts
        slots = begin[centre] + torch.arange(len(centre), device=rows.device) - before[centre]
        with torch.enable_grad(), sums_in_fixed_order():
            vectors = edges.vectors[:, slots].T.double().requires_grad_()
            result = atomic_energies(
                self._expert,
                vectors,
                centre,
                edges.row_types[rows].long(),
                edges.neighbor_types[slots].long(),
            )
            (gradient,) = torch.autograd.grad(result.sum(), vectors)
        energies[rows] = result.detach()
        gradients[:, slots] = gradient.T.to(gradients.dtype)
