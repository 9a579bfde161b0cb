"""Experts whose kernel goes from the neighbour list to forces in one pass, on the CPU.

Each thread takes a share of the centres and adds forces into memory of its own, over the atoms that
its share reaches; the shares are summed in their order, so that a run repeats bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from duetto.kernels.cpu.expert import Workspace
from duetto.kernels.cpu.rows import add_narrowed
from duetto.potential.base import ListOfNeighbors
from duetto.potential.terms import ExpertWork

Array = NDArray[Any]

_FEWEST = 256
"""Centres that are worth a share of their own."""


@runtime_checkable
class OnePassKernel(Protocol):
    """A kernel that scatters forces itself; see `duetto.kernels.cpu.linear.CPULinear`."""

    def blocks(self, types: Array, centres: Array) -> tuple[Array, Array]:
        """Centres in the order in which they are evaluated, and where blocks begin."""

    def share(
        self, centres: Array, types: Array, first: Array, neighbor: Array, shift: Array
    ) -> Any:
        """Prepare centres of a neighbour list; None if it cannot."""

    def add_forces(
        self,
        work: Workspace,
        positions: Array,
        cell: Array,
        share: Any,
        weight: Array,
        energy: Array,
        forces: Array,
        virial: Array,
    ) -> None:
        """Energies, not weighted; weighted forces and virial are added."""


@dataclass
class OnePassPlan:
    """One expert's centres in shares.

    Attributes:
        job: the work at hand, of one group of terms.
        borders: share b holds places borders[b] … borders[b + 1] of `order`.
        order: (n,) int64, the job's centres in the order of evaluation.
        energies: (n,) float64, in the order of the job.
        virials: (shares, 1, 3, 3).
    """

    job: ExpertWork
    kernel: OnePassKernel
    order: Array
    borders: Array
    shares: list[Any]
    energies: Array
    virials: Array
    forces: list[Array]

    @classmethod
    def make(
        cls, kernel: OnePassKernel, job: ExpertWork, neighbors: ListOfNeighbors, threads: int
    ) -> OnePassPlan | None:
        """Divide the centres; None if the kernel cannot take them."""
        n = len(job.centres)
        order, _ = kernel.blocks(job.types[job.centres], np.arange(n))
        parts = max(1, min(threads, n // _FEWEST))
        borders = np.linspace(0, n, parts + 1).astype(np.int64)
        lists = neighbors.first, neighbors.neighbor, neighbors.shift
        shares = []
        for begin, end in pairwise(borders):
            share = kernel.share(job.centres[order[begin:end]], job.types, *lists)
            if share is None:
                return None
            shares.append(share)
        # torch's memory begins where a line of the cache does: no atom's row crosses one.
        sizes = [share.high - share.low for share in shares]
        forces = [torch.empty(size, 4, dtype=torch.float64).numpy() for size in sizes]
        virials = np.empty((parts, 1, 3, 3))
        return cls(job, kernel, order, borders, shares, np.empty(n), virials, forces)

    def run(self, work: Workspace, positions: Array, cell: Array, b: int) -> None:
        """Evaluate a share; all that it writes belongs to it alone.

        Args:
            work: scratch memory of this thread.
            positions: (A, 4) float64.
            cell: (3, 3) float64.
            b: number of the share.
        """
        places = self.order[self.borders[b] : self.borders[b + 1]]
        weight = self.job.coefficients[0][places]
        energy = np.empty(len(places))
        self.forces[b].fill(0.0)
        self.virials[b].fill(0.0)
        self.kernel.add_forces(
            work,
            positions,
            cell,
            self.shares[b],
            weight,
            energy,
            self.forces[b],
            self.virials[b, 0],
        )
        self.energies[places] = energy

    def add_forces(self, forces: Array) -> None:
        """Add all shares to the forces (A, 3), in their order."""
        for share, part in zip(self.shares, self.forces, strict=True):
            add_narrowed(part, share.low, forces)
