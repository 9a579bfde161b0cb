"""Atoms of a state that stand out, for messages."""

from __future__ import annotations

import numpy as np
import torch

from duetto.atoms.describe import name_atom, surroundings
from duetto.md.state import State


def describe_atom(state: State, index: int) -> str:
    """Return `atom 7 (C, w = 1) at (x, y, z) Å, nearest: Pt 3 at 1.85 Å, …`, atoms from 0."""
    positions = state.positions.cpu().numpy()
    weight = float(state.weights[index])
    text = name_atom(index, state.species[index], positions[index], weight)
    if not np.isfinite(positions).all() or state.n_atoms == 1:
        return text
    cell, pbc = state.cell.cpu().numpy(), np.array(state.pbc)
    return f"{text}, nearest: {surroundings(index, state.species, positions, cell, pbc)}"


def worst_atom(state: State) -> int:
    """Return the first atom whose force or energy is not finite, else that of largest force."""
    bad = ~(torch.isfinite(state.forces).all(dim=1) & torch.isfinite(state.energies))
    if bool(bad.any()):
        return int(bad.to(torch.uint8).argmax())
    return int(state.forces.square().sum(dim=1).argmax())


def hottest_atom(state: State) -> int:
    """Return the atom of largest kinetic energy."""
    return int((state.masses * state.velocities.square().sum(dim=1)).argmax())
