"""Weights on their way to where the last update wants them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from duetto.atoms.periodic import Array, Indices
from duetto.errors import RunStopped
from duetto.partition.ledger import Ledger
from duetto.partition.update import Updating


class Ramp:
    """Moves weights a little after every step, and books what each little costs.

    The next weights are known before a step is taken, so the potential finds the forces by the
    present and by the next ones in one go: each expert is asked once per step.

    Attributes:
        updating: sets the target.
    """

    def __init__(self, updating: Updating) -> None:
        """Begin where the weights are on target."""
        self.updating = updating
        A = len(updating.target)
        self._pinned = np.zeros(A, dtype=bool)  # promoted, and complex for the rest of the run
        self._active = np.zeros((2, A), dtype=bool)  # what HF and LF compute until the next update
        self._next: Array | None = None

    def step(
        self, step: int, positions: Any, cell: Any, potential: Any, ledger: Ledger
    ) -> Any | None:
        """Change the weights by one step of the ramp, if there is one under way.

        Returns:
            The evaluation by the new weights, None where they stay.

        Raises:
            RunStopped: an energy is not finite.
        """
        to, evaluation = self._next, potential.ahead
        if to is None:
            return None
        changed = np.flatnonzero(to != ledger.weights)
        if evaluation is None:  # somebody has evaluated without the next weights since
            self.instruct(potential, ledger.weights)
            potential.evaluate(positions, cell)
            evaluation = potential.ahead
        sites = evaluation.site_energies
        e_hf, e_lf = (sites[role].detach().cpu().numpy() for role in ("hf", "lf"))
        if not math.isfinite(ledger.cost(changed, to[changed], e_hf, e_lf)):
            raise RunStopped(
                f"step {step}: the energy of an atom whose weight changes is not finite; "
                "lower timestep_fs"
            )
        ledger.change(changed, to[changed], e_hf, e_lf)
        self.instruct(potential, ledger.weights)
        return evaluation

    def update(self, step: int, positions: Any, cell: Any, potential: Any, weights: Array) -> None:
        """Resolve the partition again if it is time to, and have the list serve what comes.

        Raises:
            InputError: a term of the region does not fit the atoms any more.
        """
        if step == 0 or step % self.updating.words.every:
            return
        x, box = positions.detach().cpu().numpy(), cell.detach().cpu().numpy()
        self.updating.resolve(x, box, weights, potential)
        self._activate(weights)
        self.instruct(potential, weights)
        if potential.list_reference() is None:
            potential.rebuild(positions, cell)

    def pin(self, atoms: Indices) -> None:
        """Keep these atoms complex from now on."""
        self._pinned = self._pinned.copy()
        self._pinned[atoms] = True

    def instruct(self, potential: Any, weights: Array) -> None:
        """Tell the potential the weights in force and the next ones."""
        target = np.where(self._pinned, 1.0, self.updating.target)
        ahead = self.updating.towards(target, weights)
        self._next = None if np.array_equal(ahead, weights) else ahead
        # Promotion may ask for more than was foreseen at the last update.
        hf, lf = self._active
        active = {"hf": hf | (weights > 0.0), "lf": lf | (weights < 1.0)}
        potential.set_weights(weights, active, self._next)

    def state_dict(self) -> dict[str, Any]:
        """Arrays from which `load_state_dict` resumes; not to be written to."""
        own = {"pinned": self._pinned, "active": self._active}
        return {**own, "updating": self.updating.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called; `instruct` comes next."""
        self._pinned = np.asarray(state["pinned"], dtype=bool)
        self._active = np.asarray(state["active"], dtype=bool)
        self.updating.load_state_dict(state["updating"])

    def _activate(self, weights: Array) -> None:
        target = np.where(self._pinned, 1.0, self.updating.target)
        moving = target != weights
        self._active = np.stack([(weights > 0.0) | moving, (weights < 1.0) | moving])
