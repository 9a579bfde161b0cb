"""The mixture in two parts, for multiple time steps.

    E_fast = Σ_i E_i^LF over all atoms,   E_slow = Σ_i w_i (E_i^HF − E_i^LF)

Their sum is the mixture. At the end of an outer step the low-fidelity expert computes each atom
once for both sums; in between it alone is asked. The slow forces are what the mixture's forces
have beyond the fast ones, whatever the weights do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.potential.base import Evaluation, Propagating
from duetto.potential.mixture import Potential, Term


class SplitPotential(Potential):
    """A mixture whose evaluations tell the slow forces, too."""

    _fast: list[list[Term]]
    _both: list[list[Term]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare the low-fidelity expert for every atom; arguments as those of `Potential`.

        Raises:
            InputError: as `Potential`; the low-fidelity expert is missing or does not know a
                species; the backend keeps dynamics to itself.
        """
        super().__init__(*args, **kwargs)
        if isinstance(self.backend, Propagating):
            raise InputError(
                f"multiple_timestep: the backend {self.backend.name} has no multiple time steps "
                "yet; use device: cpu, or backend: reference"
            )

    def set_weights(
        self,
        weights: ArrayLike,
        active: Mapping[str, NDArray[np.bool_]] | None = None,
        ahead: ArrayLike | None = None,
    ) -> None:
        """See `Potential.set_weights`; the list serves the low-fidelity expert on every atom."""
        super().set_weights(weights, active)
        low = [Term("lf", np.ones(len(self.species)))]
        self._fast, self._both = [low], [list(self.terms), low]
        self.reserve(self._both)

    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The mixture, with its slow forces; see `Potential.evaluate`."""
        mixture, fast = self.evaluate_terms(positions, cell, self._both)
        return replace(mixture, slow_forces=mixture.forces - fast.forces)

    def evaluate_fast(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The low-fidelity expert on all atoms, alone; arguments as those of `evaluate`."""
        return self.evaluate_terms(positions, cell, self._fast)[0]
