"""Finished runs of a validation, kept so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from duetto.environment import package_versions
from duetto.files import atomic_write
from duetto.validate.case import Case
from duetto.validate.statistics import Samples
from duetto.validate.subject import Array

FOLDER = "runs"
"""In the validation's output folder."""


class Run(NamedTuple):
    """A run at constant energy.

    `drift`, meV/atom/ps; `time_fs` and `conserved_ev` (S,), the energy whose slope that is, at even
    distances; `positions` and `forces` (K, A, 3) of snapshots at even distances, Å and eV/Å;
    `samples`, all that is kept for distributions and spectra.
    """

    drift: float
    time_fs: Array
    conserved_ev: Array
    positions: Array
    forces: Array
    samples: Samples


def key_of(case: Case, weights: Array, seed: int, who: str) -> str:
    """A name that changes with all that the run depends on, the packages' versions included."""
    settings = case.config.dynamics.model_dump()
    words = [case.subject.pair.content_hash, settings, seed, who, package_versions()]
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    atoms = case.structure
    for array in (weights, atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{who}-{seed}-{digest.hexdigest()[:16]}"


def kept(folder: Path, key: str) -> Run | None:
    """The run of this key, None if it has not been finished here."""
    try:
        with np.load(folder / FOLDER / f"{key}.npz", allow_pickle=False) as found:
            held = {name: found[name] for name in found.files}
        samples = Samples(
            float(held["every_fs"]), held["sampled"], held["velocities"], held["temperature_k"]
        )
        energies = held["time_fs"], held["conserved_ev"]
        return Run(float(held["drift"]), *energies, held["positions"], held["forces"], samples)
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError):
        return None  # a damaged file, or one of before energies were kept, is computed again


def keep(folder: Path, key: str, run: Run) -> None:
    """Write it, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        drift=run.drift,
        time_fs=run.time_fs,
        conserved_ev=run.conserved_ev,
        positions=run.positions,
        forces=run.forces,
        every_fs=run.samples.every_fs,
        sampled=run.samples.positions,
        velocities=run.samples.velocities,
        temperature_k=run.samples.temperature_k,
    )
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    atomic_write(folder / FOLDER / f"{key}.npz", buffer.getvalue())
