"""What a partition is at its beginning: which atoms are watched, how near others may come."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from duetto.atoms.periodic import Indices, across
from duetto.errors import InputError
from duetto.partition.rules import Configuration, Start, seen_pairs

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair

log = logging.getLogger(__name__)

MOTION = 1.0
"""Å that two atoms may come closer by thermal motion without either having left its site."""


def start_of(
    configurations: Sequence[Configuration],
    pair: ExpertPair,
    *,
    watched: Sequence[str] | None = None,
    shell: float | None = None,
) -> Start:
    """Fix what later configurations are compared with, and log it.

    Args:
        configurations: one or several of the same atoms and weights, such as a path's images.
        pair: the experts.
        watched: species whose complex atoms are watched; default: those of which all atoms are
            complex, while the structure has others.
        shell: Å around a watched atom in which no atom may have w = 0; default: LF's cutoff, or
            `MOTION` less than the nearest such atom's distance if that is shorter.

    Raises:
        InputError: `watched` or `shell` does not fit the structure.
    """
    first = configurations[0]
    atoms = _watched_atoms(first, watched)
    beside = [across(now.positions, now.cell, now.pbc) for now in configurations]
    if (first.weights < 1).any() and seen_pairs(pair) is None:
        log.warning(
            "guard: the pair file does not say which neighbours LF was trained on; "
            "every pair of species counts as known"
        )
    return Start(
        watched=tuple(atoms.tolist()),
        shell=_shell_distance(configurations, atoms, pair, shell),
        low=tuple(np.min([extent.min(axis=0) for extent in beside], axis=0).tolist()),
        high=tuple(np.max([extent.max(axis=0) for extent in beside], axis=0).tolist()),
    )


def _watched_atoms(now: Configuration, watched: Sequence[str] | None) -> Indices:
    inside = now.weights == 1
    if watched is None:
        return np.flatnonzero(inside & ~now.kinds.are(now.kinds.present(~inside)))
    there = now.kinds.present(inside)
    for i, symbol in enumerate(watched):
        if symbol not in there:
            raise InputError(
                f"guard.watched[{i}]: no {symbol} in the complex region, which has "
                f"{', '.join(there) or 'no atoms'}"
            )
    return np.flatnonzero(inside & now.kinds.are(watched))


def _shell_distance(
    configurations: Sequence[Configuration],
    watched: Indices,
    pair: ExpertPair,
    asked: float | None,
) -> float:
    simple = np.flatnonzero(configurations[0].weights == 0)
    if pair.lf is None or not len(watched) or not len(simple):
        return 0.0
    from duetto.experts.base import max_cutoff  # imports torch, which reading a word needs not

    wanted = asked or max_cutoff(pair.lf)
    nearest_simple = np.inf
    for now in configurations:
        distance, atom = now.nearest(watched, simple, wanted + MOTION)
        first = int(distance.argmin())
        nearest_simple = min(nearest_simple, float(distance[first]))
        if asked is not None and nearest_simple < asked:
            raise InputError(
                f"guard.shell: got {asked:g} Å, but {now.name(int(atom[first]))} is "
                f"{nearest_simple:.2f} Å from {now.name(int(watched[first]))} at the start; "
                "allowed: less than that distance, or enlarge regions.complex"
            )
    shell = asked or max(min(wanted, nearest_simple - MOTION), 0.0)
    kinds = ", ".join(configurations[0].kinds.present(watched))
    if shell:
        log.info("guard: no simple atom may come within %.2f Å of %s", shell, kinds)
    else:
        log.warning(
            "guard: the simple region begins %.2f Å from %s, so their surroundings are not "
            "watched; enlarge regions.complex",
            nearest_simple,
            kinds,
        )
    return shell
