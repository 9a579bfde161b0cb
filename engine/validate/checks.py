"""Refusals of what would be measured and mean nothing, before anything is."""

from __future__ import annotations

import numpy as np

from duetto.errors import InputError
from duetto.experts.base import max_cutoff
from duetto.validate.case import Case
from duetto.validate.subject import Array, half


def require_both(weights: Array, key: str, where: str) -> None:
    """Refuse regions of which one is empty: LF alone has seen no complex atom, HF alone errs by 0.

    Args:
        weights: (A,) of HF.
        key: of the regions in the configuration.
        where: the atoms, in words.

    Raises:
        InputError: there is no complex atom, or no simple one.
    """
    for name, weight in (("complex", 1), ("simple", 0)):
        if not (weights == weight).any():
            raise InputError(
                f"{key}: no {name} atom (w = {weight}) among the {len(weights)} of {where}; "
                "allowed: some complex and some simple ones, for the two are compared"
            )


def check_seam(case: Case) -> None:
    """Refuse a crystal too short for its two seams, and a blend that leaves nothing to LF.

    Raises:
        InputError: naming the key and what would do.
    """
    seam, experts = case.config.seam, case.subject.pair.experts
    length, cells = float(case.crystal.cell.lengths()[0]), seam.repeat[2]
    cutoff = max(max_cutoff(experts[role]) for role in ("hf", "lf"))
    if cells * length / 2 <= cutoff:
        raise InputError(
            f"seam.repeat: {cells} cells along z are too short for two seams: between them are "
            f"{cells * length / 2:.3g} Å, within the larger cutoff, {cutoff:g} Å; allowed: "
            f"{int(2 * cutoff / length) + 1} cells on"
        )
    column = case.crystal.repeat((1, 1, cells))
    for blend in seam.blends_A:
        if not (half(column, blend) == 0.0).any():
            raise InputError(
                f"seam.blends_A: {blend:g} Å leave no simple atom in {cells} cells; allowed: below "
                f"{cells * length / 4:.3g} Å there, a quarter of the crystal, or a longer "
                "seam.repeat"
            )


def check_vacancy(case: Case) -> None:
    """Refuse cells in which the vacancy leaves no complex atom, or which have no simple one.

    Small cells are allowed: neighbour lists hold every image. They are a poor crystal.

    Raises:
        InputError: naming the key.
    """
    repeat = case.config.vacancy_repeat
    weights = half(case.crystal.repeat((1, 1, repeat[2])))
    columns = repeat[0] * repeat[1]
    n_complex, n_simple = (columns * int(np.sum(weights == w)) for w in (1.0, 0.0))
    if n_complex < 2 or n_simple < 1:
        empty = "simple" if n_simple < 1 else "complex"
        raise InputError(
            f"vacancy_repeat: {list(repeat)}: no {empty} atom is left beside the vacancy, half of "
            "the cells being complex; allowed: more cells, such as [3, 3, 3]"
        )
