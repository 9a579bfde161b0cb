"""Frames on disk: one small file per trajectory while sampling, a few compressed ones at the end.

A trajectory is finished when its record, written last, exists: an interrupted run repeats at most
one trajectory, and gives the same frames because each has its own seed.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from duetto.files import atomic_write
from ptco.families import Family
from ptco.sampling import Sampler

LARGEST_FORCE = 15.0  # eV/Å, of one component: frames beyond are dropped
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Trajectory:
    """The `index`-th trajectory of a family."""

    family: Family
    index: int
    frames: int

    @property
    def name(self) -> str:
        """Its name in file names and in every frame's `trajectory` key."""
        return f"{self.family.name}-{self.index:03d}"

    @property
    def split(self) -> str:
        """train, val or test: of every ten trajectories of a family eight, one and one."""
        if self.family.target != "reference":
            return self.family.target
        return {1: "val", 2: "test"}.get(self.index % 10, "train")

    def rng(self, seed: int) -> np.random.Generator:
        """A generator of its own, independent of the order in which trajectories are made."""
        return np.random.default_rng([seed, zlib.crc32(self.family.name.encode()), self.index])


def plan(families: tuple[Family, ...], scale: float) -> list[Trajectory]:
    """All trajectories, families interleaved so that every part of the list covers all of them.

    `scale` multiplies the number of trajectories (at least three, so that every split is filled)
    and, below one, the number of frames in each.
    """
    planned = []
    for family in families:
        number = max(3 if family.target == "reference" else 1, round(family.trajectories * scale))
        frames = max(1, round(family.frames * min(1.0, scale)))
        planned += [
            ((index + 0.5) / number, Trajectory(family, index, frames)) for index in range(number)
        ]
    return [trajectory for _, trajectory in sorted(planned, key=lambda pair: pair[0])]


def make(trajectory: Trajectory, sampler: Sampler, seed: int, folder: Path) -> dict:
    """Sample one trajectory into `folder` unless it is already there; return its record."""
    record_path = folder / f"{trajectory.name}.json"
    if record_path.exists():
        return json.loads(record_path.read_text())
    start = time.perf_counter()
    kept, dropped = [], 0
    for frame in trajectory.family.sample(sampler, trajectory.rng(seed), trajectory.frames):
        if frame.calc is not None and not _acceptable(frame):
            dropped += 1
            continue
        frame.info = {"config_type": trajectory.family.name, "trajectory": trajectory.name}
        kept.append(frame)
    if kept:
        atomic_write(folder / f"{trajectory.name}.extxyz", as_extxyz(kept))
    record = {
        "frames": len(kept),
        "dropped": dropped,
        "seconds": round(time.perf_counter() - start, 2),
    }
    atomic_write(record_path, json.dumps(record))
    return record


def _acceptable(frame: Atoms) -> bool:
    forces = frame.get_forces()
    return bool(np.isfinite(forces).all() and np.abs(forces).max() <= LARGEST_FORCE)


def finished(trajectories: list[Trajectory], folder: Path) -> Iterator[tuple[Trajectory, dict]]:
    """The trajectories that are complete on disk, with their records."""
    for trajectory in trajectories:
        path = folder / f"{trajectory.name}.json"
        if path.exists():
            yield trajectory, json.loads(path.read_text())


def collect(trajectories: list[Trajectory], folder: Path) -> dict[str, list[Atoms]]:
    """Finished frames by split, in the order of families and trajectories."""
    collected: dict[str, list[Atoms]] = {}
    order = sorted(finished(trajectories, folder), key=lambda pair: pair[0].name)
    for trajectory, record in order:
        if record["frames"]:
            frames = ase.io.read(folder / f"{trajectory.name}.extxyz", index=":")
            collected.setdefault(trajectory.split, []).extend(frames)
    return collected


def as_extxyz(frames: list[Atoms]) -> str:
    """The extended XYZ text of some frames."""
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


def write_compressed(path: Path, frames: list[Atoms]) -> None:
    """Write `.extxyz.gz` whose bytes depend on the frames alone."""
    atomic_write(path, gzip.compress(as_extxyz(frames).encode(), compresslevel=9, mtime=0))
