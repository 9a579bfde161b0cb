"""Watching that a partition stays true while the atoms move.

The weights are fixed, the atoms are not. Each time the neighbour list is rebuilt the guard asks:
does an atom that LF computes have a neighbour LF was never trained on? has an atom whose
surroundings were to be HF come close to one that only LF computes? has an atom flown away?
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from duetto.errors import RunStopped
from duetto.partition.regions.atomic import parse_species
from duetto.partition.regions.terms import parse_region
from duetto.partition.rules import (
    Configuration,
    Finding,
    Start,
    find_in_shell,
    find_lost,
    find_unseen,
)
from duetto.partition.start import start_of
from duetto.settings.values import Place, choice, mapping, number

if TYPE_CHECKING:
    from duetto.potential.mixture import Potential

log = logging.getLogger(__name__)

POLICIES = ("error", "warn", "promote")


@dataclass(frozen=True)
class GuardEvent:
    """What the guard found at one rebuild, and what was done.

    Attributes:
        step: the MD step.
        check: `unseen`, `shell` or `lost`.
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


class Guard:
    """Looks on at each rebuild of a potential's neighbour list, and acts as its policy says.

    Checks:
        unseen: an atom that LF computes (w < 1) has, inside LF's cutoff, a neighbour of a
            species that LF never met beside that atom's in training
            (`pair.provenance["lf"]["seen_pairs"]`; without it every pair counts as met).
        shell: an atom that LF alone computes (w = 0) is closer than `shell` to a watched atom.
        lost: an atom is `lost_distance` outside the space that the atoms filled at the start,
            along a direction that is not periodic.

    A position or force that is not finite stops the run under every policy, and a lost atom
    under `promote` too: neither is mended by computing the atom with HF.

    Attributes:
        step: the MD step that messages name; the loop sets it.
        e_repartition: change of the energy by promotions so far, Σ Δw_i (E_i^HF − E_i^LF), eV.
            What NVE conserves is the total energy minus it.
        events: what was found, in order.
    """

    def __init__(
        self,
        policy: str = "error",
        *,
        watched: Sequence[str] | None = None,
        shell: float | None = None,
        lost_distance: float = 100.0,
    ) -> None:
        """Set what to do and what to watch.

        Args:
            policy: `error` stops the run, `warn` logs each atom once, `promote` gives the
                atoms to HF (w = 1) and books the change of the energy.
            watched: species whose complex atoms (w = 1 at the first rebuild) are watched;
                default: those that then have no other atoms.
            shell: Å around a watched atom in which no atom may have w = 0; default: LF's
                cutoff, or `MOTION` less than the start allows if that is shorter.
            lost_distance: Å.

        Raises:
            InputError: a value that is not allowed.
        """
        place = Place("guard")
        self.policy = choice(policy, place.at("policy"), POLICIES)
        self.watched: tuple[str, ...] | None = None
        if watched is not None:
            self.watched = parse_species(watched, place.at("watched"), parse_region).symbols
        self.shell = None if shell is None else number(shell, place.at("shell"), above=0.0)
        self.lost_distance = number(lost_distance, place.at("lost_distance"), above=0.0)
        self.step = 0
        self.e_repartition = 0.0
        self.events: list[GuardEvent] = []
        self._start: Start | None = None
        self._warned: dict[str, set[int]] = {}
        self._last: Configuration | None = None
        self._promoting = False

    @classmethod
    def from_config(cls, value: object) -> Guard:
        """Read `guard:` of a run's YAML: a policy, or a mapping of the constructor's arguments.

        Raises:
            InputError: unknown key, wrong type or value out of range, by name.
        """
        if isinstance(value, str):
            return cls(choice(value, Place("guard"), POLICIES))
        keys = ("policy", "watched", "shell", "lost_distance")
        fields: dict[str, Any] = dict(mapping(value, Place("guard"), (), keys))
        return cls(**fields)

    def attach(self, potential: Potential) -> None:
        """Look on at every later rebuild of `potential`'s neighbour list."""
        potential.on_rebuild.append(self)

    def __call__(self, positions: Any, cell: Any, potential: Potential) -> None:
        """Check the partition and act.

        Args:
            positions: (A, 3) tensor or array, Å.
            cell: (3, 3) tensor or array, rows are the vectors, Å.
            potential: whose weights are checked and, under `promote`, changed.

        Raises:
            RunStopped: a finding that the policy does not allow.
            InputError: at the first call, `watched` or `shell` does not fit the structure.
        """
        if self._promoting:
            return
        now = Configuration(
            positions=_numpy(positions).astype(np.float64),
            cell=_numpy(cell).astype(np.float64),
            pbc=_numpy(potential.pbc).astype(bool),
            species=np.array(list(potential.species), dtype=str),
            weights=_numpy(potential.weights).astype(np.float64),
        )
        self._require_finite_positions(now)
        self._last = now
        if self._start is None:
            self._start = start_of([now], potential.pair, watched=self.watched, shell=self.shell)
        lost = find_lost(now, self._start, self.lost_distance)
        astray = [find_unseen(now, potential.pair), find_in_shell(now, self._start)]
        findings = [finding for finding in (lost, *astray) if finding is not None]
        if self.policy == "warn":
            for finding in findings:
                self._warn(finding)
        elif findings and (self.policy == "error" or lost is not None):
            self._stop(findings[0])
        elif findings:
            self._promote(findings, now, positions, cell, potential)

    def check_forces(self, forces: torch.Tensor, positions: Any = None) -> None:
        """Stop if a force is not finite; one sum a step where all are.

        Args:
            forces: (A, 3), eV/Å.
            positions: (A, 3), Å, for the message; default: those of the last rebuild.

        Raises:
            RunStopped: naming the atom and its surroundings.
        """
        # A sum is one small kernel; it is finite only if every term is, overflow aside.
        if math.isfinite(float(forces.sum())):
            return
        bad = np.flatnonzero(~_numpy(torch.isfinite(forces)).all(axis=1))
        if not len(bad):
            return
        where = f"atom {bad[0]}"
        if self._last is not None:
            now = self._last
            if positions is not None:
                now = replace(now, positions=_numpy(positions).astype(np.float64))
            where = now.name(int(bad[0]))
            if np.isfinite(now.positions).all():
                where += f" (nearest: {now.surroundings(int(bad[0]))})"
        raise RunStopped(
            f"guard: step {self.step}: the force on {where} is not finite, on {len(bad)} of "
            f"{len(forces)} atoms in all. Look for atoms too close together, lower timestep_fs"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return plain data from which `load_state_dict` resumes."""
        return {
            "step": self.step,
            "e_repartition": self.e_repartition,
            "events": [asdict(event) for event in self.events],
            "start": None if self._start is None else asdict(self._start),
            "warned": {check: sorted(atoms) for check, atoms in self._warned.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called, also after a detour through JSON."""
        self.step = int(state["step"])
        self.e_repartition = float(state["e_repartition"])
        self.events = [
            GuardEvent(**{**event, "atoms": tuple(event["atoms"])}) for event in state["events"]
        ]
        start = state["start"]
        self._start = start and Start(
            watched=tuple(start["watched"]),
            shell=start["shell"],
            low=tuple(start["low"]),
            high=tuple(start["high"]),
        )
        self._warned = {check: set(atoms) for check, atoms in state["warned"].items()}

    def _require_finite_positions(self, now: Configuration) -> None:
        bad = np.flatnonzero(~np.isfinite(now.positions).all(axis=1))
        if len(bad):
            raise RunStopped(
                f"guard: step {self.step}: {now.name(int(bad[0]))}: the position is not finite, "
                f"of {len(bad)} of {len(now.positions)} atoms in all. Lower timestep_fs"
            )

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
        self,
        findings: list[Finding],
        now: Configuration,
        positions: Any,
        cell: Any,
        potential: Potential,
    ) -> None:
        """Raise the atoms found to w = 1 and book the change of the energy."""
        if potential.pair.hf is None:
            self._stop(findings[0])
        weights = now.weights.copy()
        raised: set[int] = set()
        # Both the evaluation and the new weights may rebuild a list, and so call back.
        self._promoting = True
        try:
            e_hf, e_lf = (_numpy(e) for e in potential.expert_energies(positions, cell))
            for finding in findings:
                rest = finding.without(raised)
                if rest is None:
                    continue
                change = float(np.sum((1 - weights[rest.atoms]) * (e_hf - e_lf)[rest.atoms]))
                if not math.isfinite(change):
                    self._stop(rest)
                weights[rest.atoms] = 1.0
                raised.update(rest.atoms.tolist())
                self.e_repartition += change
                event = self._record(rest, "promoted", change)
                log.warning("%s; promoted, %+.6f eV", event.message, change)
            potential.set_weights(weights)
        finally:
            self._promoting = False


def _numpy(values: Any) -> npt.NDArray[Any]:
    return torch.as_tensor(values).detach().cpu().numpy()
