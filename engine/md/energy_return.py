"""Returning locally what changed weights have cost: kinetic energy pays for it, on the spot.

A change of the weight of atom a at standing atoms changes the potential energy by ε. The velocities
of the atoms around a are then scaled about the mean of their motion,

    v_j ← V + s (v_j − V),   V = Σ m_j v_j / Σ m_j,   s² = 1 − ε / K,   K = Σ m_j |v_j − V|² / 2,

so that the sum of kinetic and potential energy and the momentum stay what they were, as in APIP
(Immel, Drautz, Sutmann, J. Chem. Phys. 162, 114119 (2025)). Angular momentum does not, and the
dynamics is no longer that of one energy function: it is not reversible in time.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from duetto.atoms.periodic import Indices, pairs_within
from duetto.errors import RunStopped
from duetto.md.state import ACCELERATION, State
from duetto.partition.ledger import Due


def with_energy_returned(state: State, due: Due, within: float) -> State:
    """The same state with velocities that have paid for changed weights, atom after atom.

    Args:
        state: at the positions at which the weights were changed.
        due: what the changes have cost.
        within: Å around each atom in which velocities are scaled; fixed atoms take no part.

    Raises:
        RunStopped: there is not as much kinetic energy around an atom.
    """
    velocities = state.velocities.cpu().numpy().copy()
    masses = state.masses.cpu().numpy()
    owed = due.energies != 0.0
    for atom, energy, members in zip(
        due.atoms[owed], due.energies[owed], _around(state, due.atoms[owed], within), strict=True
    ):
        m, v = masses[members, None], velocities[members]
        mean = (m * v).sum(axis=0) / max(m.sum(), np.finfo(float).tiny)
        kinetic = float((m * (v - mean) ** 2).sum()) / (2.0 * ACCELERATION)
        if not kinetic > max(energy, 0.0):
            raise RunStopped(
                f"step {state.step}: the changed weight of atom {atom} costs {energy:.3g} eV, and "
                f"the {len(members)} atoms within {within:g} Å have {kinetic:.3g} eV of kinetic "
                "energy to return it; raise regions.update.return.within or regions.update.ramp, "
                "or leave return out"
            )
        velocities[members] = mean + math.sqrt(1.0 - energy / kinetic) * (v - mean)
    return replace(state, velocities=torch.from_numpy(velocities).to(state.velocities))


def _around(state: State, atoms: Indices, within: float) -> list[Indices]:
    """For each of `atoms` those that move up to `within` Å from it, itself among them, in order."""
    x = state.positions.cpu().numpy()
    moving = np.arange(len(x))
    if state.fixed is not None:
        moving = np.flatnonzero(~state.fixed.cpu().numpy())
    found = pairs_within(x[atoms], x[moving], state.cell.cpu().numpy(), np.array(state.pbc), within)
    # Once each, though several of its images may be near.
    rows = np.unique(np.column_stack([found.query, moving[found.point]]), axis=0)
    border = np.searchsorted(rows[:, 0], np.arange(1, len(atoms)))
    return np.split(rows[:, 1], border)
