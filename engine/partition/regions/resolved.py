"""A partition as an object of its own: the weights, and the structures that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np
import numpy.typing as npt

from duetto.atoms.periodic import Array
from duetto.errors import InputError

if TYPE_CHECKING:
    from duetto.partition.regions.partition import Regions


@dataclass(frozen=True, eq=False)
class Partition:
    """One weight per atom, fixed, and the structures that it holds for.

    Calculators that share a partition compute one energy function, so their energies can be
    compared: along a path, along an equation of state, before and after a reaction.

    Attributes:
        weights: (A,) float64, w of the HF expert, in [0, 1]; cannot be written to.
        structures: what the weights were made from, one or several with the same atoms: species,
            positions, cell and periodicity alone. The guard compares later ones with them.
        regions: the words that the weights came from; None where they came as numbers.
    """

    weights: Array
    structures: tuple[ase.Atoms, ...]
    regions: Regions | None = None

    def __post_init__(self) -> None:
        """Check that weights and structures go together, and keep copies of them."""
        structures = same_atoms(self.structures)
        weights = np.array(self.weights, dtype=np.float64)
        if weights.shape != (len(structures[0]),):
            raise InputError(
                f"partition: weights of shape {weights.shape} for {len(structures[0])} atoms; "
                "allowed: one weight per atom"
            )
        outside = np.flatnonzero(~((weights >= 0) & (weights <= 1)))
        if len(outside):
            atom = int(outside[0])
            raise InputError(
                f"partition: weight {weights[atom]:g} of atom {atom} "
                f"({structures[0].symbols[atom]}); allowed: 0 to 1"
            )
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "structures", tuple(_bare(atoms) for atoms in structures))

    @property
    def species(self) -> tuple[str, ...]:
        """(A,) chemical symbols."""
        return tuple(self.structures[0].symbols)

    @property
    def pbc(self) -> npt.NDArray[np.bool_]:
        """(3,) which directions are periodic."""
        return np.array(self.structures[0].pbc)

    def require(self, atoms: ase.Atoms, where: str = "structure") -> None:
        """See that `atoms` are those of the partition, in any positions and any cell.

        Raises:
            InputError: another number of atoms, species, order or periodicity; one line that
                names the first atom that differs.
        """
        require_same_atoms(atoms, self.structures[0], where, "the partition")


def same_atoms(structures: ase.Atoms | Iterable[ase.Atoms]) -> tuple[ase.Atoms, ...]:
    """Return the structures, at least one, after seeing that all have the same atoms.

    Raises:
        InputError: there are none, one is not an `Atoms`, or one has other atoms than the first.
    """
    if isinstance(structures, ase.Atoms):
        return (structures,)
    if not isinstance(structures, Iterable):
        raise InputError(_not_atoms(structures))
    listed = tuple(structures)
    if not listed:
        raise InputError("partition: no structure is given; at least one is needed")
    for i, atoms in enumerate(listed):
        if not isinstance(atoms, ase.Atoms):
            raise InputError(_not_atoms(atoms))
        require_same_atoms(atoms, listed[0], f"structure {i}", "structure 0")
    return listed


def require_same_atoms(atoms: ase.Atoms, first: ase.Atoms, where: str, whose: str) -> None:
    """See that `atoms` (called `where`) has the species, in order, and the pbc of `first`.

    Raises:
        InputError: it has not; names the first atom that differs.
    """
    if len(atoms) != len(first):
        raise InputError(
            f"{where}: {len(atoms)} atoms, and {whose} has {len(first)}; one partition is for the "
            "same atoms in the same order"
        )
    other = np.flatnonzero(atoms.numbers != first.numbers)
    if len(other):
        i = int(other[0])
        raise InputError(
            f"{where}: atom {i} is {atoms.symbols[i]}, and {first.symbols[i]} in {whose}; one "
            "partition is for the same atoms in the same order"
        )
    if (atoms.pbc != first.pbc).any():
        raise InputError(
            f"{where}: periodicity {atoms.pbc.tolist()}, and {whose} has {first.pbc.tolist()}; one "
            "partition is for one periodicity"
        )


def union(weights: Sequence[Array]) -> Array:
    """(A,) the largest weight that any of the structures gives each atom."""
    return np.asarray(np.max(weights, axis=0))


def _bare(atoms: ase.Atoms) -> ase.Atoms:
    """A copy without calculator, constraints, velocities and arrays."""
    return ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _not_atoms(value: object) -> str:
    return f"partition: got {type(value).__name__}; allowed: ase.Atoms, or several of them"
