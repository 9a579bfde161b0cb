"""Forces and energies of the mixture beside those of full HF, on the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from duetto.demo.dynamics import Snapshot
from duetto.md.state import DrivingPotential

Array = npt.NDArray[np.float64]

LAYER_GAP_A = 0.5
"""Å between two atomic layers: more than a layer's corrugation, less than any metal's spacing."""


@dataclass(frozen=True)
class Comparison:
    """The mixture's errors against full HF over some snapshots.

    Attributes:
        squared_error: (A,) mean over snapshots and components of the squared force error,
            (eV/Å)².
        squared_force: (A,) the same of full HF's own forces.
        energy_error_eV: (snapshots,) energy of the mixture less that of full HF.
    """

    squared_error: Array
    squared_force: Array
    energy_error_eV: Array

    def force_rmse(self, chosen: npt.NDArray[Any]) -> float | None:
        """Root-mean-square error of a force component over the chosen atoms, meV/Å."""
        return _root_mean(self.squared_error[chosen])

    def force_rms(self, chosen: npt.NDArray[Any]) -> float | None:
        """Root mean square of full HF's force components over the chosen atoms, meV/Å."""
        return _root_mean(self.squared_force[chosen])

    @property
    def energy_rmse_meV_per_atom(self) -> float:
        """Root mean square over the snapshots of the energy error, meV/atom."""
        per_atom = 1000.0 * self.energy_error_eV / len(self.squared_error)
        return float(np.sqrt(np.mean(per_atom**2)))

    @property
    def energy_spread_meV_per_atom(self) -> float:
        """Standard deviation over the snapshots: the error less its constant part, meV/atom."""
        return float(np.std(1000.0 * self.energy_error_eV / len(self.squared_error)))


def _root_mean(squares: Array) -> float | None:
    return 1000.0 * float(np.sqrt(squares.mean())) if len(squares) else None


def compare(snapshots: Sequence[Snapshot], full_hf: DrivingPotential, cell: Tensor) -> Comparison:
    """Evaluate full HF on the mixture's snapshots, of which there is one at least."""
    errors, forces, energies = [], [], []
    for snapshot in snapshots:
        exact = full_hf.evaluate(snapshot.positions, cell)
        errors.append((snapshot.forces - exact.forces).square().mean(1).cpu().numpy())
        forces.append(exact.forces.square().mean(1).cpu().numpy())
        energies.append(snapshot.energy - exact.energy)
    return Comparison(np.mean(errors, axis=0), np.mean(forces, axis=0), np.array(energies))


def layers(heights: Array) -> npt.NDArray[np.int64]:
    """Number of each atom's layer from below, (A,), by gaps between heights (A,) in Å."""
    order = np.argsort(heights, kind="stable")
    numbers = np.empty(len(heights), dtype=np.int64)
    numbers[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[:1]]) > LAYER_GAP_A)
    return numbers
