"""Surroundings in which a fitted low-fidelity expert guesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from duetto.atoms.periodic import Array, pairs_within
from duetto.partition.rules import ENLARGE, Configuration, Finding

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair


def find_extrapolating(now: Configuration, pair: ExpertPair, tolerance: float) -> Finding | None:
    """Atoms that LF computes (w < 1) with a moment outside the range that its fit has seen.

    Args:
        now: what there is to look at.
        pair: the experts; an LF that remembers no ranges is never out of them.
        tolerance: how far outside, in widths of the range, counts.
    """
    centres = np.flatnonzero(now.weights < 1)
    excess = excess_of(pair.lf, now, centres)
    if excess is None:
        return None
    worst = excess.max(axis=1, initial=-np.inf)
    order = np.argsort(-worst, kind="stable")[: int((worst > tolerance).sum())]
    if not len(order):
        return None

    def problem(k: int) -> str:
        row = int(order[k])
        atom = int(centres[row])
        told: str = pair.lf.name_moment(  # type: ignore[union-attr]
            now.species(atom), int(excess[row].argmax()), float(worst[row])
        )
        return f"{now.name(atom)}, which LF computes: {told}"

    return Finding("extrapolation", centres[order], problem, ENLARGE)


def excess_of(lf: Any, now: Configuration, centres: Any) -> Array | None:
    """How far moments are outside what LF's fit has seen, (C, V), in widths; None: not known.

    Args:
        lf: the expert; those with `excess` and `name_moment` remember, see
            `duetto.experts.linear.expert.LinearExpert`.
        now: positions, cell and species.
        centres: (C,) the atoms to look at.
    """
    if lf is None or not hasattr(lf, "excess"):
        return None
    from duetto.experts.base import max_cutoff  # imports torch, which reading a word needs not

    found = pairs_within(now.positions[centres], now.positions, now.cell, now.pbc, max_cutoff(lf))
    other = (centres[found.query] != found.point) | found.shift.any(axis=1)
    symbols = np.array(now.kinds.symbols)[now.kinds.number]
    values: Array = lf.excess(
        symbols[centres].tolist(),
        found.query[other],
        symbols[found.point[other]].tolist(),
        found.distance[other],
    )
    return values
