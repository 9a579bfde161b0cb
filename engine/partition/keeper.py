"""Who keeps a partition: looks on through the guard, and acts between steps.

Weights change here and nowhere else, and never while forces are being computed: a step ends with
the forces that it began with, then the weights change, what that costs is booked, and the next
step begins with the new forces.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from duetto.atoms.periodic import Array
from duetto.errors import RunStopped
from duetto.partition.guard import ALWAYS_STOPS, Guard, Watch
from duetto.partition.ledger import Due, Ledger
from duetto.partition.ramp import Ramp
from duetto.partition.rules import Finding, Start
from duetto.partition.update import Updating

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair

log = logging.getLogger(__name__)


class WeightedPotential(Protocol):
    """What keeping a partition asks of a potential."""

    weights: Any

    def set_weights(self, weights: Any, active: Any = None, ahead: Any = None) -> None:
        """Change the partition to `weights` (A,), and say which are next."""

    def evaluate(self, positions: Any, cell: Any) -> Any:
        """Energy, forces and virial."""

    def expert_energies(self, positions: Any, cell: Any, atoms: Any) -> tuple[Any, Any]:
        """E^HF and E^LF, (A,) each, of `atoms` alone."""


@dataclass(frozen=True)
class GuardEvent:
    """What the guard found at one look, and what was done.

    Attributes:
        step: the MD step.
        check: `unseen`, `shell`, `lost` or `position`.
        action: `stopped`, `warned` or `promoted`.
        atoms: indices of the atoms concerned, the most serious first.
        message: one line about the first of them.
        e_repartition: the change of the energy by promotion, eV.
    """

    step: int
    check: str
    action: str
    atoms: tuple[int, ...]
    message: str
    e_repartition: float = 0.0


class Keeper:
    """Keeps the partition of one run.

    Attributes:
        guard: what is watched for, and the policy.
        ledger: the weights, and what their changes have cost.
        updating: how the partition is resolved again, None where it is not.
        events: what the guard found, in order.
        step: of the last look.
    """

    def __init__(
        self,
        guard: Guard,
        pair: ExpertPair,
        species: Sequence[str],
        weights: npt.ArrayLike,
        pbc: npt.ArrayLike,
        *,
        updating: Updating | None = None,
        following: bool = False,
    ) -> None:
        """Keep a partition.

        Args:
            guard: what to watch for.
            pair: the experts.
            species: (A,) chemical symbols.
            weights: (A,); where they follow atoms, those that do not move.
            pbc: (3,) which directions are periodic.
            updating: resolves the partition again.
            following: whether the potential's weights follow atoms.
        """
        self.guard = guard
        self.updating = updating
        self.ledger = Ledger(weights)
        self.events: list[GuardEvent] = []
        self.step = 0
        self._watch = Watch(guard, pair, species, pbc)
        # A region that moves keeps its distance by itself.
        self._watch.shell = updating is None and not following
        self._following = following
        self._ramp = None if updating is None else Ramp(updating)
        self._has_hf = pair.hf is not None
        self._warned: dict[str, set[int]] = {}
        self._seen: dict[str, Any] | None = None  # what `state_dict` tells of the last look

    @classmethod
    def of(cls, guard: Guard, potential: Any, updating: Updating | None = None) -> Keeper:
        """Keep the partition that `potential` has now."""
        static = getattr(potential, "static", None)
        return cls(
            guard,
            potential.pair,
            potential.species,
            potential.weights if static is None else static,
            potential.pbc,
            updating=updating,
            following=static is not None,
        )

    def begin(self, potential: Any) -> None:
        """Resolve at the start what only the potential knows; nothing is booked."""
        if self.updating is not None and self.updating.needs_potential:
            self.updating.begin(potential)
            self.ledger = Ledger(self.updating.target)
            potential.set_weights(self.ledger.weights)

    def restore(self, potential: Any) -> None:
        """Put a potential to which a run is resumed where it was; its list comes after."""
        if self._ramp is not None:
            self._ramp.instruct(potential, self.ledger.weights)

    @property
    def e_repartition(self) -> float:
        """What changes of the weights have cost so far and velocities have not paid, eV."""
        return self.ledger.e_repartition - self.ledger.returned

    @property
    def return_within(self) -> float | None:
        """Å around an atom in which velocities pay for its changed weight; None: none do."""
        return None if self.updating is None else self.updating.words.return_within

    def take_due(self) -> Due | None:
        """What velocities are to pay for changes since this was asked last; see `Ledger`."""
        return self.ledger.take_due()

    @property
    def changes_weights(self) -> bool:
        """Whether weights may change, so that the host must see every step."""
        return self.guard.policy == "promote" or self.updating is not None

    @property
    def start(self) -> Start | None:
        """What the guard compares with, None before its first look."""
        return self._watch.start

    def look(self, step: int, positions: Any, cell: Any) -> None:
        """Look at the configuration of a step at which no weight can change any more.

        Args:
            step: of the positions.
            positions: (A, 3) Å, tensor or array.
            cell: (3, 3) Å.

        Raises:
            RunStopped: a finding that the policy does not allow.
            InputError: at the first look, the guard's settings do not fit the structure.
        """
        findings = self._findings(step, positions, cell, self.ledger.weights)
        if findings and self.guard.policy == "promote":
            self._stop(findings[0])

    def between_steps(
        self, step: int, positions: Any, cell: Any, potential: WeightedPotential, *, rebuilt: bool
    ) -> Any | None:
        """Ramp weights, look, if the neighbour list was `rebuilt` in this step, mend, update.

        Args:
            step: that has just ended.
            positions: (A, 3) Å, tensor on the potential's device.
            cell: (3, 3) Å, tensor.
            potential: whose weights are those of the ledger, before and after.
            rebuilt: whether this step has built the neighbour list anew.

        Returns:
            The evaluation with new weights, None where they stay.

        Raises:
            RunStopped, InputError: as `look`.
        """
        evaluation = None
        self.ledger.forget_due()
        if self._ramp is not None:
            evaluation = self._ramp.step(step, positions, cell, potential, self.ledger)
        if rebuilt:
            weights = np.array(potential.weights)
            findings = self._findings(step, positions, cell, weights)
            if findings:
                self._promote(findings, positions, cell, potential, weights)
                evaluation = self._with_promoted(findings, positions, cell, potential)
        if self._ramp is not None:
            self._ramp.update(step, positions, cell, potential, self.ledger.weights)
        return evaluation

    def state_dict(self) -> dict[str, Any]:
        """Return plain data, the weights aside, from which `load_state_dict` resumes.

        Cheap enough to be called at every step; not to be written to.
        """
        if self._seen is None:
            start = self._watch.start
            self._seen = {
                "step": self.step,
                "events": [asdict(event) for event in self.events],
                "start": None if start is None else asdict(start),
                "warned": {check: sorted(atoms) for check, atoms in self._warned.items()},
            }
        state = {**self._seen, "ledger": self.ledger.state_dict()}
        if self._ramp is not None:
            state["ramp"] = self._ramp.state_dict()
        if self._following:
            state["static"] = self.ledger.weights
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called, also after a detour through JSON."""
        self.step = int(state["step"])
        self.events = [
            GuardEvent(**{**event, "atoms": tuple(event["atoms"])}) for event in state["events"]
        ]
        start = state["start"]
        self._watch.start = start and Start(
            watched=tuple(start["watched"]),
            shell=start["shell"],
            low=tuple(start["low"]),
            high=tuple(start["high"]),
        )
        self._warned = {check: set(atoms) for check, atoms in state["warned"].items()}
        self.ledger.load_state_dict(state["ledger"])
        if self._ramp is not None:
            self._ramp.load_state_dict(state["ramp"])
        self._seen = None

    def _findings(self, step: int, positions: Any, cell: Any, weights: Any) -> list[Finding]:
        """Look; what is left for promotion to mend."""
        self.step = step
        self._seen = None
        now = self._watch.at(_numpy(positions), _numpy(cell), weights)
        findings = self._watch.look(now)
        for finding in findings:
            if finding.check == "position":
                self._stop(finding)
        if self.guard.policy == "warn":
            for finding in findings:
                self._warn(finding)
            return []
        for finding in findings:
            if self.guard.policy == "error" or finding.check in ALWAYS_STOPS:
                self._stop(finding)
        return findings

    def _record(self, finding: Finding, action: str, change: float = 0.0) -> GuardEvent:
        event = GuardEvent(
            step=self.step,
            check=finding.check,
            action=action,
            atoms=tuple(finding.atoms.tolist()),
            message=finding.message(self.step),
            e_repartition=change,
        )
        self.events.append(event)
        return event

    def _stop(self, finding: Finding) -> None:
        raise RunStopped(self._record(finding, "stopped").message)

    def _warn(self, finding: Finding) -> None:
        warned = self._warned.setdefault(finding.check, set())
        fresh = finding.without(warned)
        if fresh is not None:
            warned.update(fresh.atoms.tolist())
            log.warning("%s", self._record(fresh, "warned").message)

    def _with_promoted(
        self, findings: list[Finding], positions: Any, cell: Any, potential: WeightedPotential
    ) -> Any:
        """The evaluation after a promotion; a partition that is updated keeps it."""
        if self._ramp is None:
            potential.set_weights(self.ledger.weights)
        else:
            self._ramp.pin(np.concatenate([finding.atoms for finding in findings]))
            self._ramp.instruct(potential, self.ledger.weights)
        return potential.evaluate(positions, cell)

    def _promote(
        self,
        findings: list[Finding],
        positions: Any,
        cell: Any,
        potential: WeightedPotential,
        weights: Array,
    ) -> None:
        """Raise the atoms found from their `weights` to w = 1 and book the change of the energy."""
        if not self._has_hf:
            self._stop(findings[0])
        concerned = np.unique(np.concatenate([finding.atoms for finding in findings]))
        e_hf, e_lf = map(_numpy, potential.expert_energies(positions, cell, concerned))
        raised: set[int] = set()
        for finding in findings:
            rest = finding.without(raised)
            if rest is None:
                continue
            now = weights if self._following else None
            if not math.isfinite(self.ledger.cost(rest.atoms, 1.0, e_hf, e_lf, now)):
                self._stop(rest)
            change = self.ledger.change(rest.atoms, 1.0, e_hf, e_lf, now)
            raised.update(rest.atoms.tolist())
            event = self._record(rest, "promoted", change)
            log.warning("%s; promoted, %+.6f eV", event.message, change)


def _numpy(values: Any) -> npt.NDArray[Any]:
    """An array of a tensor on any device, or of anything else that NumPy reads."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)
