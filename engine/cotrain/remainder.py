"""What a given low-fidelity expert leaves of labels: those of a correction Δ = HF − LF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms

from duetto.atoms.labels import Labels
from duetto.cotrain.labelled import Frame
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential


def beyond_lf(frames: Sequence[Frame], path: str) -> tuple[list[Frame], str]:
    """The frames with their labels less LF's energies, forces and stresses, in float64.

    Args:
        frames: those without labels stay as they are.
        path: pair file with the LF.

    Returns:
        The frames, and the content hash of a pair of this LF alone.

    Raises:
        InputError: the file cannot be read or holds no LF, or a frame has a species that it does
            not know.
    """
    lf = ExpertPair.load(path).lf
    if lf is None:
        raise InputError(f"{path}: holds no expert lf, which labels are to be taken less")
    pair, backend = ExpertPair(None, lf), None
    found = []
    for frame in frames:
        if frame.labels is None:
            found.append(frame)
            continue
        unknown = sorted(set(frame.atoms.symbols) - set(lf.species))
        if unknown:
            raise InputError(f"{frame.where}: lf of {path} does not know {', '.join(unknown)}")
        evaluation, backend = _evaluate(pair, frame.atoms, backend)
        found.append(replace(frame, labels=_less(frame.labels, evaluation, frame.atoms)))
    return found, pair.content_hash


def _evaluate(pair: ExpertPair, atoms: Atoms, backend: Any) -> tuple[Evaluation, Any]:
    """LF on all atoms, and the backend, in which it is compiled once."""
    potential = Potential(
        pair,
        list(atoms.symbols),
        [0.0] * len(atoms),
        atoms.pbc,
        dtype="float64",
        backend="auto" if backend is None else backend,
        skin=0.0,
    )
    cell = torch.tensor(atoms.cell.array)
    return potential.evaluate(torch.tensor(atoms.positions), cell), potential.backend


def _less(labels: Labels, lf: Evaluation, atoms: Atoms) -> Labels:
    stress = labels.stress
    if stress is not None:
        # The virial is −∂E/∂ε.
        stress = stress + lf.virial.numpy() / atoms.get_volume()
    return Labels(labels.energy - lf.energy, labels.forces - lf.forces.numpy(), stress)
