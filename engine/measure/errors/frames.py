"""Frames with what each expert, and the mixture, says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from tqdm import tqdm

from duetto.atoms.labels import (
    LabelKeys,
    Labels,
    check_frame,
    config_type,
    has_labels,
    labels_of,
    name_frame,
    read_frames,
)
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential

if TYPE_CHECKING:
    from duetto.partition.regions import Regions

Array = npt.NDArray[np.float64]
MIXTURE = "mixture"


@dataclass(frozen=True)
class Computed:
    """What an expert says of all atoms of a frame.

    Attributes:
        energies: (A,) eV, of the atoms.
        forces: (A, 3) eV/Å.
    """

    energies: Array
    forces: Array


@dataclass(frozen=True)
class EvaluatedFrame:
    """A frame, its labels, and what is computed.

    Attributes:
        atoms: the structure.
        name: its config_type.
        labels: None where the frame has none.
        weights: (A,) w of the partition; None without one.
        computed: by "hf", "lf", "mixture"; an expert that lacks a species of the frame is absent.
    """

    atoms: Atoms
    name: str
    labels: Labels | None
    weights: Array | None
    computed: Mapping[str, Computed]


class Evaluator:
    """Both experts of a pair, in float64 on the CPU, on one structure after another."""

    def __init__(self, pair: ExpertPair):
        self.pair = pair
        self._backend: object = "auto"

    def expert(self, role: str, atoms: Atoms) -> Computed:
        """One expert alone on all atoms."""
        return self.mixture(atoms, np.full(len(atoms), 1.0 if role == "hf" else 0.0))

    def mixture(self, atoms: Atoms, weights: Array) -> Computed:
        """Both experts with the weights (A,) of HF."""
        potential = Potential(
            self.pair,
            list(atoms.symbols),
            weights,
            atoms.pbc,
            dtype="float64",
            backend=self._backend,  # type: ignore[arg-type]
            skin=0.0,
        )
        self._backend = potential.backend  # the experts are compiled once
        found = potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
        return Computed(found.energies.numpy(), found.forces.numpy())


def evaluated_frames(
    pair: ExpertPair,
    paths: Iterable[str | Path],
    keys: LabelKeys | None = None,
    regions: Regions | None = None,
) -> list[EvaluatedFrame]:
    """Read the frames of files and compute each with both experts, and as the mixture.

    Args:
        pair: the experts.
        paths: files that ASE reads, with labels or without.
        keys: what the files call the labels.
        regions: the partition of the mixture; None: no mixture.

    Raises:
        InputError: a file, a frame or a label cannot be used, or a frame has a species that no
            expert knows.
    """
    keys = LabelKeys() if keys is None else keys
    read = [
        (name_frame(path, k, atoms), config_type(atoms, path, keys), atoms)
        for path in paths
        for k, atoms in enumerate(read_frames(path))
    ]
    for where, _, atoms in read:
        check_frame(atoms, where, list(pair.species))
    evaluator = Evaluator(pair)
    found = []
    for where, name, atoms in tqdm(read, unit="frame", delay=2.0, disable=None):
        labels = labels_of(atoms, where, keys) if has_labels(atoms, keys) else None
        weights = None if regions is None else _weights(regions, atoms, where)
        found.append(
            EvaluatedFrame(atoms, name, labels, weights, _compute(evaluator, atoms, weights))
        )
    return found


def _weights(regions: Regions, atoms: Atoms, where: str) -> Array:
    try:
        return regions.weights(atoms)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _compute(evaluator: Evaluator, atoms: Atoms, weights: Array | None) -> dict[str, Computed]:
    known = {
        role: set(atoms.symbols) <= set(expert.species)
        for role, expert in evaluator.pair.experts.items()
    }
    computed = {role: evaluator.expert(role, atoms) for role in known if known[role]}
    if weights is not None:
        computed[MIXTURE] = evaluator.mixture(atoms, weights)
    return computed
