"""What an expert is: all that the rest of the engine knows of a potential.

An expert gives every centre atom an energy that depends on the edges to its neighbours. It knows
nothing of weights, mixtures, lists or devices' details; whatever satisfies `Expert` can be either
side of a mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Edges", "Expert", "cutoff_matrix", "max_cutoff", "site_gradients", "types_of"]


@dataclass(frozen=True)
class Edges:
    """The edges of C centres, sorted by centre; tensors on one device.

    Edges beyond the expert's cutoff of their pair of types have been left out.

    Attributes:
        first: (C + 1,) int64, where each centre's edges begin.
        centre_types: (C,) int64, the expert's type of each centre.
        neighbor_types: (E,) int64.
        vectors: (E, 3) r_j − r_i, Å; their dtype is that of the arithmetic asked for.
    """

    first: Tensor
    centre_types: Tensor
    neighbor_types: Tensor
    vectors: Tensor

    @property
    def n_centres(self) -> int:
        """Number of centres, C."""
        return len(self.centre_types)

    @property
    def centre(self) -> Tensor:
        """(E,) int64, the centre of every edge."""
        order = torch.arange(self.n_centres, device=self.first.device)
        return torch.repeat_interleave(order, self.first.diff())


@runtime_checkable
class Expert(Protocol):
    """A strictly local potential.

    Attributes:
        kind: the name under which `duetto.experts.kinds` finds the class.
    """

    kind: ClassVar[str]

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the expert's types."""

    def cutoff(self, centre: str, neighbor: str) -> float:
        """Distance in Å up to which the energy of a `centre` depends on a `neighbor`."""

    def to_json(self) -> dict[str, Any]:
        """All that is not a tensor, as plain JSON."""

    def to_tensors(self) -> dict[str, Tensor]:
        """All tensors, by name."""

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Inverse of `to_json` and `to_tensors`.

        Raises:
            InputError: something is missing, left over, not finite or unsupported; named.
        """

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Energy of every centre and its gradient by every edge, not weighted.

        Args:
            edges: within the expert's cutoffs.

        Returns:
            (C,) float64 E_c, eV, and (E, 3) ∂E_c/∂r_ij, eV/Å.
        """


def cutoff_matrix(expert: Expert) -> Tensor:
    """(T, T) float64, Å, by centre and neighbour type."""
    rows = [[expert.cutoff(i, j) for j in expert.species] for i in expert.species]
    return torch.tensor(rows, dtype=torch.float64)


def max_cutoff(expert: Expert) -> float:
    """The expert's longest cutoff, Å."""
    return float(cutoff_matrix(expert).max())


def types_of(expert: Expert) -> dict[str, int]:
    """The expert's type of each species that it knows."""
    return {name: t for t, name in enumerate(expert.species)}


def site_gradients(energies: Tensor, vectors: Tensor) -> Tensor:
    """∂E_c/∂r_ij (E, 3) by autograd: an edge belongs to one centre, so one sum serves all.

    Args:
        energies: (C,), a function of `vectors`.
        vectors: (E, 3), requires a gradient.
    """
    if not energies.requires_grad:  # no edges, or none that anything depends on
        return torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(energies.sum(), vectors, allow_unused=True)
    return torch.zeros_like(vectors) if gradient is None else gradient
