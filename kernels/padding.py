"""Edges in rows of their centres, so that sums over neighbours become matrix products.

Arrays over edges have as many rows as there are edges; padded, they are (A, N, …) with N the
largest number of neighbours and zeros where an atom has fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Where each edge goes in the padded array.

    Attributes:
        slot: (E,) int64, row of the edge in (A · N, …); no two alike.
        atoms: A, the number of centres.
        width: N, the largest number of edges of one centre.
    """

    slot: Tensor
    atoms: int
    width: int

    @classmethod
    def of(cls, centre: Tensor, atoms: int) -> Padding:
        """From the (E,) centres of edges in any order."""
        counts = torch.bincount(centre, minlength=atoms)
        width = int(counts.max()) if atoms > 0 else 0
        order = torch.argsort(centre, stable=True)
        first = counts.cumsum(0) - counts
        rank = torch.empty_like(centre)
        rank[order] = torch.arange(len(centre), device=centre.device) - first[centre[order]]
        return cls(centre * width + rank, atoms, width)

    def pad(self, values: Tensor) -> Tensor:
        """(E, C) to (A, N, C); differentiable to any order."""
        rows = _Pad.apply(values, self.slot, self.atoms * self.width)
        return rows.view(self.atoms, self.width, values.shape[1])

    def unpad(self, values: Tensor) -> Tensor:
        """(A, N, C) to (E, C), dropping the padding; differentiable to any order."""
        return _Unpad.apply(values.flatten(0, 1), self.slot)


class _Pad(torch.autograd.Function):
    """Scatter to distinct rows. Autograd's own derivative would add where a copy will do."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slot: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(slot)
        return values.new_zeros(rows, values.shape[1]).index_copy_(0, slot, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return _Unpad.apply(gradient, slot), None, None


class _Unpad(torch.autograd.Function):
    """Gather distinct rows: the transpose of `_Pad`, and it of this."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.rows = rows.shape[0]
        return rows.index_select(0, slot)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors
        return _Pad.apply(gradient, slot, ctx.rows), None
