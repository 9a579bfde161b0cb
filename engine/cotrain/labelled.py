"""Frames for co-training as files hold them: labels, what each trains, where experts must agree.

Needs neither nequip nor torch, so that every file can be looked at before a training starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from duetto.atoms.labels import (
    LabelKeys,
    Labels,
    check_frame,
    config_type,
    labels_of,
    name_frame,
    read_frames,
)
from duetto.cotrain.bulk_frames import BulkFrames
from duetto.errors import InputError

EVERYTHING = "all"
PARTS = ("all", "train", "held_out")


@dataclass(frozen=True)
class Frame:
    """A frame and what it is for.

    Attributes:
        atoms: the structure.
        where: how messages call it.
        labels: None where a frame has none, and is there for agreement alone.
        trains: by role, whether its labels train that expert.
        shared: (A,) 1 where an atom counts as shared bulk, else 0.
    """

    atoms: Atoms
    where: str
    labels: Labels | None
    trains: Mapping[str, bool]
    shared: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Purposes:
    """Which frames are for what.

    Attributes:
        fits: for each expert, the `config_type` patterns of the frames whose labels train it, or
            `all`.
        agreement: patterns of the labelled frames whose atoms all count as shared bulk.
        agreement_array: name of a per-atom array, nonzero where an atom counts as shared bulk.
        every_pattern: whether a pattern that fits no frame is a mistake.
    """

    fits: Mapping[str, str | Sequence[str]]
    agreement: str | Sequence[str] = ()
    agreement_array: str | None = None
    every_pattern: bool = True

    def matches(self, purpose: str, patterns: str | Sequence[str], names: list[str]) -> list[bool]:
        """Which of the frames' config_types fit any of the patterns."""
        if patterns == EVERYTHING:
            return [True] * len(names)
        wanted = as_list(patterns)
        for pattern in wanted if names and self.every_pattern else ():
            if not any(fnmatchcase(name, pattern) for name in names):
                known = ", ".join(sorted(set(names)))
                raise InputError(f"{purpose}: no config_type fits {pattern!r}; there are: {known}")
        return [any(fnmatchcase(name, pattern) for pattern in wanted) for name in names]

    def shared(self, atoms: Atoms, whole: bool) -> npt.NDArray[np.int64]:
        """(A,) 1 where an atom counts as shared bulk: all of them, or those marked."""
        marked = np.full(len(atoms), int(whole))
        if self.agreement_array is not None and self.agreement_array in atoms.arrays:
            marked |= np.asarray(atoms.arrays[self.agreement_array] != 0).astype(marked.dtype)
        return marked


@dataclass(frozen=True)
class Split:
    """A division of labelled files into a training set and a held-out one.

    Attributes:
        held_out: the share of the frames of each kind in a file that is held out. It is the last
            ones: neighbours in a trajectory are too alike to test each other.
        part: `train`, `held_out`, or `all`.

    Raises:
        InputError: a share outside [0, 1), or an unknown part.
    """

    held_out: float = 0.0
    part: str = "all"

    def __post_init__(self) -> None:
        """Check both."""
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out: {self.held_out} is not a share from 0 to below 1")
        if self.part not in PARTS:
            raise InputError(f"part: got {self.part}; allowed: {', '.join(PARTS)}")

    def chosen(self, names: Sequence[str]) -> list[int]:
        """Which frames of a file are of this part, given the names of their kinds."""
        if self.part == "all":
            return list(range(len(names)))
        held: set[int] = set()
        for name in dict.fromkeys(names):
            members = [k for k, other in enumerate(names) if other == name]
            count = round(self.held_out * len(members))
            held.update(members[len(members) - count :])
        return [k for k in range(len(names)) if (k in held) == (self.part == "held_out")]


def labelled_frames(
    paths: str | Sequence[str],
    purposes: Purposes,
    keys: LabelKeys,
    *,
    stress: bool = False,
    split: Split | None = None,
    species: Sequence[str] | None = None,
) -> list[Frame]:
    """Read labelled frames and check every one.

    Args:
        paths: files that ASE reads.
        purposes: which frames train which expert.
        keys: what the files call the labels.
        stress: whether frames that train an expert must have a stress.
        split: which part of each file; all of it by default.
        species: the elements that the experts know; None does not check.

    Raises:
        InputError: a file is missing or unreadable; a frame, an atom or a label cannot be used; a
            pattern fits no frame.
    """
    split = Split() if split is None else split
    read: list[tuple[str, str, Atoms]] = []
    for path in as_list(paths):
        frames = _read_once(path)
        names = [config_type(atoms, path, keys) for atoms in frames]
        read += [(name_frame(path, k, frames[k]), names[k], frames[k]) for k in split.chosen(names)]
    names = [name for _, name, _ in read]
    trains = {
        role: purposes.matches(role, patterns, names) for role, patterns in purposes.fits.items()
    }
    shared = purposes.matches("agreement", purposes.agreement, names)
    found = []
    for k, (where, _, atoms) in enumerate(read):
        check_frame(atoms, where, species)
        fits = {role: trains[role][k] for role in trains}
        labels = labels_of(atoms, where, keys, stress=stress and any(fits.values()))
        found.append(Frame(atoms, where, labels, fits, purposes.shared(atoms, shared[k])))
    return found


def unlabelled_frames(
    sources: Any, purposes: Purposes, species: Sequence[str] | None = None
) -> list[Frame]:
    """Agreement frames from files, or from iterables of `ase.Atoms` such as `BulkFrames`.

    Raises:
        InputError: a file is missing or unreadable, or a frame cannot be used.
    """
    untrained = dict.fromkeys(purposes.fits, False)
    found = []
    for source in as_list(sources):
        frames: Iterable[Atoms] = _read_once(source) if isinstance(source, str) else source
        called = source if isinstance(source, str) else type(source).__name__
        for k, atoms in enumerate(frames):
            where = name_frame(called, k, atoms)
            check_frame(atoms, where, species)
            found.append(Frame(atoms, where, None, untrained, purposes.shared(atoms, True)))
    return found


def unlabelled_per_batch(batch_size: int, share: float) -> int:
    """Unlabelled frames in a batch: a rounded share that leaves one labelled frame at least."""
    return min(round(batch_size * share), batch_size - 1)


def as_list(value: Any) -> list[Any]:
    """A list of one, or of all."""
    return [value] if isinstance(value, (str, BulkFrames)) else list(value)


def _read_once(path: str) -> tuple[Atoms, ...]:
    """The frames of a file; the same file is not read twice as long as it does not change."""
    try:
        status = os.stat(path)
    except OSError:
        return tuple(read_frames(path))  # says what is wrong
    return _read(str(Path(path)), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _read(path: str, _modified: int, _size: int) -> tuple[Atoms, ...]:
    return tuple(read_frames(path))
