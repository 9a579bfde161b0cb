"""HF as a correction Δ to LF while both are trained: E_i^HF = E_i^LF + Δ_i."""

from __future__ import annotations

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from duetto.cotrain.frames import select_frames

FORMS = ("whole", "correction")

_SUMMED = (
    AtomicDataDict.TOTAL_ENERGY_KEY,
    AtomicDataDict.PER_ATOM_ENERGY_KEY,
    AtomicDataDict.FORCE_KEY,
    AtomicDataDict.STRESS_KEY,
    AtomicDataDict.VIRIAL_KEY,
)


def corrected(
    lf: AtomicDataDict.Type, delta: AtomicDataDict.Type, keep: Tensor
) -> AtomicDataDict.Type:
    """HF's output: what LF and the correction say together.

    Args:
        lf: LF's output on a batch of B frames.
        delta: the correction's on some of them.
        keep: (B,) bool, which.
    """
    of_frames = (AtomicDataDict.BATCH_KEY, AtomicDataDict.NUM_NODES_KEY)
    parts = {key: lf[key] for key in (*_SUMMED, *of_frames) if key in lf}
    base = select_frames(parts, keep)
    # What LF does not say, as a frozen one its virial, nobody is to take from Δ alone.
    rest = {key: value for key, value in delta.items() if key not in _SUMMED}
    return rest | {key: base[key] + delta[key] for key in _SUMMED if key in delta and key in base}


def nothing_like(delta: AtomicDataDict.Type) -> AtomicDataDict.Type:
    """What a correction is compared with where LF is not there: zeros."""
    compared = (AtomicDataDict.PER_ATOM_ENERGY_KEY, AtomicDataDict.FORCE_KEY)
    return {key: torch.zeros_like(delta[key]) for key in compared}
