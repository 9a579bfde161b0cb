"""The weights of a partition, which version of them is in force, and what their changes cost.

Changing weights at standing atoms changes the energy,

    ΔE = Σ_i Δw_i (E_i^HF − E_i^LF),

which is booked here and nowhere else. What dynamics at constant energy conserves is the total
energy less the sum of all that was booked, E_repartition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from duetto.atoms.periodic import Array

Atoms = npt.NDArray[np.int64]


class Ledger:
    """Owner of the weights.

    Attributes:
        version: counts the changes.
        e_repartition: booked so far, eV.
        work: Σ |Δw_i (E_i^HF − E_i^LF)| so far, eV: terms of either sign do not cancel here.
        changed: Σ |Δw_i| so far.
    """

    def __init__(self, weights: npt.ArrayLike) -> None:
        """Begin with weights (A,) in [0, 1]."""
        self._weights = _frozen(weights)
        self.version = 0
        self.e_repartition = 0.0
        self.work = 0.0
        self.changed = 0.0

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
        self.work += float(np.abs(step * (e_hf - e_lf)[atoms]).sum())
        self.changed += float(np.abs(step).sum())
        self._weights = _frozen(weights)
        self.version += 1
        return change

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, the weights aside, from which `load_state_dict` resumes."""
        names = ("version", "e_repartition", "work", "changed")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called."""
        self.version = int(state["version"])
        self.e_repartition = float(state["e_repartition"])
        self.work = float(state["work"])
        self.changed = float(state["changed"])


def _frozen(weights: npt.ArrayLike) -> Array:
    copy = np.array(weights, dtype=np.float64)
    copy.setflags(write=False)
    return copy
