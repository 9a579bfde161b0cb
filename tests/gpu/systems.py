"""Structures, partitions and pairs of full size for tests on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms

from duetto.experts.allegro.architecture import ZBLTerm
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.measure.bench.architectures import architecture_named
from duetto.measure.bench.systems import bulk_platinum, platinum_with_co
from duetto.potential.mixture import Potential


def random_pair(species: Sequence[str], hf: str = "hf64", lf: str = "lf32") -> ExpertPair:
    """Experts of full width with random weights, kept from collapsing by a ZBL term."""
    experts = []
    for seed, (name, r_max) in enumerate(((hf, 5.0), (lf, 4.5))):
        architecture = replace(architecture_named(name, r_max, species), zbl=ZBLTerm(6.0))
        experts.append(AllegroExpert(architecture, random_weights(architecture, seed)))
    return ExpertPair(*experts)


def system(name: str, n_atoms: int) -> tuple[Atoms, ExpertPair]:
    """Bulk platinum or a covered slab, and a pair for it."""
    if name == "pt":
        return bulk_platinum(n_atoms), random_pair(("Pt",))
    return platinum_with_co(n_atoms), random_pair(("Pt", "C", "O"))


def layered(atoms: Atoms, blend: bool = True) -> np.ndarray:
    """HF on top, LF below; with `blend`, a third of the height mixes them."""
    z = atoms.positions[:, 2]
    height = (z - z.min()) / np.ptp(z)
    return np.clip(3 * height - 1, 0, 1) if blend else (height > 0.6).astype(float)


def on_gpu(atoms: Atoms, pair: ExpertPair, w: np.ndarray, **options: object) -> Potential:
    """A potential on the triton backend."""
    settings = {"device": "cuda", "backend": "triton", "precision": "fp32"} | options
    return Potential(pair, list(atoms.symbols), w, atoms.pbc, **settings)


def in_float64(atoms: Atoms, pair: ExpertPair, w: np.ndarray) -> Potential:
    """The same on the processor in float64."""
    return Potential(pair, list(atoms.symbols), w, atoms.pbc, device="cpu", dtype="float64")


def tensors(atoms: Atoms, device: str = "cuda") -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and cell."""
    return (
        torch.tensor(atoms.positions, device=device),
        torch.tensor(atoms.cell.array, device=device),
    )
