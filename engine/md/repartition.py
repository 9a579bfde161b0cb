"""Weights that change between two steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from duetto.md.energy_return import with_energy_returned
from duetto.md.state import DrivingPotential, State, with_evaluation, with_list
from duetto.partition.ledger import Due
from duetto.potential.base import Evaluation


class KeptPartition(Protocol):
    """What dynamics asks of who keeps the partition.

    Attributes:
        e_repartition: what changed weights have cost so far and velocities have not paid, eV.
        changes_weights: whether weights may change, so that the host must take every step.
        return_within: Å around an atom in which velocities pay for its changed weight; None where
            what changed weights cost is booked alone.
    """

    @property
    def e_repartition(self) -> float:
        """See above."""

    @property
    def changes_weights(self) -> bool:
        """See above."""

    @property
    def return_within(self) -> float | None:
        """See above."""

    def take_due(self) -> Due | None:
        """What the velocities pay now for changes since the last step; None for nothing."""

    def look(self, step: int, positions: Tensor, cell: Tensor) -> None:
        """Look at the positions (A, 3) in the cell (3, 3) of a step gone by; may stop the run."""

    def between_steps(
        self, step: int, positions: Tensor, cell: Tensor, potential: Any, *, rebuilt: bool
    ) -> Evaluation | None:
        """Change the weights if they must be; the evaluation with the new ones, None if not."""


def between_steps(
    state: State, potential: DrivingPotential, partition: KeptPartition, *, rebuilt: bool
) -> State:
    """The state from which the next step starts, after `partition` was asked.

    The step that led to `state` has ended with the forces of the old weights,

        v(t + h) = v(t + h/2) + (h/2) F_old(t + h)/m,

    and the next one begins with those of the new: what is booked is the change of the energy at
    standing atoms. Were the last half kick by the new forces, the booked energy would be short of
    (h/2) v·(F_new − F_old), which is of first order in h.

    Args:
        state: after a step, or at the very start.
        potential: whose weights may change.
        partition: who changes them.
        rebuilt: whether the neighbour list was built anew in this step.

    Raises:
        RunStopped: the guard, or velocities that cannot pay.
    """
    before = potential.n_rebuilds
    evaluation = partition.between_steps(
        state.step, state.positions, state.cell, potential, rebuilt=rebuilt
    )
    rebuilds = potential.n_rebuilds - before
    if evaluation is not None:
        state = with_evaluation(state, evaluation)
        within = partition.return_within
        if within is not None and (due := partition.take_due()) is not None:
            state = with_energy_returned(state, due, within)
    elif not rebuilds:
        return state
    state = replace(state, e_repartition=partition.e_repartition)
    return with_list(state, potential, rebuilds)
