"""Experts that are not strictly local: what they offer instead of the energies of edges.

In a message-passing model the energy of an atom depends on atoms many cutoffs away, so that it has
no gradient by the atom's own edges alone. It still has an energy for every atom, and

    E = Σ_i c_i E_i(R),   F = −∂E/∂R

is as exact a mixture as any other: it takes the atoms of the region, and around them the expert's
receptive field, at whose edge nothing is felt any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.experts.base import Expert

__all__ = ["NonlocalExpert", "RegionEnergies", "Surroundings", "strictly_local"]


@dataclass(frozen=True)
class Surroundings:
    """All atoms and who is near whom.

    Attributes:
        positions: (A, 3) float64, Å, on the CPU.
        cell: (3, 3) float64, Å.
        pbc: (3,) bool.
        types: (A,) int64, the expert's type of every atom; −1 for a species that it does not know.
        first: (A + 1,) int64, where each atom's neighbours begin. All within the expert's cutoff
            are there, some may be further. The same object as long as nothing but positions and
            cell has changed.
        neighbor: (list,) int32.
        shift: (list, 3) integers, periodic image of each neighbour.
    """

    positions: Tensor
    cell: Tensor
    pbc: NDArray[np.bool_]
    types: NDArray[np.int64]
    first: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    shift: NDArray[Any]


@dataclass(frozen=True)
class RegionEnergies:
    """Energies of n centres and the derivatives of G sums of them.

    Attributes:
        energies: (n,) float64, eV, not weighted.
        forces: (G, A, 3) float64, eV/Å, −∂E/∂R of each sum.
        virials: (G, 3, 3) float64, eV, −∂E/∂ε of each sum.
    """

    energies: Tensor
    forces: Tensor
    virials: Tensor


@runtime_checkable
class NonlocalExpert(Protocol):
    """A potential with an energy for every atom that depends on atoms beyond its cutoff.

    Attributes:
        kind: the name under which `duetto.experts.kinds` finds the class.
    """

    kind: ClassVar[str]

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the expert's types."""

    @property
    def receptive_field(self) -> float:
        """Distance in Å beyond which no atom has an influence on a centre's energy."""

    @property
    def largest_cutoff(self) -> float:
        """Distance in Å within which the expert needs every pair of atoms."""

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """The same expert computing elsewhere, in another precision."""

    def region_energies(
        self,
        surroundings: Surroundings,
        centres: NDArray[np.int64],
        coefficients: NDArray[np.float64],
    ) -> RegionEnergies:
        """Energies of some atoms and the gradients of sums of them.

        Args:
            surroundings: all atoms.
            centres: (n,) int64.
            coefficients: (G, n) c_i of every sum.
        """

    def share_of(self, surroundings: Surroundings, centres: NDArray[np.int64]) -> dict[str, int]:
        """How many `atoms` are evaluated for these centres, in how many `chunks`."""


def strictly_local(experts: Mapping[str, Expert]) -> dict[str, Expert]:
    """Those experts, by role, whose energies are functions of one centre's edges."""
    return {
        role: expert for role, expert in experts.items() if not isinstance(expert, NonlocalExpert)
    }
