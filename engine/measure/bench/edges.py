"""How many pairs each expert evaluates."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import vesin
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.experts.base import Expert, cutoff_matrix, types_of
from duetto.experts.pair import ExpertPair

Counts = dict[str, NDArray[np.int64]]


def edges_per_atom(
    expert: Expert, atoms: Atoms, left_to_others: Collection[str] = ()
) -> NDArray[np.int64]:
    """Number of neighbours (A,) within the expert's cutoff of their pair of types.

    Args:
        expert: the expert.
        atoms: the structure.
        left_to_others: species that the expert need not know: it has no edge with them.

    Raises:
        InputError: the expert does not know another species.
    """
    index = types_of(expert)
    unknown = sorted(set(atoms.symbols) - set(index) - set(left_to_others))
    if unknown:
        known = ", ".join(index)
        raise InputError(f"the structure has {', '.join(unknown)}; the pair knows {known}")
    types = np.array([index.get(symbol, len(index)) for symbol in atoms.symbols])
    cutoffs = np.pad(cutoff_matrix(expert).numpy(), (0, 1))
    search = vesin.NeighborList(cutoff=float(cutoffs.max()), full_list=True)
    i, j, distance = search.compute(
        points=atoms.positions,
        box=complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)),
        periodic=atoms.pbc,
        quantities="ijd",
    )
    within = distance < cutoffs[types[i], types[j]]
    return np.bincount(i[within].astype(np.int64), minlength=len(atoms))


def count_edges(pair: ExpertPair, atoms: Atoms) -> Counts:
    """`edges_per_atom` of each expert, by role; a species may be known to one of them only."""
    known = {symbol for expert in pair.experts.values() for symbol in expert.species}
    return {role: edges_per_atom(expert, atoms, known) for role, expert in pair.experts.items()}


def mixture_edges(
    counts: Counts, weights: NDArray[np.float64], *, correction: bool
) -> dict[str, int]:
    """Pairs that each expert evaluates in a mixture: those of its own centres.

    Args:
        counts: of `count_edges`.
        weights: (A,) of HF.
        correction: whether HF is a correction to LF, which then computes every atom.
    """
    shares = {"hf": weights > 0.0, "lf": (weights < 1.0) | correction}
    return {role: int(counts[role][share].sum()) for role, share in shares.items() if share.any()}
