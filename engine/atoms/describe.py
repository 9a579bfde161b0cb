"""An atom and what is around it, for messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms

from duetto.atoms.periodic import Array, nearest


def name_atom(index: int, symbol: str, position: Array, weight: float | None = None) -> str:
    """Return `atom 7 (C, w = 1) at (x, y, z) Å`, counting atoms from 0; w where it is given."""
    x, y, z = position
    share = "" if weight is None else f", w = {weight:g}"
    return f"atom {index} ({symbol}{share}) at ({x:.3f}, {y:.3f}, {z:.3f}) Å"


def name_in(atoms: Atoms, index: int) -> str:
    """`name_atom` of one of `atoms`."""
    return name_atom(index, atoms.symbols[index], atoms.positions[index])


def surroundings(
    index: int,
    symbols: Sequence[str] | npt.NDArray[np.str_],
    positions: Array,
    cell: Array,
    pbc: npt.NDArray[np.bool_],
    count: int = 4,
) -> str:
    """Return `Pt 3 at 1.85 Å, …`: the `count` nearest atoms by their nearest images.

    Args:
        index: the atom in the middle.
        symbols: (A,).
        positions: (A, 3), Å, all finite.
        cell: (3, 3), Å.
        pbc: (3,).
        count: how many.
    """
    distance = nearest(positions, positions[index : index + 1], cell, pbc, np.inf).distance
    distance[index] = np.inf
    close = np.argsort(distance, kind="stable")[: min(count, len(distance) - 1)]
    return ", ".join(f"{symbols[j]} {j} at {distance[j]:.2f} Å" for j in close)
