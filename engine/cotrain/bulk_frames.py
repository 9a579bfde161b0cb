"""Agreement frames made from a crystal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms

from duetto.atoms.labels import read_frames
from duetto.errors import InputError


class BulkFrames:
    """Bulk-like agreement frames made from a crystal: strained, rattled, some with a vacancy.

    Args:
        structure: path of a crystal that ASE reads, or a chemical symbol for the element's
            reference crystal.
        number: how many frames.
        repeat: repetitions of the (conventional) cell along its three vectors.
        strain: largest component of the random symmetric strain.
        rattle: largest standard deviation of the Gaussian displacements, Å; each frame draws its
            own between zero and this.
        vacancies: fraction of frames with one atom removed.
        lattice_constant: Å, of a cubic reference crystal; by default ASE's.
        seed: of the random numbers; the same frames come from the same seed.

    Raises:
        InputError: a number is out of range, or the structure cannot be had.
    """

    def __init__(
        self,
        structure: str,
        number: int,
        repeat: Sequence[int] = (3, 3, 3),
        strain: float = 0.03,
        rattle: float = 0.15,
        vacancies: float = 0.2,
        lattice_constant: float | None = None,
        seed: int = 0,
    ):
        for name, value, high in (("strain", strain, 0.5), ("vacancies", vacancies, 1.0)):
            if not 0 <= value <= high:
                raise InputError(f"BulkFrames {name}: {value} is not between 0 and {high}")
        if number < 1 or rattle < 0:
            raise InputError(f"BulkFrames: number {number} or rattle {rattle} out of range")
        self.number, self.strain, self.rattle, self.vacancies = number, strain, rattle, vacancies
        self.seed = seed
        self.crystal = _crystal(structure, lattice_constant).repeat(tuple(repeat))

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Atoms]:
        """Yield the frames; frame k depends on the seed and k alone."""
        for k in range(self.number):
            yield self._frame(np.random.default_rng((self.seed, k)))

    def _frame(self, rng: np.random.Generator) -> Atoms:
        atoms = self.crystal.copy()
        strain = rng.uniform(-self.strain, self.strain, (3, 3))
        strain = np.triu(strain) + np.triu(strain, 1).T
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
        amplitude = rng.uniform(0.0, self.rattle)
        atoms.positions += rng.normal(scale=amplitude, size=atoms.positions.shape)
        if rng.random() < self.vacancies:
            del atoms[int(rng.integers(len(atoms)))]
        return atoms


def _crystal(structure: str, lattice_constant: float | None) -> Atoms:
    from ase.build import bulk
    from ase.data import atomic_numbers

    if structure not in atomic_numbers:
        return read_frames(structure)[0]
    try:
        return bulk(structure, a=lattice_constant, cubic=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"BulkFrames: no reference crystal of {structure}: {error}") from error
