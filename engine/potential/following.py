"""The mixture with weights that follow some of its atoms.

    E(R) = Σ_i [w_i(R) E_i^HF(R) + (1 − w_i(R)) E_i^LF(R)]

    w_i(R) = 1 − (1 − w_i^static) Π_s [1 − f(|r_i − r_s|)]

over the seeds s and their periodic images, f falling from 1 at `core` to 0 at `core + blend` with
two continuous derivatives. The forces have one part more than those of fixed weights,
−Σ_i (E_i^HF − E_i^LF) ∂w_i/∂R, which lives in the blend, where both energies are at hand. Energy
and momentum are conserved, whatever the experts' difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.kernels.cpu.following import follow_seeds, pull_on_seeds
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential, with_known_centres
from duetto.potential.modes import in_plain_torch
from duetto.potential.neighbors import NeighborList
from duetto.potential.terms import Term, checked_weights, mixture_terms

Array = NDArray[Any]


@dataclass(frozen=True)
class Following:
    """Which atoms are followed, and how far around them.

    Attributes:
        seeds: (S,) int64, indices.
        core: Å around a seed in which w = 1.
        blend: Å further out over which w falls to 0.
    """

    seeds: NDArray[np.int64]
    core: float
    blend: float


class FollowingPotential(Potential):
    """A potential whose weights follow seeds.

    Attributes:
        following: what is followed.
        static: (A,) float64, the weights that do not move: w is never below them.
        weights: (A,) float64, w at the positions evaluated last; before, `static`.
    """

    def __init__(self, *args: Any, following: Following, **settings: Any) -> None:
        """Prepare as `Potential`; its weights are the static ones.

        Raises:
            InputError: as `Potential`; the pair lacks an expert, or the backend is triton.
        """
        self.following = following
        self._seed_list: NeighborList | None = None
        self._besides: tuple[Sequence[Term], ...] = ()  # sums evaluated beside the mixture
        super().__init__(*args, **settings)
        if self.backend.name == "triton":
            raise InputError(
                "regions.follow: backend triton has no weights that move; use device: cpu, or "
                "backend: reference on cuda"
            )
        for role in ("hf", "lf"):
            if role not in self.pair.experts:
                raise InputError(f"regions.follow: needs both experts, and the pair lacks {role}")

    def set_weights(self, weights: ArrayLike, active: Any = None, ahead: Any = None) -> None:
        """Change the weights that do not move; the list is built anew at the next evaluation."""
        self.static = checked_weights(weights, len(self.species))
        self.static[self.following.seeds] = 1.0
        super().set_weights(self.static)
        self.neighbor_list = self._new_list([], np.zeros(len(self.species)), self._skin)

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the lists of neighbours, for all centres that may gain a weight in their time.

        No atom moves more than half the skin before the next rebuild, so no distance changes by
        more than the skin.
        """
        x, box = positions.detach().cpu().numpy(), cell.detach().cpu().numpy()
        follow, A = self.following, len(self.species)
        reach = np.full(A, -self._skin)
        reach[follow.seeds] = follow.core + follow.blend
        self._seed_list = NeighborList(reach, self.pbc, self._skin)
        self._seed_list.rebuild(x, box)
        distance = self._distances(x, box)
        near = self._seed_list.neighbor
        hf, lf = self.static > 0.0, self.static < 1.0
        hf[near] = True
        lf[near[distance < follow.core - self._skin]] = False
        for term in (term for group in self._besides for term in group):
            needed = {"hf": hf, "lf": lf}[term.expert]
            needed |= term.coefficients != 0.0
        ranges = np.where(hf, self._reach["hf"], 0.0)
        ranges[lf] = np.maximum(ranges[lf], self._reach["lf"])
        if not np.array_equal(ranges, self.neighbor_list.ranges):
            self.neighbor_list = self._new_list([], ranges, self._skin)
        super().rebuild(positions, cell)

    @in_plain_torch
    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """Energy, forces and virial; the weights at these positions are with them.

        Raises:
            InputError: as `Potential.evaluate`.
        """
        with self._turns:
            return self._evaluate_all(positions, cell)[0]

    def _evaluate_all(self, positions: Tensor, cell: Tensor) -> list[Evaluation]:
        """The mixture with moving weights, and the sums besides; each expert is asked once."""
        self._bring_list_up_to_date(positions, cell)
        x, box = positions.detach().cpu().numpy(), cell.detach().cpu().numpy()
        q = self._follow(x, box)
        found = self.backend.evaluate(positions, cell, self.neighbor_list, self._work)
        mixture = replace(found[0], weights=torch.from_numpy(self.weights).to(positions.device))
        sites = mixture.site_energies
        if not {"hf", "lf"} <= sites.keys():
            return [mixture, *found[1:]]
        difference = (sites["hf"] - sites["lf"]).detach().cpu().numpy()
        forces, virial = np.zeros_like(x), np.zeros((3, 3))
        pull_on_seeds(x, box, *self._seed_arguments(), q, difference, forces, virial)
        forces_on_device = torch.from_numpy(forces).to(mixture.forces)
        mixture = replace(
            mixture,
            forces=mixture.forces + forces_on_device,
            virial=mixture.virial + torch.from_numpy(virial).to(mixture.virial),
        )
        return [mixture, *found[1:]]

    def _follow(self, x: Array, box: Array) -> Array:
        """Bring weights and work up to these positions; (A,) 1 − w."""
        q, reached = 1.0 - self.static, np.zeros(len(x), dtype=bool)
        follow_seeds(x, box, *self._seed_arguments(), q, reached)
        # By distance, not by weight: near the ends of the blend w may round to 0 or 1 while its
        # gradient is not yet zero.
        active = {"hf": reached | (self.static > 0.0), "lf": q > 0.0}
        self.weights = 1.0 - q
        self.terms = mixture_terms(self.weights)
        groups = [self.terms, *self._besides]
        self._work = with_known_centres(self._divide(groups, active), self._work)
        return q

    def _seed_arguments(self) -> tuple[Any, ...]:
        """What the kernels are told of the seeds and their neighbours."""
        near, follow = self._seed_list, self.following
        assert near is not None, "the list is built first"
        return follow.seeds, near.first, near.neighbor, near.shift, follow.core, follow.blend

    def _distances(self, x: Array, box: Array) -> Array:
        """(list,) Å from each seed to its neighbours, seeds in the order of the atoms."""
        near = self._seed_list
        assert near is not None, "the list is built first"
        centre = np.repeat(np.arange(len(x)), np.diff(near.first))
        lattice = np.where(self.pbc[:, None], box, 0.0)
        return np.asarray(
            np.linalg.norm(x[near.neighbor] - x[centre] + near.shift @ lattice, axis=1)
        )
