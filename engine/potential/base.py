"""What every backend takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor

from duetto.experts.base import Edges
from duetto.potential.terms import ExpertWork

Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """Energy of a structure and its derivatives.

    Attributes:
        energy: eV, the sum of `energies` in the order of the atoms.
        energies: (A,) float64, eV, per centre atom, already mixed.
        forces: (A, 3) float64, eV/Å, −∂E/∂R.
        virial: (3, 3) float64, eV, −∂E/∂ε for a strain ε; the stress is −virial / volume.
        site_energies: by role, (A,) float64, eV: the energy of each atom by that expert, not
            weighted, NaN where the expert does not compute it. Groups evaluated together share it.
            Of a backend "hf" is what its expert of that role says, be it a correction; of a
            potential it is E^HF.
        slow_forces: (A, 3) float64, eV/Å, the part of `forces` that acts at long intervals; None
            where time is not split.
        weights: (A,) float64, w of HF at these positions where weights follow atoms; None where
            they stay as they were.
    """

    energy: float
    energies: Tensor
    forces: Tensor
    virial: Tensor
    site_energies: dict[str, Tensor] = field(default_factory=dict)
    slow_forces: Tensor | None = None
    weights: Tensor | None = None

    def with_whole_hf(self) -> Evaluation:
        """The same with E^LF + Δ for Δ among the site energies; NaN where one is missing."""
        sites = dict(self.site_energies)
        delta = sites.pop("hf", None)
        if delta is not None and "lf" in sites:
            sites = {"hf": sites["lf"] + delta, **sites}
        return replace(self, site_energies=sites)


class ListOfNeighbors(Protocol):
    """Neighbours of atoms within their range, images of periodic atoms or ghosts among them.

    Attributes:
        first: (A + 1,) int64, where each atom's neighbours begin; atoms without a range have none.
        neighbor: (list,) int32.
        shift: (list, 3) integers, periodic image of each neighbour, in cell vectors.
        n_rebuilds: how often the list has been built.
    """

    first: Array
    neighbor: Array
    shift: Array
    n_rebuilds: int


class Backend(Protocol):
    """Evaluates groups of terms.

    Attributes:
        name: how the user calls it.
    """

    name: str

    def new_list(self, work: Sequence[ExpertWork], ranges: Array, pbc: Array, skin: float) -> Any:
        """An empty neighbour list where the backend wants it.

        Args:
            work: the centres that it is for.
            ranges: (A,) Å, how far each atom's expert sees; 0 for atoms that nothing computes.
            pbc: (3,) bool.
            skin: Verlet skin, Å.
        """

    def evaluate(
        self, positions: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> list[Evaluation]:
        """Energies, forces and virials of every group of terms over one neighbour list.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            neighbors: a list that is valid for them: one of `new_list`, or any `ListOfNeighbors`.
            work: which expert computes which centres, and the coefficients of each group.

        Returns:
            One evaluation per group. Its tensors are not written to again.
        """

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """Energies of centres (C,) float64 and their gradients by edges (E, 3), not weighted.

        Args:
            role: the expert.
            edges: of somebody else's list, within the expert's cutoffs.
        """


@dataclass(frozen=True)
class Bath:
    """A thermostat by friction and noise.

    Attributes:
        thermal_energy: k_B T, eV.
        friction_per_fs: 1/fs.
        seed: of the noise.
    """

    thermal_energy: float
    friction_per_fs: float
    seed: int


@runtime_checkable
class Propagating(Protocol):
    """A backend that can take whole stages of dynamics on its device."""

    def propagator(
        self,
        neighbors: Any,
        work: Sequence[ExpertWork],
        start: Start,
        timestep_fs: float,
        bath: Bath | None,
        every: int | None = None,
    ) -> Any:
        """What advances positions and velocities on the device.

        Args:
            neighbors: the list in use, one of the backend's `new_list`.
            work: of the mixture; its first group of terms is the energy.
            start: where to begin.
            timestep_fs: fs.
            bath: a thermostat, or None for constant energy.
            every: where time is split, steps from one evaluation of the slow forces to the next;
                the last group of terms is then the fast energy. None where it is not.

        Returns:
            An object with `launch(n_steps)`, `finish()`, `snapshot()`, `on_rebuild`, `step`, as
            `duetto.kernels.triton.dynamics.Dynamics`.
        """


@dataclass(frozen=True)
class Start:
    """Where dynamics on a device begins: positions, velocities and forces of A atoms.

    Attributes:
        positions: (A, 3) Å. velocities: (A, 3) Å/fs. forces: (A, 3) eV/Å.
        cell: (3, 3) Å.
        accelerations: (A,) Å/fs² by a force of 1 eV/Å.
        step: of the run.
        slow_forces: (A, 3) eV/Å, part of `forces`, where time is split.
    """

    positions: Tensor
    velocities: Tensor
    forces: Tensor
    cell: Tensor
    accelerations: Tensor
    step: int
    slow_forces: Tensor | None = None
