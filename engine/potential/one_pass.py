"""Experts whose kernel goes from the neighbour list to forces in one pass, on the CPU.

Each thread takes a share of the centres and adds forces into memory of its own, over the atoms that
its share reaches; the shares are summed in their order, so that a run repeats bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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

_MOST_TWICE = 1.75
"""Passes over a centre, in the mean, up to which they are cheaper than one evaluation that keeps
the gradient of every edge."""


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
        job: the centres, with the coefficients of one group of terms.
        group: the sums of this group and of those after it have these energies, see
            `OnePassPlans`.
        borders: share b holds places borders[b] … borders[b + 1] of `order`.
        order: (n,) int64, the job's centres in the order of evaluation.
        energies: (n,) float64, in the order of the job.
        virials: (shares, 3, 3).
    """

    job: ExpertWork
    group: int
    kernel: OnePassKernel
    order: Array
    borders: Array
    shares: list[Any]
    energies: Array
    virials: Array
    forces: list[Array]

    @classmethod
    def make(
        cls,
        kernel: OnePassKernel,
        job: ExpertWork,
        group: int,
        neighbors: ListOfNeighbors,
        threads: int,
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
        virials = np.empty((parts, 3, 3))
        return cls(job, group, kernel, order, borders, shares, np.empty(n), virials, forces)

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
            self.virials[b],
        )
        self.energies[places] = energy

    def add_to(self, energies: Array, forces: Array, virial: Array) -> None:
        """Add energies to (A,), and all shares, in their order, to forces (A, 3) and virial."""
        energies[self.job.centres] += self.job.coefficients[0] * self.energies
        virial += self.virials.sum(axis=0)
        for share, part in zip(self.shares, self.forces, strict=True):
            add_narrowed(part, share.low, forces)


@dataclass
class OnePassPlans:
    """One expert's centres for every group of terms, one pass for what a group adds.

    Sums that are wanted together share most of their centres or have none in common: those of a
    mixture and of LF everywhere, of weights now and at the next step. So pass g has the
    differences of coefficients c_g − c_(g−1), most of which are zero, and sum g is that of the
    passes 0 … g.

    Attributes:
        plans: the passes that have centres.
        places: (G, n) bool, which of the job's centres pass g evaluates.
    """

    plans: list[OnePassPlan]
    places: Array
    _coefficients: Array

    @classmethod
    def make(
        cls,
        kernel: OnePassKernel,
        job: ExpertWork,
        neighbors: ListOfNeighbors,
        threads: int,
        before: OnePassPlans | None = None,
    ) -> OnePassPlans | None:
        """Divide the centres; None if the kernel cannot take them.

        Args:
            kernel: of the expert.
            job: the work, whose coefficients may be others later, see `take`.
            neighbors: the list.
            threads: how many shares a pass has at most.
            before: plans of these centres in this list, whose passes serve on where their centres
                are the same.
        """
        added = _differences(job)
        places = _places(added)
        known = {}
        if before is not None:
            same = (places == before.places).all(axis=1)
            known = {plan.group: plan for plan in before.plans if same[plan.group]}
        plans = []
        for group in np.flatnonzero(places.any(axis=1)).tolist():
            part = _part(job, added, places, group)
            plan = known.get(group) or OnePassPlan.make(kernel, part, group, neighbors, threads)
            if plan is None:
                return None
            plan.job = part
            plans.append(plan)
        return cls(plans, places, job.coefficients)

    def take(self, job: ExpertWork) -> bool:
        """Go on with the coefficients of `job`; False if a pass would have other centres.

        More would do as well, but sums go by what centres are in a pass: kept from earlier steps,
        they would have another order than in a run that is resumed here.
        """
        if job.coefficients is self._coefficients:
            return True
        added = _differences(job)
        if not np.array_equal(_places(added), self.places):
            return False
        for plan in self.plans:
            plan.job = _part(job, added, self.places, plan.group)
        self._coefficients = job.coefficients
        return True


def worth_passes(job: ExpertWork) -> bool:
    """Whether passes are cheaper than keeping edges; by the coefficients of this moment alone."""
    if len(job.coefficients) == 1:
        return True  # one pass has every centre; asked in every inner step
    return bool(_places(_differences(job)).sum() <= _MOST_TWICE * len(job.centres))


def _places(added: Array) -> Array:
    """(G, n) bool, which centres each pass evaluates, from what its coefficients add (G, n)."""
    places: Array = added != 0.0
    places[0] |= ~places.any(axis=0)  # energies are wanted where nothing counts them, too
    return places


def _differences(job: ExpertWork) -> Array:
    """(G, n) what each group's coefficients have beyond those of the group before."""
    return np.diff(job.coefficients, axis=0, prepend=0.0)


def _part(job: ExpertWork, added: Array, places: Array, group: int) -> ExpertWork:
    """The centres and coefficients of one pass."""
    return replace(job, coefficients=added[group : group + 1]).of(np.flatnonzero(places[group]))
