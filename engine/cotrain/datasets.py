"""Frames for co-training: which labels train which expert, and where the experts must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.data.ase import from_ase
from nequip.data.dataset import AtomicDataset

from duetto.atoms.labels import LabelKeys
from duetto.cotrain.frames import AGREEMENT_KEY, fits_key, register_cotraining_fields
from duetto.cotrain.labelled import Frame, Purposes, Split, labelled_frames, unlabelled_frames
from duetto.cotrain.remainder import beyond_lf
from duetto.errors import InputError

_KEPT = (
    AtomicDataDict.POSITIONS_KEY,
    AtomicDataDict.CELL_KEY,
    AtomicDataDict.PBC_KEY,
    AtomicDataDict.ATOMIC_NUMBERS_KEY,
)


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
        stress: whether frames that train an expert must have a stress, and it is kept.
        keys: what the files call the labels where it is not `energy`, `forces`, `stress` and
            `config_type`: `{energy: REF_energy}`; `{virial: virial}` makes stresses of virials.
        held_out, part: which part of each labelled file, see `duetto.cotrain.labelled.Split`.
        every_pattern: whether a pattern that fits no frame is refused.
        minus_lf: pair file whose low-fidelity expert is taken off the labels, for a
            high-fidelity one that is a correction to it and trained alone.

    Attributes:
        lf_hash: content hash of a pair of that expert alone; None without one.

    Raises:
        InputError: a file is missing or unreadable, a label is missing or not a number, or a
            pattern fits no frame.
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
        keys: Mapping[str, str] | None = None,
        held_out: float = 0.0,
        part: str = "all",
        every_pattern: bool = True,
        minus_lf: str | None = None,
    ):
        super().__init__(transforms=list(transforms))
        register_cotraining_fields(fits)
        self._stress = stress
        purposes = Purposes(fits, agreement, agreement_array, every_pattern)
        read = labelled_frames(
            labelled,
            purposes,
            LabelKeys.from_dict(keys),
            stress=stress,
            split=Split(held_out, part),
        )
        self.num_labelled = len(read)
        self.lf_hash: str | None = None
        if minus_lf is not None:
            read, self.lf_hash = beyond_lf(read, minus_lf)
        read += unlabelled_frames(unlabelled, purposes)
        self.frames = [self._tensors(frame) for frame in read]
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

    def _tensors(self, frame: Frame) -> AtomicDataDict.Type:
        """One frame as tensors: geometry, labels (NaN if it has none), flags."""
        atoms = frame.atoms
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        data = from_ase(bare)
        tensors = {key: data[key] for key in _KEPT if key in data}
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            AtomicDataDict.TOTAL_ENERGY_KEY: ("energy", (1, 1)),
            AtomicDataDict.FORCE_KEY: ("forces", (len(atoms), 3)),
        }
        if self._stress:
            shapes[AtomicDataDict.STRESS_KEY] = ("stress", (1, 3, 3))
        for key, (name, shape) in shapes.items():
            label = getattr(frame.labels, name, None)
            tensors[key] = torch.full(shape, torch.nan, dtype=torch.float64)
            if label is not None:
                tensors[key].copy_(torch.as_tensor(label).view(shape))
        for role, fits in frame.trains.items():
            tensors[fits_key(role)] = torch.tensor([int(fits)])
        tensors[AGREEMENT_KEY] = torch.as_tensor(frame.shared)
        return tensors
