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
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential, with_known_centres
from duetto.potential.modes import in_plain_torch
from duetto.potential.seed_weights import SeedWeights
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
            InputError: as `Potential`; the pair lacks an expert, or the backend is triton, which
                `duetto.potential.following_device` is for.
        """
        self.following = following
        self._besides: tuple[Sequence[Term], ...] = ()  # sums evaluated beside the mixture
        super().__init__(*args, **settings)
        self._around = SeedWeights(following.core, following.blend, self.pbc, self._skin)
        self._require_backend()
        for role in ("hf", "lf"):
            if role not in self.pair.experts:
                raise InputError(f"regions.follow: needs both experts, and the pair lacks {role}")

    def _require_backend(self) -> None:
        """Refuse a backend for which another kind of potential is made."""
        if self.backend.name == "triton":
            raise InputError(
                "backend triton: weights follow atoms there by DeviceFollowingPotential "
                "(duetto.potential.following_device)"
            )

    def set_weights(self, weights: ArrayLike, active: Any = None, ahead: Any = None) -> None:
        """Change the weights that do not move; the list is built anew at the next evaluation."""
        self.static = checked_weights(weights, len(self.species))
        self.static[self.following.seeds] = 1.0
        super().set_weights(self.static)
        self.neighbor_list = self._new_list([], np.zeros(len(self.species)), self._skin)

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the lists of neighbours, for all centres that may gain a weight in their time."""
        x, box = positions.detach().cpu().numpy(), cell.detach().cpu().numpy()
        may = self._around.rebuild(x, box, self.following.seeds, self.static)
        may["lf"] |= self.pair.correction  # what HF corrects is computed everywhere
        # LF is cheap where it knows the species, and what it computes may then stay the same.
        self._low = may["lf"] & (self._types["lf"] >= 0)
        for term in (term for group in self._besides for term in group):
            may[term.expert] |= term.coefficients != 0.0
        ranges = np.where(may["hf"], self._reach["hf"], 0.0)
        ranges[may["lf"]] = np.maximum(ranges[may["lf"]], self._reach["lf"])
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
        found = self._ask(positions, cell, self.neighbor_list, self._work)
        mixture = replace(found[0], weights=torch.from_numpy(self.weights).to(positions.device))
        sites = mixture.site_energies
        if not {"hf", "lf"} <= sites.keys():
            return [mixture, *found[1:]]
        difference = (sites["hf"] - sites["lf"]).detach().cpu().numpy()
        forces, virial = np.zeros_like(x), np.zeros((1, 3, 3))
        self._around.pull(x, box, q, difference, forces, virial)
        mixture = replace(
            mixture,
            forces=mixture.forces + torch.from_numpy(forces).to(mixture.forces),
            virial=mixture.virial + torch.from_numpy(virial[0]).to(mixture.virial),
        )
        return [mixture, *found[1:]]

    def _follow(self, x: Array, box: Array) -> Array:
        """Bring weights and work up to these positions; (A,) 1 − w."""
        q, active = self._around.follow(x, box)
        active["lf"] |= self._low
        self.weights = 1.0 - q
        self.terms = mixture_terms(self.weights)
        groups = [self.terms, *self._besides]
        self._work = with_known_centres(self._divide(groups, active), self._work)
        return q
