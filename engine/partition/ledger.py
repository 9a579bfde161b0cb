"""The weights of a partition, which version of them is in force, and what their changes cost.

Changing weights at standing atoms changes the energy,

    ΔE = Σ_i Δw_i (E_i^HF − E_i^LF),

which is booked here and nowhere else. What dynamics at constant energy conserves is the total
energy less the sum of all that was booked, E_repartition; where dynamics has taken what was booked
from the velocities, that was returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from duetto.atoms.periodic import Array

Atoms = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Due:
    """What changes of weights have cost, atom by atom.

    Attributes:
        atoms: (n,) indices.
        energies: (n,) eV, Δw (E^HF − E^LF).
    """

    atoms: Atoms
    energies: Array


class Ledger:
    """Owner of the weights.

    Attributes:
        version: counts the changes.
        e_repartition: booked so far, eV.
        work: Σ |Δw_i (E_i^HF − E_i^LF)| so far, eV: terms of either sign do not cancel here.
        changed: Σ |Δw_i| so far.
        returned: part of `e_repartition` that velocities have paid, eV.
    """

    def __init__(self, weights: npt.ArrayLike) -> None:
        """Begin with weights (A,) in [0, 1]."""
        self._weights = _frozen(weights)
        self.version = 0
        self.e_repartition = 0.0
        self.work = 0.0
        self.changed = 0.0
        self.returned = 0.0
        self._due: list[Due] = []

    @property
    def weights(self) -> Array:
        """(A,) float64, w of the HF expert per atom; cannot be written to."""
        return self._weights

    def cost(
        self,
        atoms: Atoms,
        to: float | Array,
        e_hf: Array,
        e_lf: Array,
        now: Array | None = None,
    ) -> float:
        """What changing the weights of `atoms` (n,) to `to` would cost, eV.

        Args:
            atoms: indices.
            to: (n,) or one number for all.
            e_hf, e_lf: (A,) eV, each expert's energy per atom, of which only those of `atoms`
                are read.
            now: (A,) the weights in force, where they follow atoms and are above the ledger's;
                None: those of the ledger.
        """
        before = self._weights if now is None else now
        return float(np.sum((to - before[atoms]) * (e_hf - e_lf)[atoms]))

    def change(
        self,
        atoms: Atoms,
        to: float | Array,
        e_hf: Array,
        e_lf: Array,
        now: Array | None = None,
    ) -> float:
        """Change the weights of `atoms` and book what it costs; see `cost`."""
        change = self.cost(atoms, to, e_hf, e_lf, now)
        weights = self._weights.copy()
        weights[atoms] = to
        step = weights[atoms] - (self._weights if now is None else now)[atoms]
        self.e_repartition += change
        costs = step * (e_hf - e_lf)[atoms]
        self.work += float(np.abs(costs).sum())
        self.changed += float(np.abs(step).sum())
        self._weights = _frozen(weights)
        self.version += 1
        self._due.append(Due(atoms, costs))
        return change

    def forget_due(self) -> None:
        """What was booked so far will not be returned."""
        self._due.clear()

    def take_due(self) -> Due | None:
        """What was booked since this was asked last, to be returned now; None if nothing was."""
        if not self._due:
            return None
        atoms = np.concatenate([due.atoms for due in self._due])
        due = Due(atoms, np.concatenate([due.energies for due in self._due]))
        self._due.clear()
        self.returned += float(due.energies.sum())
        return due

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, the weights aside, from which `load_state_dict` resumes."""
        names = ("version", "e_repartition", "work", "changed", "returned")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called."""
        self.version = int(state["version"])
        self.e_repartition = float(state["e_repartition"])
        self.work = float(state["work"])
        self.changed = float(state["changed"])
        self.returned = float(state["returned"])


def _frozen(weights: npt.ArrayLike) -> Array:
    copy = np.array(weights, dtype=np.float64)
    copy.setflags(write=False)
    return copy
