"""The mixture in two parts, for multiple time steps.

    E_fast = Σ_i E_i^LF over all atoms,   E_slow = Σ_i w_i (E_i^HF − E_i^LF)

Their sum is the mixture. At the end of an outer step the low-fidelity expert computes each atom
once for both sums; in between it alone is asked. The slow forces are what the mixture's forces
have beyond the fast ones, whatever the weights do: where they follow atoms, −Σ_i (E_i^HF − E_i^LF)
∂w_i/∂R is slow, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.potential.base import Bath, Evaluation, Propagating, Start
from duetto.potential.following import FollowingPotential
from duetto.potential.mixture import Potential, Term
from duetto.potential.terms import ExpertWork, checked_weights, mixture_terms


class SplitPotential(Potential):
    """A mixture whose evaluations tell the slow forces, too.

    Arguments are those of `Potential`; the low-fidelity expert must know every species.
    """

    _fast: list[list[Term]]
    _all: list[list[Term]]

    def set_weights(
        self,
        weights: ArrayLike,
        active: Mapping[str, NDArray[np.bool_]] | None = None,
        ahead: ArrayLike | None = None,
    ) -> None:
        """See `Potential.set_weights`; the list serves the low-fidelity expert on every atom."""
        super().set_weights(weights, active, ahead)
        low, n_atoms = _low_everywhere(self), len(self.species)
        by_next = [] if ahead is None else [list(mixture_terms(checked_weights(ahead, n_atoms)))]
        self._fast, self._all = [low], [list(self.terms), *by_next, low]
        self.reserve(self._all)

    def _evaluated(self) -> Sequence[ExpertWork]:
        return self._work_of(self._all)

    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The mixture, with its slow forces; see `Potential.evaluate`."""
        *mixtures, fast = self.evaluate_terms(positions, cell, self._all)
        now, *by_next = (replace(m, slow_forces=m.forces - fast.forces) for m in mixtures)
        self.ahead = by_next[0] if by_next else None
        return now

    def evaluate_fast(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The low-fidelity expert on all atoms, alone; arguments as those of `evaluate`."""
        return self.evaluate_terms(positions, cell, self._fast)[0]

    def propagator(
        self, start: Start, timestep_fs: float, bath: Bath | None = None, every: int | None = None
    ) -> Any:
        """Dynamics on the backend's device; see `Potential.propagator`.

        Args:
            start: where to begin.
            timestep_fs: of the inner step, fs.
            bath: a thermostat, or None for constant energy.
            every: inner steps in an outer one; None for the mixture at every step.

        Raises:
            TypeError: the backend has none, or the start lacks the slow forces.
        """
        if every is None or not isinstance(self.backend, Propagating):
            return super().propagator(start, timestep_fs, bath)
        if start.slow_forces is None:
            raise TypeError("the state has no slow forces: it comes from another potential")
        work = self._work_of(self._all)
        return self.backend.propagator(self.neighbor_list, work, start, timestep_fs, bath, every)


class SplitFollowingPotential(FollowingPotential):
    """The same with weights that follow atoms."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare the low-fidelity expert for every atom; arguments as `FollowingPotential`.

        Raises:
            InputError: as `FollowingPotential`; the low-fidelity expert does not know a species;
                the backend is triton, where weights do not follow atoms and time is split at once.
        """
        super().__init__(*args, **kwargs)
        self._fast = [_low_everywhere(self)]
        self._besides = tuple(self._fast)

    def _require_backend(self) -> None:
        if self.takes_steps_on_device:
            raise InputError(
                f"multiple_timestep: with regions.follow the backend {self.backend.name} has none; "
                "use device: cpu, or backend: reference"
            )

    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The mixture, with its slow forces; see `FollowingPotential.evaluate`."""
        with self._turns:
            mixture, fast = self._evaluate_all(positions, cell)
        return replace(mixture, slow_forces=mixture.forces - fast.forces)

    def evaluate_fast(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """The low-fidelity expert on all atoms, alone; arguments as those of `evaluate`."""
        return self.evaluate_terms(positions, cell, self._fast)[0]


def _low_everywhere(potential: Potential) -> list[Term]:
    """The fast sum."""
    return [Term("lf", np.ones(len(potential.species)))]
