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

from duetto.errors import RunStopped
from duetto.partition.guard import ALWAYS_STOPS, Guard, Watch
from duetto.partition.ledger import Ledger
from duetto.partition.rules import Finding, Start

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair

log = logging.getLogger(__name__)


class Potential(Protocol):
    """What keeping a partition asks of a potential."""

    weights: Any

    def set_weights(self, weights: Any) -> None:
        """Change the partition to `weights` (A,)."""

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
    ) -> None:
        """Keep `weights` (A,) of atoms of `species` (A,), periodic along `pbc` (3,)."""
        self.guard = guard
        self.ledger = Ledger(weights)
        self.events: list[GuardEvent] = []
        self.step = 0
        self._watch = Watch(guard, pair, species, pbc)
        self._has_hf = pair.hf is not None
        self._warned: dict[str, set[int]] = {}
        self._seen: dict[str, Any] | None = None  # what `state_dict` tells of the last look

    @classmethod
    def of(cls, guard: Guard, potential: Any) -> Keeper:
        """Keep the partition that `potential` has now."""
        return cls(guard, potential.pair, potential.species, potential.weights, potential.pbc)

    @property
    def e_repartition(self) -> float:
        """What changes of the weights have cost so far, eV."""
        return self.ledger.e_repartition

    @property
    def changes_weights(self) -> bool:
        """Whether weights may change, so that the host must see every step."""
        return self.guard.policy == "promote"

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
        findings = self._findings(step, positions, cell)
        if findings and self.guard.policy == "promote":
            self._stop(findings[0])

    def between_steps(
        self, step: int, positions: Any, cell: Any, potential: Potential, *, rebuilt: bool
    ) -> Any | None:
        """Look, if the neighbour list was `rebuilt` in this step, and change what must change.

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
        if not rebuilt:
            return None
        findings = self._findings(step, positions, cell)
        if not findings:
            return None
        self._promote(findings, positions, cell, potential)
        potential.set_weights(self.ledger.weights)
        return potential.evaluate(positions, cell)

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
        return {**self._seen, "ledger": self.ledger.state_dict()}

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
        self._seen = None

    def _findings(self, step: int, positions: Any, cell: Any) -> list[Finding]:
        """Look; what is left for promotion to mend."""
        self.step = step
        self._seen = None
        now = self._watch.at(_numpy(positions), _numpy(cell), self.ledger.weights)
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

    def _promote(
        self, findings: list[Finding], positions: Any, cell: Any, potential: Potential
    ) -> None:
        """Raise the atoms found to w = 1 and book the change of the energy."""
        if not self._has_hf:
            self._stop(findings[0])
        concerned = np.unique(np.concatenate([finding.atoms for finding in findings]))
        e_hf, e_lf = map(_numpy, potential.expert_energies(positions, cell, concerned))
        raised: set[int] = set()
        for finding in findings:
            rest = finding.without(raised)
            if rest is None:
                continue
            if not math.isfinite(self.ledger.cost(rest.atoms, 1.0, e_hf, e_lf)):
                self._stop(rest)
            change = self.ledger.change(rest.atoms, 1.0, e_hf, e_lf)
            raised.update(rest.atoms.tolist())
            event = self._record(rest, "promoted", change)
            log.warning("%s; promoted, %+.6f eV", event.message, change)


def _numpy(values: Any) -> npt.NDArray[Any]:
    """An array of a tensor on any device, or of anything else that NumPy reads."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)
