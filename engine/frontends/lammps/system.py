"""Atoms in a box as LAMMPS has it: lower triangular, turned and reduced; and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from numpy.typing import ArrayLike, NDArray

from duetto.errors import InputError
from duetto.frontends.lammps.types import AtomType, atom_kinds

Array = NDArray[np.float64]

MASS_SCALE: float = 1.0 / 1.0364269e-4 / (1e6 * units.fs**2)
"""LAMMPS's metal units take 1 amu Å²/ps² for 1.0364269e-4 eV, CODATA gives 6e-8 more. Masses times
this number make LAMMPS's accelerations and kinetic energies those of CODATA, hence of Duetto."""

_MARGIN = 1.0
"""Å between the outermost atom and a face, where nothing is periodic."""


@dataclass(frozen=True)
class Box:
    """A LAMMPS box.

    Attributes:
        low: (3,) Å, lower corner.
        cell: (3, 3) Å, lower triangular, rows are the vectors.
        rotation: (3, 3) positions in LAMMPS are positions @ rotation.
        periodic: of each direction.
    """

    low: Array
    cell: Array
    rotation: Array
    periodic: tuple[bool, bool, bool]

    @property
    def tilts(self) -> tuple[float, float, float]:
        """xy, xz and yz, Å."""
        return float(self.cell[1, 0]), float(self.cell[2, 0]), float(self.cell[2, 1])

    @property
    def boundary(self) -> str:
        """As LAMMPS's command has it: faces that are not periodic follow the atoms outwards."""
        return " ".join("p" if flag else "m" for flag in self.periodic)


@dataclass(frozen=True)
class System:
    """A structure with its partition, ready for LAMMPS.

    Attributes:
        atoms: the structure as it was read.
        kinds: (A,) the LAMMPS type of every atom.
        types: the types that occur, in their order: number t + 1 in LAMMPS.
        weights: (A,) the share of HF; where it follows seeds, the part that does not move.
        box: where LAMMPS has the atoms.
        positions: (A, 3) Å, in LAMMPS's frame, not wrapped.
        velocities: (A, 3) Å/fs, in LAMMPS's frame.
        seeds: (S,) int64, atoms that weights follow.
    """

    atoms: Atoms
    kinds: tuple[AtomType, ...]
    types: tuple[AtomType, ...]
    weights: Array
    box: Box
    positions: Array
    velocities: Array
    seeds: NDArray[np.int64]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(A,) each atom's type, from 1."""
        order = {kind: t + 1 for t, kind in enumerate(self.types)}
        return np.array([order[kind] for kind in self.kinds], dtype=np.int64)

    @property
    def names(self) -> list[str]:
        """The types' names, for pair_coeff."""
        return [kind.name for kind in self.types]

    @property
    def blended(self) -> bool:
        """Whether any atom has a weight of its own."""
        return any(kind.weight is None for kind in self.types)

    @property
    def masses(self) -> Array:
        """(T,) amu of each type."""
        by_type = dict(zip(self.kinds, self.atoms.get_masses(), strict=True))
        return np.array([by_type[kind] for kind in self.types])


def make_system(
    atoms: Atoms, weights: ArrayLike, species: Sequence[str], seeds: ArrayLike = ()
) -> System:
    """Sort atoms into types and turn them into LAMMPS's frame.

    Args:
        atoms: positions in Å, cell, pbc; velocities where it has any.
        weights: (A,) in [0, 1].
        species: in the order in which types shall be numbered.
        seeds: (S,) indices of the atoms that weights follow; their own are 1.

    Raises:
        InputError: atoms of one type with different masses.
    """
    w, followed = np.array(weights, dtype=np.float64), np.asarray(seeds, dtype=np.int64)
    w[followed] = 1.0
    kinds = atom_kinds(atoms.get_chemical_symbols(), w, followed.tolist())
    order = {symbol: place for place, symbol in enumerate(species)}
    regions = {1.0: 1, None: 2, 0.0: 3}
    types = sorted(
        set(kinds),
        key=lambda kind: (0 if kind.seed else regions[kind.weight], order[kind.symbol]),
    )
    _check_masses(atoms, kinds)
    box = make_box(atoms)
    velocities = atoms.get_velocities() * units.fs if atoms.has("momenta") else None
    return System(
        atoms=atoms,
        kinds=tuple(kinds),
        types=tuple(types),
        weights=w,
        box=box,
        positions=atoms.positions @ box.rotation,
        velocities=np.zeros((len(atoms), 3)) if velocities is None else velocities @ box.rotation,
        seeds=followed,
    )


def _check_masses(atoms: Atoms, kinds: Sequence[AtomType]) -> None:
    first: dict[AtomType, float] = {}
    for i, (kind, mass) in enumerate(zip(kinds, atoms.get_masses(), strict=True)):
        if first.setdefault(kind, mass) != mass:
            raise InputError(
                f"atom {i}: {kind.name} of {mass:g} amu among others of {first[kind]:g}; LAMMPS "
                "has one mass a type: give atoms of one species one mass"
            )


def make_box(atoms: Atoms) -> Box:
    """The LAMMPS box of a structure.

    Directions that are not periodic become perpendicular to the others, without a change of the
    volume; the lattice of the periodic ones stays what it is.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    cell = _perpendicular(np.asarray(atoms.cell.array, dtype=np.float64), pbc, atoms.positions)
    if np.linalg.det(cell) < 0.0:
        cell[2] *= -1.0  # spans the same lattice, right-handed
    lower, rotation = _turned(cell)
    lower = _reduced(lower)
    positions = atoms.positions @ rotation
    low, high = np.zeros(3), np.diagonal(lower).copy()
    for k in np.flatnonzero(~pbc):
        inside = positions[:, k].min() >= 0.0 and positions[:, k].max() <= high[k]
        if not inside or not atoms.cell[k].any():
            low[k] = positions[:, k].min() - _MARGIN
            high[k] = positions[:, k].max() + _MARGIN
            if atoms.cell[k].any():  # never smaller than the cell that was given
                low[k], high[k] = min(low[k], 0.0), max(high[k], lower[k, k])
            lower[k, k] = high[k] - low[k]
    return Box(low, lower, rotation, (bool(pbc[0]), bool(pbc[1]), bool(pbc[2])))


def _perpendicular(cell: Array, pbc: NDArray[np.bool_], positions: Array) -> Array:
    """The cell with each direction that is not periodic made perpendicular to those before it."""
    box = np.where(pbc[:, None], cell, 0.0)
    done = list(np.flatnonzero(pbc))
    for k in np.flatnonzero(~pbc):
        span = np.linalg.qr(box[done].T)[0] if done else np.zeros((3, 0))
        candidates = [cell[k], *np.eye(3)[[k, (k + 1) % 3, (k + 2) % 3]]]
        across = [vector - span @ (span.T @ vector) for vector in candidates]
        # The cell's own direction if it has one, else an axis that is far from the others.
        place = next(i for i, v in enumerate(across) if np.linalg.norm(v) > 0.3 * (i > 0) + 1e-6)
        vector = across[place]
        if place:  # no cell vector: as long as the atoms reach
            unit = vector / np.linalg.norm(vector)
            vector = unit * (np.ptp(positions @ unit) + 2 * _MARGIN)
        box[k] = vector
        done.append(k)
    return box


def _turned(cell: Array) -> tuple[Array, Array]:
    """A right-handed cell as lower @ rotation.T with `lower` triangular, its diagonal positive."""
    if np.allclose(cell, np.tril(cell), rtol=0.0, atol=1e-12) and (np.diagonal(cell) > 0.0).all():
        return np.tril(cell), np.eye(3)
    orthogonal, upper = np.linalg.qr(cell.T)
    sign = np.sign(np.diagonal(upper))
    lower = upper.T * sign
    lower[np.abs(lower) < 1e-12 * np.abs(lower).max()] = 0.0
    return lower, orthogonal * sign


def _reduced(lower: Array) -> Array:
    """The same lattice with every tilt at most half a box length."""
    lower = lower.copy()
    for row, by in ((1, 0), (2, 1), (2, 0)):
        lower[row] -= np.round(lower[row, by] / lower[by, by]) * lower[by]
    return lower
