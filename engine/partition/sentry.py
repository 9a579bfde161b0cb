"""The guard of a partition that stays as it is, for front-ends that only compute energies.

Who asks for an energy at any positions cannot have the partition changed between two of them: the
sentry stops or warns, and never promotes.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import ase
import numpy as np

from duetto.atoms.periodic import moved
from duetto.errors import InputError, RunStopped
from duetto.partition.guard import Guard, Watch
from duetto.partition.regions import Partition
from duetto.partition.rules import Configuration, Finding
from duetto.partition.start import MOTION, start_of
from duetto.settings.values import Place

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair

log = logging.getLogger(__name__)

ONE_FOR_ALL = (
    "Make one partition of all structures (partition=regions.partition([first, second, ...])) or "
    "enlarge regions.complex"
)
NO_EXPERT = "Use a pair whose high-fidelity expert knows them, and regions that give them to it"


def read_guard(value: object) -> Guard | None:
    """Read `error`, `warn`, `off`, or a mapping with `policy`, `watched`, `shell`, `lost_distance`.

    Returns:
        The guard's settings; None for `off`.

    Raises:
        InputError: anything else; `promote` is refused with the reason.
    """
    if isinstance(value, Guard):
        guard: Guard = value
    elif value == "off":
        return None
    elif isinstance(value, str) and value not in ("error", "warn", "promote"):
        raise Place("guard").refuse(value, "error, warn, off, or a mapping with policy")
    else:
        guard = Guard.from_config(value)
    if guard.policy == "promote":
        raise InputError(
            "guard: got 'promote', which changes the energy function while atoms move and books "
            "the difference; that is for `duetto run`. Allowed here: error, warn, off"
        )
    return guard


class Sentry:
    """Looks at the structures that a partition is used for, and stops or warns.

    Beside the guard's checks (`duetto.partition.guard`) it knows one more, for a partition that
    was resolved on the first structure met:

        other: atoms have moved, between two looks and against the rest, farther than motion in
            small steps explains, and the regions resolved where they are now give other weights:
            it is another structure, for which this partition was not made.
    """

    def __init__(
        self, guard: Guard, pair: ExpertPair, partition: Partition, *, first_met: bool
    ) -> None:
        """Compare later structures with those of the partition.

        Args:
            guard: what to look for, and whether to stop (`error`) or to warn.
            pair: the experts.
            partition: the weights and the structures they were made from.
            first_met: whether the partition was resolved on the first structure met, instead of
                being given; then a sudden other structure is a finding.

        Raises:
            InputError: `watched` or `shell` of the guard does not fit the structures.
        """
        self.guard = guard
        self._pair = pair
        self._partition = partition
        self._last = partition.structures[-1] if first_met else None
        self._warned: dict[str, set[int]] = {}
        self._watch = Watch(guard, pair, partition.species, partition.pbc)
        self._watch.start = start_of(
            [self._configuration(atoms) for atoms in partition.structures],
            pair,
            watched=guard.watched,
            shell=guard.shell,
        )

    def look(self, atoms: ase.Atoms) -> None:
        """Check one structure with the partition's atoms.

        Raises:
            RunStopped: a finding, under `error`.
        """
        for finding in self._findings(atoms):
            if self.guard.policy == "error":
                raise RunStopped(finding.message())
            warned = self._warned.setdefault(finding.check, set())
            fresh = finding.without(warned)
            if fresh is not None:
                warned.update(fresh.atoms.tolist())
                log.warning("%s", fresh.message())
        if self._last is not None:
            self._last = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)

    def _findings(self, atoms: ase.Atoms) -> list[Finding]:
        now = self._configuration(atoms)
        remedy = ONE_FOR_ALL if self._pair.hf is not None else NO_EXPERT
        found = [
            replace(finding, remedy=remedy) if finding.check in ("unseen", "shell") else finding
            for finding in self._watch.look(now)
        ]
        # A jump that one of these tells of is told.
        other = None if found else self._find_other(atoms, now)
        return found if other is None else [other]

    def _find_other(self, atoms: ase.Atoms, now: Configuration) -> Finding | None:
        """Atoms that have jumped where the regions, resolved now, would weigh atoms otherwise."""
        regions = self._partition.regions
        if self._last is None or regions is None:
            return None
        distance = moved(self._last, atoms)
        order = np.argsort(-distance, kind="stable")[: int((distance > MOTION).sum())]
        if not len(order):
            return None
        try:
            differ = int((regions.weights(atoms) != self._partition.weights).sum())
        except InputError:  # the words do not even fit this structure
            differ = len(atoms)
        if not differ:
            return None

        def problem(k: int) -> str:
            atom = int(order[k])
            return (
                f"{now.name(atom)} has moved {distance[atom]:.2f} Å at once, and the regions would "
                f"give {differ} atoms other weights here: this is another structure than the one "
                "that the partition was made for"
            )

        return Finding("other", order, problem, ONE_FOR_ALL)

    def _configuration(self, atoms: ase.Atoms) -> Configuration:
        return self._watch.at(atoms.positions, atoms.cell.array, self._partition.weights)
