"""Frames for co-training: which labels train which expert, and where the experts must agree."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.io.formats import filetype
from nequip.data import AtomicDataDict
from nequip.data.ase import from_ase
from nequip.data.dataset import AtomicDataset

from duetto.cotrain.frames import AGREEMENT_KEY, fits_key, register_cotraining_fields
from duetto.errors import InputError

_KEPT = (
    AtomicDataDict.POSITIONS_KEY,
    AtomicDataDict.CELL_KEY,
    AtomicDataDict.PBC_KEY,
    AtomicDataDict.ATOMIC_NUMBERS_KEY,
)
EVERYTHING = "all"


class CoTrainingDataset(AtomicDataset):
    """Labelled frames of a reference calculation, and unlabelled ones for the agreement terms.

    Args:
        transforms: nequip's data transforms; the neighbour list at the largest of the cutoffs.
            They are applied once to each frame, when it is first used.
        fits: for each expert, the `config_type` patterns of the frames whose labels train it
            (`[bulk*, slab_111]`), or `all`.
        labelled: path or paths of files that ASE reads, with energies and forces.
        unlabelled: agreement frames: paths, or iterables of `ase.Atoms` such as `BulkFrames`.
            All their atoms count as shared bulk.
        agreement: `config_type` patterns of the labelled frames whose atoms all count as shared
            bulk, too.
        agreement_array: name of a per-atom array in the files, nonzero where an atom counts as
            shared bulk; added to the above.
        stress: whether to keep stress labels; NaN where a frame has none.

    Raises:
        InputError: a file is missing or unreadable, a frame lacks energy or forces, or a pattern
            fits no frame.
    """

    def __init__(
        self,
        transforms: Sequence[Callable[[AtomicDataDict.Type], AtomicDataDict.Type]],
        fits: Mapping[str, str | Sequence[str]],
        labelled: str | Sequence[str] = (),
        unlabelled: str | Sequence[str | Iterable[Atoms]] = (),
        agreement: str | Sequence[str] = (),
        agreement_array: str | None = None,
        stress: bool = False,
    ):
        super().__init__(transforms=list(transforms))
        register_cotraining_fields(fits)
        self._array = agreement_array
        self._stress = stress
        read = [
            (f"{path}: frame {n} ({frame.symbols})", frame)
            for path in _listed(labelled)
            for n, frame in enumerate(_read(path))
        ]
        names = [str(frame.info.get("config_type", "")) for _, frame in read]
        trains = {role: _matches(role, patterns, names) for role, patterns in fits.items()}
        shared = _matches("agreement", agreement, names)
        self.num_labelled = len(read)
        self.frames = [
            self._frame(frame, name, {role: trains[role][k] for role in fits}, shared[k])
            for k, (name, frame) in enumerate(read)
        ]
        untrained = dict.fromkeys(fits, False)
        for source in _listed(unlabelled):
            for frame in _read(source) if isinstance(source, str) else source:
                self.frames.append(self._frame(frame, None, untrained, True))
        if not self.frames:
            raise InputError("co-training: no frames, neither labelled nor unlabelled")
        self._transformed: dict[int, AtomicDataDict.Type] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def _get_data_list(self, indices: Any) -> list[AtomicDataDict.Type]:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        return [self.frames[int(index)] for index in chosen]

    def __getitems__(self, indices: Any) -> list[AtomicDataDict.Type]:
        """Frames with the transforms applied; neighbour lists are made once and kept."""
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        return [self._kept(int(index)) for index in chosen]

    def _kept(self, index: int) -> AtomicDataDict.Type:
        if index not in self._transformed:
            self._transformed[index] = self._transform(self.frames[index])
        return self._transformed[index].copy()

    def _frame(
        self, atoms: Atoms, name: str | None, trains: Mapping[str, bool], shared: bool
    ) -> AtomicDataDict.Type:
        """One frame as tensors: geometry, labels (NaN if it has no name), flags."""
        data = from_ase(atoms)
        frame = {key: data[key] for key in _KEPT if key in data}
        labels = {
            AtomicDataDict.TOTAL_ENERGY_KEY: (1, 1),
            AtomicDataDict.FORCE_KEY: (len(atoms), 3),
        }
        for key, shape in labels.items():
            if name is not None and key not in data:
                raise InputError(f"{name} has no {key}")
            label = data[key].view(shape) if name is not None else torch.full(shape, torch.nan)
            frame[key] = label.to(torch.float64)
        if self._stress:
            missing = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
            has_label = name is not None and AtomicDataDict.STRESS_KEY in data
            stress = data[AtomicDataDict.STRESS_KEY] if has_label else missing
            frame[AtomicDataDict.STRESS_KEY] = stress
        for role, fits in trains.items():
            frame[fits_key(role)] = torch.tensor([int(fits)])
        marked = np.full(len(atoms), int(shared))
        if self._array is not None and self._array in atoms.arrays:
            marked |= np.asarray(atoms.arrays[self._array] != 0).astype(marked.dtype)
        frame[AGREEMENT_KEY] = torch.as_tensor(marked)
        return frame


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

    def __iter__(self) -> Any:
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
        (atoms, *_) = _read(structure)
        return atoms
    try:
        return bulk(structure, a=lattice_constant, cubic=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"BulkFrames: no reference crystal of {structure}: {error}") from error


def _read(path: str) -> list[Atoms]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file of frames")
    try:
        if path.endswith(".gz"):
            # ASE goes back and forth between frames, which gzip answers by starting over.
            with gzip.open(path, "rt") as stream:
                text = StringIO(stream.read())
            return list(ase.io.iread(text, index=":", format=filetype(path[:-3], read=False)))
        return list(ase.io.iread(path, index=":"))
    except Exception as error:  # ASE's readers raise whatever they meet
        raise InputError(f"{path}: ASE cannot read it: {error}") from error


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, BulkFrames)) else list(value)


def _matches(purpose: str, patterns: str | Sequence[str], names: list[str]) -> list[bool]:
    """Which of the frames' config_types fit any of the patterns."""
    if patterns == EVERYTHING:
        return [True] * len(names)
    wanted = _listed(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(sorted(set(names))) or "none"
            raise InputError(f"{purpose}: no config_type fits {pattern!r}; there are: {known}")
    return [any(fnmatchcase(name, pattern) for pattern in wanted) for name in names]
