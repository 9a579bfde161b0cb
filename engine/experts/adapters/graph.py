"""What a torch model is given, and what it must give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """Atoms around some centres and the directed edges between them, on the model's device.

    Letters: N atoms, E edges.

    Attributes:
        positions: (N, 3) float64, Å, requires a gradient.
        cell: (3, 3) float64, Å, a function of the strain; zero along directions without period.
        pbc: (3,) bool.
        types: (N,) int64.
        hops: (N,) int64, edges between the atom and the nearest centre; 0 for a centre.
        centre: (E,) int64. Edges of atoms at the last hop are left out.
        neighbor: (E,) int64.
        shift: (E, 3) float64, periodic image of the neighbour.
    """

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    types: Tensor
    hops: Tensor
    centre: Tensor
    neighbor: Tensor
    shift: Tensor

    @property
    def vectors(self) -> Tensor:
        """(E, 3) float64, r_j − r_i, Å."""
        return self.positions[self.neighbor] - self.positions[self.centre] + self.shift @ self.cell


class SiteModel(Protocol):
    """A torch model with differentiable site energies.

    Attributes:
        species: chemical symbols in the order of its types.
        cutoff: length of an edge at most, Å.
        hops: how many edges away an atom may be and still have an influence: message passes.
    """

    species: tuple[str, ...]
    cutoff: float
    hops: int

    def to(self, device: torch.device, dtype: torch.dtype) -> SiteModel:
        """The same model elsewhere and in another precision."""

    def describe(self) -> dict[str, Any]:
        """What identifies it, plain JSON: name, version, hash of the weights."""

    def site_energies(self, graph: Graph) -> Tensor:
        """(n,) energies of the centres, eV, in the order of the atoms; differentiable."""


def bond_numbers(graph: Graph) -> tuple[Tensor, Tensor]:
    """Directed edges to bonds without a direction.

    Returns:
        (E,) number of each edge's bond, the same for both directions, and (B,) one edge of each.
    """
    i, j, shift = graph.centre, graph.neighbor, graph.shift.long()
    images = 2 * int(shift.abs().max()) + 1 if len(shift) else 1
    digits = torch.tensor([images**2, images, 1], device=shift.device)
    half = (images - 1) // 2 * int(digits.sum())
    image, atoms = (shift * digits).sum(1), len(graph.types)
    there = (i * atoms + j) * images**3 + half + image
    back = (j * atoms + i) * images**3 + half - image
    _, number = torch.unique(torch.minimum(there, back), return_inverse=True)
    order = torch.argsort(number, stable=True)
    begins = torch.ones_like(order, dtype=torch.bool)
    begins[1:] = number[order][1:] != number[order][:-1]
    return number, order[begins]
