"""Watching that a partition stays true while the atoms move.

The guard only looks: positions in, findings out. Does an atom that LF computes have a neighbour LF
was never trained on? Has an atom whose surroundings were to be HF come close to one that only LF
computes? Has an atom flown away? What is done about it is the business of whoever keeps the
weights (`duetto.partition.keeper`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import TypeAdapter

from duetto.partition.extrapolation import find_extrapolating
from duetto.partition.regions.atomic import OneOrMore
from duetto.partition.rules import (
    Configuration,
    Finding,
    Kinds,
    Start,
    find_in_shell,
    find_lost,
    find_not_finite,
    find_unseen,
)
from duetto.partition.search import Search
from duetto.partition.start import start_of
from duetto.settings.fields import Length, Section, one_of, real
from duetto.settings.read import read, read_as
from duetto.settings.values import Place

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair

POLICIES = ("error", "warn", "promote")

ALWAYS_STOPS = ("position", "lost")
"""Findings that computing the atom with HF does not mend."""


_POLICY = TypeAdapter(Annotated[str, one_of(POLICIES)])


class Guard(Section):
    """What to watch, and what to do about what is found.

    Checks:
        unseen: an atom that LF computes (w < 1) has, inside LF's cutoff, a neighbour of a
            species that LF never met beside that atom's in training
            (`pair.provenance["lf"]["seen_pairs"]`; without it every pair counts as met).
        shell: an atom that LF alone computes (w = 0) is closer than `shell` to a watched atom.
        lost: an atom is `lost_distance` outside the space that the atoms filled at the start,
            along a direction that is not periodic.
        position: a position is not finite.
        extrapolation: an atom that LF computes has a moment outside the range that LF's fit has
            seen (linear LF), by more than `extrapolation` widths of that range.

    Attributes:
        policy: `error` stops the run, `warn` logs each atom once, `promote` gives the atoms to HF
            (w = 1) and books the change of the energy.
        watched: species whose complex atoms (w = 1 at the first look) are watched; None: those
            that then have no other atoms.
        shell: Å around a watched atom in which no atom may have w = 0; None: LF's cutoff, or
            `MOTION` less than the start allows if that is shorter.
        lost_distance: Å.
        extrapolation: how far outside is too far; None: nobody looks.
    """

    policy: Annotated[str, one_of(POLICIES)] = "error"
    watched: OneOrMore | None = None
    shell: Length | None = None
    lost_distance: Length = 100.0
    extrapolation: Annotated[float, real(above=-1.0, limit=1e3, unit="")] | None = None

    @classmethod
    def from_config(cls, value: object) -> Guard:
        """Read `guard:` of a run's YAML: a policy, or a mapping of the attributes.

        Raises:
            InputError: unknown key, wrong type or value out of range, by name.
        """
        if isinstance(value, str):
            return cls(policy=read_as(_POLICY, value, Place("guard")))
        if not isinstance(value, Mapping):
            allowed = f"{', '.join(POLICIES)}, or a mapping such as {{policy: warn, shell: 3.0}}"
            raise Place("guard").refuse(value, allowed)
        return read(cls, value, Place("guard"))


class Watch:
    """A guard's eyes on one set of atoms.

    A look changes nothing, neither weights nor potential. The first one fixes what later ones are
    compared with.

    Attributes:
        guard: what to look for.
        start: what the first look found, None before it.
        shell: whether to look for the check of that name; a partition that follows its seeds
            needs no such check.
    """

    def __init__(
        self, guard: Guard, pair: ExpertPair, species: Sequence[str], pbc: ArrayLike
    ) -> None:
        """Prepare for atoms of `species` (A,), periodic along `pbc` (3,)."""
        self.guard = guard
        self.start: Start | None = None
        self.shell = True
        self._pair = pair
        self._kinds = Kinds.of(species)
        self._pbc = np.asarray(pbc, dtype=bool)
        self._unseen, self._in_shell = Search(), Search()

    def at(self, positions: ArrayLike, cell: ArrayLike, weights: ArrayLike) -> Configuration:
        """What there is to look at, from (A, 3) Å, (3, 3) Å and (A,) numbers."""
        return Configuration(
            positions=np.asarray(positions, dtype=np.float64),
            cell=np.asarray(cell, dtype=np.float64),
            pbc=self._pbc,
            kinds=self._kinds,
            weights=np.asarray(weights, dtype=np.float64),
        )

    def look(self, now: Configuration) -> list[Finding]:
        """What is wrong with a configuration, the most serious first.

        Args:
            now: made by `at`.

        Raises:
            InputError: at the first look, `watched` or `shell` does not fit the structure.
        """
        not_finite = find_not_finite(now)
        if not_finite is not None:
            return [not_finite]
        if self.start is None:
            self.start = self._begin(now)
        found = [
            find_lost(now, self.start, self.guard.lost_distance),
            find_unseen(now, self._pair, self._unseen),
            find_in_shell(now, self.start, self._in_shell),
        ]
        if self.guard.extrapolation is not None:
            found.append(find_extrapolating(now, self._pair, self.guard.extrapolation))
        return [finding for finding in found if finding is not None]

    def _begin(self, now: Configuration) -> Start:
        if not self.shell:
            return start_of([now], self._pair, watched=())
        return start_of([now], self._pair, watched=self.guard.watched, shell=self.guard.shell)
