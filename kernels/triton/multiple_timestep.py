"""Multiple time steps on the device: the slow part of the forces acts once in several steps.

Reversible reference system propagation in its impulse form, Tuckerman, Berne, Martyna, J. Chem.
Phys. 97, 1990 (1992). With F the mixture's forces, F_fast those of expert 1 on its centres by
weights of their own, F_slow = F − F_fast and k inner steps of h, an outer step is k ordinary steps
whose kicks are by

    F + (k − 1) F_slow   where it begins and ends,      F_fast   in between

Inner steps are of two kinds: the last of an outer one evaluates both experts, the others expert 1
alone. Each kind has a graph, and so has the rebuild of the list. Flags are read, the list is
rebuilt and a void step is completed between any two inner steps, as without a split: with all k of
them in one graph, atoms would go k times as far between the first sign that the list will fail and
a new one. Which inner step comes next follows from the number of steps alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from duetto.kernels.triton.dynamics import Dynamics
from duetto.kernels.triton.mixture import Mixture

WHOLE, FAST = 0, 1


class SplitDynamics(Dynamics):
    """`Dynamics` whose slow forces act once in `every` steps; `step` counts the short ones.

    Attributes:
        every: k.
        slow_forces: (A, 3) float64, eV/Å, F_slow where the last outer step ended.
    """

    def __init__(
        self,
        mixture: Mixture,
        positions: Tensor,
        velocities: Tensor,
        cell: Tensor,
        accelerations: Tensor,
        timestep_fs: float,
        *,
        every: int,
        fast_weights: Tensor,
        forces: Tensor | None = None,
        slow_forces: Tensor | None = None,
        **options: Any,
    ) -> None:
        """Take the state, and compute its forces unless they are given.

        Args:
            mixture: the potential.
            positions, velocities, cell, accelerations: as those of `Dynamics`.
            timestep_fs: of the inner step, fs.
            every: inner steps in an outer one.
            fast_weights: (C,) float64, weights of the centres in the fast energy; 0 for expert 0.
            forces, slow_forces: (A, 3) float64, eV/Å, of a state to continue, both or neither.
            options: as those of `Dynamics`; `first_step` begins an outer step.

        Raises:
            ValueError: an outer step without steps, fast weights that are not of these centres or
                ask for expert 0, or one of the forces without the other.
        """
        n_first = mixture.neighbors.n_first
        if every < 1:
            raise ValueError(f"{every} inner steps: use at least 1")
        if fast_weights.shape != mixture.weights.shape or bool(fast_weights[:n_first].any()):
            raise ValueError("fast weights are those of all centres, and none of expert 0")
        if (forces is None) != (slow_forces is None):
            raise ValueError("a state to continue has forces and slow forces")
        self.every = every
        self.n_kinds = 1 if every == 1 else 2
        self._begin = int(options.get("first_step", 0))
        self._fast_weights = fast_weights.to(mixture.weights, copy=True)
        # Not numbers until there are forces.
        self._kicks = torch.full_like(mixture.forces, torch.nan)
        self.slow_forces = torch.full_like(mixture.forces, torch.nan)
        self._fast_energies = torch.full_like(mixture.energies, torch.nan)
        super().__init__(
            mixture, positions, velocities, cell, accelerations, timestep_fs, forces=forces,
            **options,
        )  # fmt: skip
        if slow_forces is not None:
            self.slow_forces.copy_(slow_forces)
            self._drive()

    def launch(self, n_steps: int) -> None:
        """See `Dynamics.launch`; only whole outer steps are launched.

        Raises:
            ValueError: `n_steps` is no multiple of `every`, or an outer step was left half done.
        """
        if n_steps % self.every or (self.step - self._begin) % self.every:
            raise ValueError(f"{n_steps} steps are no whole outer steps of {self.every}")
        super().launch(n_steps)

    def _kind_of(self, step: int) -> int:
        return FAST if (step - self._begin) % self.every else WHOLE

    def _evaluate(self, kind: int) -> None:
        if kind == FAST:
            self.mixture.evaluate_second(
                self.positions, self._fast_weights, self._kicks, self._fast_energies
            )
            return
        self.mixture.evaluate(self.positions)
        # Expert 1 has computed each of its atoms once, for both sums.
        self.mixture.gather_second(self._fast_weights, self._kicks, self._fast_energies)
        torch.sub(self.mixture.forces, self._kicks, out=self.slow_forces)
        self._drive()

    def _drive(self) -> None:
        """Have the next kicks by the forces where outer steps meet; for k = 1 by F to the bit."""
        torch.mul(self.slow_forces, self.every - 1, out=self._kicks)
        self._kicks.add_(self.mixture.forces)

    @property
    def _driving(self) -> Tensor:
        return self._kicks

    def _recorded(self) -> dict[str, Tensor]:
        return super()._recorded() | {"slow_forces": self.slow_forces.clone()}
