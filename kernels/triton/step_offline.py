"""Compiles the kernels of a step that are not the experts', for a chip that need not be there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from duetto.kernels.triton.dynamics import Dynamics, Thermostat
from duetto.kernels.triton.following import SeedsByAtom
from duetto.kernels.triton.mixture import Mixture
from duetto.kernels.triton.neighbor_list import DeviceNeighborList
from duetto.kernels.triton.offline import Compilation, compiling_for

CELL_CAPACITIES = (16, 32, 64)
"""Atoms that a search cell has room for: at first, and after growing where atoms lie dense."""


def compile_step(
    capability: int, *, cell_capacities: Sequence[int] = CELL_CAPACITIES, far: bool = False
) -> list[Compilation]:
    """Compile all kernels of a step but the experts'.

    Those are the list's, the forces', the integrator's and thermostat's, and those of weights that
    follow atoms.

    Args:
        capability: of the chip.
        cell_capacities: see `DeviceNeighborList`; powers of two.
        far: for atoms that are more than 2²⁰ cells apart.
    """
    with compiling_for(capability) as compiled:
        for capacity in cell_capacities:
            for bath in (None, Thermostat(0.025, 0.01, seed=1)):
                _launch_step(capacity, far, bath)
    return compiled


def _launch_step(cell_capacity: int, far: bool, bath: Thermostat | None) -> None:
    """All launches of a step and of a rebuild, with sizes that mean nothing."""
    n_atoms = 50
    neighbors = DeviceNeighborList(
        torch.zeros(2, n_atoms, dtype=torch.int32),
        torch.full((2, 1, 1), 5.0, dtype=torch.float64),
        (True, True, True),
        skin=0.5,
    )
    neighbors._cell_capacity, neighbors._far = cell_capacity, far
    mixture = Mixture(neighbors, [_Nothing(), _Nothing()])
    mixture.set_weights(torch.full((n_atoms,), 0.5))
    positions, masses = torch.zeros(n_atoms, 3, dtype=torch.float64), torch.ones(n_atoms)
    cell = torch.eye(3, dtype=torch.float64) * 20.0
    run = Dynamics(mixture, positions, positions, cell, masses.double(), 1.0, thermostat=bath)
    neighbors.check_displacements(positions)
    neighbors.rebuild(positions)
    run._step()
    one, vector = np.zeros(1, dtype=np.int64), np.zeros((1, 3))
    following = SeedsByAtom.of(one, one, vector, 1.0, 1.0, "cpu")
    q = following.follow(positions, positions[:, 0])
    following.pull(positions, q, q, neighbors.flags)


class _Nothing:
    """An expert without kernels."""

    pack_size = 1

    def evaluate(self, edges: object, index: int, energies: Tensor, gradients: Tensor) -> None:
        """See `duetto.kernels.triton.mixture.DeviceExpert`."""
