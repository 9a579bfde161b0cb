"""Weights that change during a step."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from duetto.md.state import ACCELERATION, Potential, State


def end_with_old_weights(
    state: State, old_weights: Tensor, potential: Potential, timestep_fs: float
) -> State:
    """The state after a step at whose end the weights changed, its last half kick put right.

    The guard changes weights where forces are evaluated, so the half kick that ends the step has
    used the new forces. But the change of the energy is booked at the end of the step: until then
    the old forces act,

        v(t + h) = v(t + h/2) + (h/2) F_old(t + h)/m,

    and the new ones from then on. Otherwise the booked energy is short of (h/2) v·(F_new − F_old),
    which is of first order in h.

    Args:
        state: after the step, with forces by the new weights.
        old_weights: (A,) at the start of the step.
        potential: whose neighbour list is left as `state` knows it.
        timestep_fs: h, fs.
    """
    hooks, potential.on_rebuild = potential.on_rebuild, []
    try:
        potential.set_weights(old_weights.cpu().numpy())
        old_forces = potential.evaluate(state.positions, state.cell).forces
        potential.set_weights(state.weights.cpu().numpy())
        potential.rebuild(state.positions, state.cell)
    finally:
        potential.on_rebuild = hooks
    change = (old_forces - state.forces) * (ACCELERATION / state.masses)[:, None]
    return replace(state, velocities=state.velocities + 0.5 * timestep_fs * change)
