"""An atom and what is around it, for messages."""

from __future__ import annotations

import numpy as np
import torch
from ase.geometry import get_distances

from duetto.md.state import State


def describe_atom(state: State, index: int, *, neighbors: int = 3) -> str:
    """Return `atom 7 (C) at (x, y, z) Å, w = 1, nearest: Pt 3 at 1.85 Å, …`, atoms from 0."""
    positions = state.positions.cpu().numpy()
    x, y, z = positions[index]
    text = (
        f"atom {index} ({state.species[index]}) at ({x:.3f}, {y:.3f}, {z:.3f}) Å, "
        f"w = {float(state.weights[index]):g}"
    )
    if not np.isfinite(positions).all() or state.n_atoms == 1:
        return text
    _, distances = get_distances(
        positions[index], positions, cell=state.cell.cpu().numpy(), pbc=state.pbc
    )
    order = [int(other) for other in np.argsort(distances[0]) if other != index][:neighbors]
    near = ", ".join(
        f"{state.species[other]} {other} at {distances[0][other]:.2f} Å" for other in order
    )
    return f"{text}, nearest: {near}"


def worst_atom(state: State) -> int:
    """Return the first atom whose force or energy is not finite, else that of largest force."""
    bad = ~(torch.isfinite(state.forces).all(dim=1) & torch.isfinite(state.energies))
    if bool(bad.any()):
        return int(bad.to(torch.uint8).argmax())
    return int(state.forces.square().sum(dim=1).argmax())


def hottest_atom(state: State) -> int:
    """Return the atom of largest kinetic energy."""
    return int((state.masses * state.velocities.square().sum(dim=1)).argmax())
