"""Any backend, and beside it experts that are not strictly local.

The strictly local experts run as they would alone. The others get a neighbour list of their own,
of all atoms, for what they compute depends on atoms that no local expert may see.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Edges
from duetto.experts.region import NonlocalExpert, RegionEnergies, Surroundings
from duetto.potential.base import Backend, Evaluation
from duetto.potential.neighbors import NeighborList
from duetto.potential.terms import ExpertWork

Array = NDArray[Any]


@dataclass
class _Use:
    """What is known of an expert's last evaluation.

    Attributes:
        neighbors: its list.
        built_for: the list of the potential that goes with it.
        built: how often that had been built.
        job: what was asked for.
        share: how many atoms and chunks that took.
        seconds: how long it took.
    """

    neighbors: NeighborList | None = None
    built_for: Any = None
    built: int = -1
    job: ExpertWork | None = None
    share: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class RegionBackend:
    """A backend for the strictly local experts, with other experts beside it.

    It offers what every backend must and nothing else of the local one's: steps that are taken on
    a device would leave the other experts out.
    """

    def __init__(self, local: Backend, experts: Mapping[str, NonlocalExpert]) -> None:
        """Join them.

        Args:
            local: of all the experts that are strictly local.
            experts: by role, the others, on their device and in their precision.
        """
        self.local = local
        self.name = local.name
        self.experts = experts
        self._uses = {role: _Use() for role in experts}

    def new_list(self, work: Sequence[ExpertWork], ranges: Array, pbc: Array, skin: float) -> Any:
        """See `duetto.potential.base.Backend`."""
        return self.local.new_list(self._local(work), ranges, pbc, skin)

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.potential.base.Backend`.

        Raises:
            InputError: the expert's energies are no functions of one centre's edges.
        """
        if role in self.experts:
            raise InputError(
                f"expert {role} ({self.experts[role].kind}) sees beyond the neighbours of an atom "
                "and cannot be evaluated from edges alone; use duetto run or the ASE calculator"
            )
        return self.local.site_energies(role, edges)

    def evaluate(
        self, positions: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> list[Evaluation]:
        """See `duetto.potential.base.Backend`."""
        A, G = len(positions), len(work[0].coefficients) if work else 1
        local = self._local(work)
        sums = self.local.evaluate(positions, cell, neighbors, local) if local else []
        sums = sums or [_nothing(A, positions.device) for _ in range(G)]
        for job in work:
            if job.role in self.experts:
                found = self._evaluate(job, positions, cell, neighbors)
                sums = [_added(sums[g], found, job, g) for g in range(G)]
        return sums

    def shares(self) -> list[tuple[str, dict[str, Any]]]:
        """Of each expert here that has been evaluated: its role and what that took.

        That is how many `centres`, `atoms` and `chunks`, and the `seconds` of the last evaluation.
        """
        return [
            (role, {"centres": len(use.job.centres), **use.share, "seconds": use.seconds})
            for role, use in self._uses.items()
            if use.job is not None
        ]

    def _local(self, work: Sequence[ExpertWork]) -> list[ExpertWork]:
        return [job for job in work if job.role not in self.experts]

    def _evaluate(
        self, job: ExpertWork, positions: Tensor, cell: Tensor, neighbors: Any
    ) -> RegionEnergies:
        began = time.perf_counter()
        s = self._surroundings(job, positions, cell, neighbors)
        found = self.experts[job.role].region_energies(s, job.centres, job.coefficients)
        use = self._uses[job.role]
        use.seconds = time.perf_counter() - began
        use.job, use.share = job, self.experts[job.role].share_of(s, job.centres)
        return found

    def _surroundings(
        self, job: ExpertWork, positions: Tensor, cell: Tensor, neighbors: Any
    ) -> Surroundings:
        """The structure as it is, with a list that is built when and where the potential's is.

        So that a run that is resumed, with the potential's list as it was, sums in the same order.
        """
        x, box = positions.detach().cpu(), cell.detach().cpu()
        use = self._uses[job.role]
        present = use.built_for is neighbors and use.built == neighbors.n_rebuilds
        if use.neighbors is None or not present:
            reach = np.full(len(x), self.experts[job.role].largest_cutoff)
            use.neighbors = NeighborList(reach, neighbors.pbc, neighbors.skin)
            reference = neighbors.reference
            at = x if reference is None else torch.as_tensor(reference).cpu()
            use.neighbors.rebuild(at.numpy(), box.numpy())
            use.built_for, use.built = neighbors, neighbors.n_rebuilds
        known = use.neighbors
        return Surroundings(x, box, known.pbc, job.types, known.first, known.neighbor, known.shift)


def _nothing(n_atoms: int, device: torch.device) -> Evaluation:
    zeros = torch.zeros(n_atoms, 3, dtype=torch.float64, device=device)
    return Evaluation(0.0, zeros[:, 0].clone(), zeros, zeros.new_zeros(3, 3), {})


def _added(sums: Evaluation, found: RegionEnergies, job: ExpertWork, group: int) -> Evaluation:
    """One group's sums with what an expert adds to them."""
    device = sums.forces.device
    centres = torch.from_numpy(job.centres).to(device)
    own = found.energies.to(device)
    mixed = sums.energies.clone()
    mixed[centres] += torch.from_numpy(job.coefficients[group]).to(device) * own
    sites = torch.full_like(mixed, torch.nan)
    sites[centres] = own
    return replace(
        sums,
        energy=float(mixed.sum()),
        energies=mixed,
        forces=sums.forces + found.forces[group].to(device),
        virial=sums.virial + found.virials[group].to(device),
        site_energies={**sums.site_energies, job.role: sites},
    )
