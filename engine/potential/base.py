"""What every backend takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.potential.neighbors import NeighborList


@dataclass(frozen=True)
class Evaluation:
    """Energy of a structure and its derivatives.

    Attributes:
        energy: eV, the sum of `energies` in the order of the atoms.
        energies: (A,) float64, eV, per centre atom, already mixed.
        forces: (A, 3) float64, eV/Å, −∂E/∂R.
        virial: (3, 3) float64, eV, −∂E/∂ε for a strain ε; the stress is −virial / volume.
        slow_forces: (A, 3) float64, eV/Å, the part of `forces` that acts at long intervals; None
            where time is not split.
    """

    energy: float
    energies: Tensor
    forces: Tensor
    virial: Tensor
    slow_forces: Tensor | None = None


@dataclass(frozen=True)
class ExpertWork:
    """The centres one expert computes.

    Attributes:
        role: "hf" or "lf".
        centres: (n,) int64, ascending.
        weight: (n,) float64, each centre's share in the mixture: w_i for HF, 1 − w_i for LF.
        types: (A,) int64, the expert's type of every atom of the structure.
    """

    role: str
    centres: NDArray[Any]
    weight: NDArray[Any]
    types: NDArray[Any]


class Backend(Protocol):
    """Evaluates the mixture."""

    name: str

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: NeighborList,
        work: Sequence[ExpertWork],
    ) -> Evaluation:
        """Mix the experts' energies and forces over one neighbour list.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            neighbors: a list that is valid for them.
            work: which expert computes which centres.
        """
        ...


@runtime_checkable
class DeviceBackend(Backend, Protocol):
    """A backend with a neighbour list of its own, which takes tensors and stays on its device."""

    def new_list(self, work: Sequence[ExpertWork], pbc: ArrayLike, skin: float) -> Any:
        """An empty list, in the shape of the host's `NeighborList`, for these centres."""
        ...
