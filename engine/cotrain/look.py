"""A look at every file of every split, before a training starts.

Needs neither nequip nor torch: what cannot be used is refused at once, not after the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duetto.atoms.labels import LabelKeys
from duetto.cotrain.bulk_frames import BulkFrames
from duetto.cotrain.labelled import (
    Frame,
    Purposes,
    Split,
    as_list,
    labelled_frames,
    unlabelled_frames,
)
from duetto.errors import InputError
from duetto.files import require_file

SPLITS = {"train": "training", "val": "validation", "test": "test"}
_OURS = "CoTrainingDataset"


@dataclass(frozen=True)
class SetCounts:
    """What one set of frames holds.

    Attributes:
        name: "training", "validation", "test".
        labelled, unlabelled: numbers of frames.
        fits: by role, how many frames train that expert.
    """

    name: str
    labelled: int
    unlabelled: int
    fits: Mapping[str, int]

    def sentence(self) -> str:
        """For people."""
        roles = ", ".join(f"{count} for {role}" for role, count in self.fits.items())
        more = f", {self.unlabelled} unlabelled" if self.unlabelled else ""
        return f"{self.name}: {self.labelled} labelled frames ({roles}){more}"


def look_at(data: Mapping[str, Any]) -> list[SetCounts]:
    """Read every file that the data of a nequip configuration name, and check every frame.

    Args:
        data: the section `data`, plain. Sets of other kinds than `CoTrainingDataset` are left to
            nequip.

    Raises:
        InputError: a file is missing or unreadable, a label or a frame cannot be used, a pattern
            fits nothing, or nothing trains an expert.
    """
    sets = list(_sets(data))
    for _, dataset in sets:
        for path in _files(dataset):
            require_file(path, "file of frames")
        if dataset.get("minus_lf") is not None:
            require_file(dataset["minus_lf"], "pair file", "minus_lf: ")
    counts = [_count(SPLITS[split], dataset) for split, dataset in sets]
    for found in counts:
        if found.name == SPLITS["train"]:
            for role, number in found.fits.items():
                if number == 0:
                    raise InputError(f"fits.{role}: no labelled frame trains the expert {role}")
        elif found.name == SPLITS["val"] and found.labelled == 0:
            raise InputError("validation: no frame is held out; give files, or a larger share")
    return counts


def _sets(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for split in SPLITS:
        given = data.get(f"{split}_dataset") or []
        for dataset in [given] if isinstance(given, Mapping) else given:
            if str(dataset.get("_target_", "")).endswith(_OURS):
                yield split, dataset


def _files(dataset: Mapping[str, Any]) -> list[str]:
    unlabelled = _sources(dataset.get("unlabelled", ()))
    return [
        *as_list(dataset.get("labelled", ())),
        *(source for source in unlabelled if isinstance(source, str)),
    ]


def _sources(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, Mapping)) else list(value)


def _count(name: str, dataset: Mapping[str, Any]) -> SetCounts:
    purposes = Purposes(
        dataset["fits"],
        dataset.get("agreement", ()),
        dataset.get("agreement_array"),
        dataset.get("every_pattern", True),
    )
    species = _species(dataset.get("transforms", ()))
    labelled = labelled_frames(
        dataset.get("labelled", ()),
        purposes,
        LabelKeys.from_dict(dataset.get("keys")),
        stress=bool(dataset.get("stress", False)),
        split=Split(dataset.get("held_out", 0.0), dataset.get("part", "all")),
        species=species,
    )
    sources = [_made(source) for source in _sources(dataset.get("unlabelled", ()))]
    unlabelled = unlabelled_frames(
        [source for source in sources if source is not None], purposes, species
    )
    return SetCounts(name, len(labelled), len(unlabelled), _fits(labelled, purposes))


def _made(source: Any) -> Any:
    """A file's name as it is, agreement frames as they are made; None for what is not ours."""
    if not isinstance(source, Mapping):
        return source
    arguments = dict(source)
    return BulkFrames(**arguments) if arguments.pop("_target_").endswith("BulkFrames") else None


def _species(transforms: Any) -> Sequence[str] | None:
    """The elements that the models know; None where types are not elements."""
    for transform in transforms:
        names, symbols = (
            transform.get(key) for key in ("model_type_names", "chemical_species_to_atom_type_map")
        )
        if names is not None:
            return list(symbols) if isinstance(symbols, Mapping) else list(names)
    return None


def _fits(frames: list[Frame], purposes: Purposes) -> dict[str, int]:
    return {role: sum(frame.trains[role] for frame in frames) for role in purposes.fits}
