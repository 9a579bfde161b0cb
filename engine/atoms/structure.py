"""Reading the user's atoms, and refusing those that no run can start from."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.constraints import FixAtoms

from duetto.atoms.describe import name_in
from duetto.atoms.geometry import AXES, check_geometry_of
from duetto.atoms.periodic import nearest
from duetto.atoms.unreadable import unreadable
from duetto.errors import InputError
from duetto.files import require_file
from duetto.settings.values import suggestion


class Region(Protocol):
    """A rule that says of each atom of a structure whether it is inside."""

    def select(self, atoms: Atoms) -> npt.NDArray[np.bool_]:
        """(A,) bool."""


SMALLEST_DISTANCE_A = 0.3
"""Å; no two nuclei of a condensed or molecular system come closer."""


def read_structure(
    path: str | os.PathLike[str],
    *,
    frame: int = -1,
    repeat: Sequence[int] = (1, 1, 1),
    species: Collection[str] | None = None,
) -> Atoms:
    """Read one frame of a structure file in any format that ASE knows, repeated and checked.

    Args:
        path: the file.
        frame: which frame; negative counts from the end, as in ASE.
        repeat: copies along each cell vector.
        species: symbols that the pair file knows; None does not check.

    Raises:
        InputError: the file cannot be read, has no such frame, or `check_atoms` refuses it.
    """
    path = Path(path)
    atoms = _read_frame(path, frame)
    where = f"{path}, frame {frame}"
    check_atoms(atoms, where, species=species, clashes=False)
    for axis, count in enumerate(repeat):
        if count > 1 and not atoms.cell[axis].any():
            raise InputError(f"{where}: cannot repeat along {AXES[axis]}: no such cell vector")
    if tuple(repeat) != (1, 1, 1):
        atoms = atoms.repeat(tuple(repeat))
        where += f", repeated {'×'.join(str(count) for count in repeat)}"
    _check_distances(atoms, where)
    return atoms


def check_atoms(
    atoms: Atoms,
    where: str = "structure",
    *,
    species: Collection[str] | None = None,
    clashes: bool = True,
    constraints: bool = False,
) -> None:
    """Refuse atoms that no run can start from.

    Args:
        atoms: positions in Å, cell, pbc.
        where: how messages call the atoms: file and frame.
        species: symbols that the pair file knows; None does not check.
        clashes: check distances too.
        constraints: whether who asks applies the constraints of the atoms.

    Raises:
        InputError: no atoms; a species unknown to the pair; a position, velocity, mass or cell
            vector that is not finite; a zero or flat cell; a periodic direction without a cell
            vector; constraints that nobody applies; two atoms, or an atom and an image of itself,
            closer than `SMALLEST_DISTANCE_A`. One line naming `where` and the atom.
    """
    if len(atoms) == 0:
        raise InputError(f"{where}: there are no atoms")
    if species is not None:
        _check_species(atoms, where, species)
    check_geometry_of(atoms, where)
    _check_numbers(atoms, where)
    other = {type(c).__name__ for c in atoms.constraints if not isinstance(c, FixAtoms)}
    if other and not constraints:
        raise InputError(
            f"{where}: the atoms carry constraints ({', '.join(sorted(other))}), which a run does "
            "not apply; it keeps FixAtoms and its own key `fixed`: remove the others (in an "
            "extended XYZ file, the move_mask column)"
        )
    if clashes:
        _check_distances(atoms, where)


def fixed_atoms(atoms: Atoms, region: Region | None = None) -> npt.NDArray[np.bool_] | None:
    """Atoms that stay where they are: those of the structure's FixAtoms and those in `region`.

    Returns:
        (A,) bool, or None where there are none.

    Raises:
        InputError: all atoms are fixed, or the region does not fit the structure.
    """
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    if region is not None:
        fixed |= region.select(atoms)
    if fixed.all():
        raise InputError(f"all {len(atoms)} atoms are fixed: nothing can move; shrink `fixed`")
    return fixed if fixed.any() else None


def _read_frame(path: Path, frame: int) -> Atoms:
    require_file(path, "structure file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    import ase.io  # slow to import

    try:
        if frame >= -1:
            return ase.io.read(path, index=frame, do_not_split_by_at_sign=True)
        # ASE's readers take -3 of two frames for the first: count from the end ourselves.
        tail = deque(_frames(path), maxlen=-frame)
        if len(tail) == -frame:
            return tail[0]
    except Exception as error:  # each of ASE's readers has exceptions of its own
        if frame in (0, -1) or not _is_out_of_range(path, frame):
            raise unreadable(f"{path}, frame {frame}", error) from error
    count = sum(1 for _ in _frames(path))
    raise InputError(
        f"{path}: frame {frame} is out of range; the file has {count}, "
        f"allowed: 0 to {count - 1}, or {-count} to -1 from the end"
    )


def _frames(path: Path) -> Iterator[Atoms]:
    import ase.io

    return ase.io.iread(path, index=":", do_not_split_by_at_sign=True)


def _is_out_of_range(path: Path, frame: int) -> bool:
    """Whether the file can be read, but has too few frames."""
    try:
        count = sum(1 for _ in _frames(path))
    except Exception:
        return False
    return not -count <= frame < count


def _check_species(atoms: Atoms, where: str, species: Collection[str]) -> None:
    known = set(species)
    for index, symbol in enumerate(atoms.symbols):
        if symbol not in known:
            raise InputError(
                f"{where}: {name_in(atoms, index)} is of a species that the pair file does not "
                f"know{suggestion(symbol, known)}; it knows {', '.join(species)}"
            )


def _check_numbers(atoms: Atoms, where: str) -> None:
    columns = {"mass": atoms.get_masses()[:, None]}
    if atoms.has("momenta"):
        columns["momentum"] = atoms.get_momenta()
    for name, values in columns.items():
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise InputError(
                f"{where}: {name_in(atoms, int(bad.argmax()))}: its {name} is not finite"
            )
    massless = atoms.get_masses() <= 0.0
    if massless.any():
        raise InputError(f"{where}: {name_in(atoms, int(massless.argmax()))} has no mass")


def _check_distances(atoms: Atoms, where: str) -> None:
    """Refuse the closest two atoms; a search for the nearest of each holds in any box."""
    x, everyone = atoms.positions, np.arange(len(atoms))
    found = nearest(x, x, atoms.cell.array, atoms.pbc, SMALLEST_DISTANCE_A, skip_self=everyone)
    i = int(np.argmin(found.distance))
    if not np.isfinite(found.distance[i]):
        return
    j = int(found.point[i])
    other = "an image of itself" if i == j else name_in(atoms, j)
    raise InputError(
        f"{where}: {name_in(atoms, i)} and {other} are {found.distance[i]:.3f} Å apart; "
        f"closer than {SMALLEST_DISTANCE_A:g} Å is a mistake"
    )
