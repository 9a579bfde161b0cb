"""Positions and cells in which distances are defined: the one check that all doors share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from ase import Atoms

from duetto.atoms.describe import name_in
from duetto.atoms.periodic import Array, complete_basis, heights
from duetto.errors import InputError

FARTHEST_A = 1e12
"""Å; beyond it float64 does not tell positions apart that differ by 1e-4 Å."""

SHORTEST_VECTOR_A = 0.3
"""Å; an atom would be closer to its own image than any two nuclei are."""

LONGEST_VECTOR_A = 1e6
"""Å; a longer cell vector is in other units or damaged."""

SMALLEST_HEIGHT_A = 0.05
"""Å between two faces of a periodic cell, below which it is flat; an atom has more images within
a cutoff than any machine holds."""

AXES = "abc"


def check_geometry(
    positions: Array,
    cell: Array,
    pbc: npt.NDArray[np.bool_],
    where: str = "structure",
    name: Callable[[int], str] = "atom {}".format,
) -> None:
    """Refuse positions and cells in which no distance is defined.

    Args:
        positions: (A, 3), Å, wrapped or not.
        cell: (3, 3), rows are the vectors, Å; those that are not periodic play no part.
        pbc: (3,).
        where: how messages call the structure.
        name: how messages call the atom of an index.

    Raises:
        InputError: a position is not finite or beyond `FARTHEST_A`; the cell is not finite; a
            periodic vector is missing, shorter than `SHORTEST_VECTOR_A`, longer than
            `LONGEST_VECTOR_A`, or (nearly) parallel to the others.
    """
    check_positions(positions, where, name)
    check_cell(cell, pbc, where)


def check_positions(
    positions: Array, where: str = "structure", name: Callable[[int], str] = "atom {}".format
) -> None:
    """The part of `check_geometry` that is about positions."""
    # Written so that what is not a number counts as too far.
    if np.abs(positions).max(initial=0.0) <= FARTHEST_A:
        return
    first = int(np.flatnonzero(~(np.abs(positions) <= FARTHEST_A).all(axis=1))[0])
    wrong = f"is beyond {FARTHEST_A:g} Å; are the units Å?"
    if not np.isfinite(positions[first]).all():
        wrong = "is not finite"
    raise InputError(f"{where}: {name(first)}: its position {wrong}")


def check_cell(cell: Array, pbc: npt.NDArray[np.bool_], where: str = "structure") -> None:
    """The part of `check_geometry` that is about the cell."""
    if not np.isfinite(cell).all():
        raise InputError(f"{where}: the cell is not finite: {cell.tolist()}")
    lengths = np.linalg.norm(cell, axis=1)
    for axis in np.flatnonzero(pbc):
        if lengths[axis] == 0.0:
            raise InputError(
                f"{where}: direction {AXES[axis]} is periodic but has no cell vector (it is zero); "
                "give the vector or switch periodicity off there"
            )
        if not SHORTEST_VECTOR_A <= lengths[axis] <= LONGEST_VECTOR_A:
            raise InputError(
                f"{where}: cell vector {AXES[axis]} is {lengths[axis]:g} Å long; allowed: "
                f"{SHORTEST_VECTOR_A:g} to {LONGEST_VECTOR_A:g} Å"
            )
    if not pbc.any():
        return
    with np.errstate(invalid="ignore"):  # parallel vectors have no third one across them
        smallest = heights(complete_basis(cell, pbc))[pbc].min()
    if not smallest >= SMALLEST_HEIGHT_A:
        raise InputError(
            f"{where}: the cell is flat: {cell[pbc].tolist()} lie in one plane or line"
        )


def check_geometry_of(atoms: Atoms, where: str = "structure") -> None:
    """`check_geometry` of `atoms`; messages name an atom with its species and position."""
    check_geometry(
        atoms.positions, atoms.cell.array, atoms.pbc, where, lambda index: name_in(atoms, index)
    )
