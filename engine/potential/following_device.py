"""The mixture with weights that follow some of its atoms, on the triton backend.

Weights and their part of the forces are found on the device. The lists' centres are all that may
gain a weight in the lists' time; between two rebuilds only their weights change. The host takes
every step, and turns the list of seeds about at every rebuild.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.kernels.triton.following import SeedsByAtom
from duetto.potential.base import Evaluation
from duetto.potential.following import FollowingPotential
from duetto.potential.mixture import with_known_centres
from duetto.potential.terms import mixture_terms

Array = NDArray[Any]
_log = logging.getLogger("duetto")


class DeviceFollowingPotential(FollowingPotential):
    """`FollowingPotential` on the triton backend; see there for the arguments."""

    @property
    def takes_steps_on_device(self) -> bool:
        """Never: the backend's propagator knows nothing of weights that follow atoms."""
        return False

    @property
    def weights(self) -> Array:
        """(A,) float64, w at the positions evaluated last; before, `static`."""
        return np.asarray((1.0 - self._q).cpu().numpy())

    @weights.setter
    def weights(self, values: Array) -> None:
        self._q = torch.from_numpy(1.0 - values).to(self.backend.device)  # type: ignore[attr-defined]

    def _require_backend(self) -> None:
        if self.backend.name != "triton":
            raise InputError(f"backend {self.backend.name}: use FollowingPotential")
        _log.info("the host takes every step, since weights follow atoms")

    def set_weights(self, weights: ArrayLike, active: Any = None, ahead: Any = None) -> None:
        """Change the weights that do not move; the list is built anew at the next evaluation."""
        super().set_weights(weights)
        self._q_static = self._q
        self._built = -1

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the lists of neighbours, for all centres that may gain a weight in their time."""
        x, box = positions.detach().cpu().numpy(), cell.detach().cpu().numpy()
        may = self._around.rebuild(x, box, self.following.seeds, self.static)
        # Each expert's centres; what they count for is said at every evaluation.
        terms = mixture_terms(np.where(may["hf"] & may["lf"], 0.5, may["hf"].astype(np.float64)))
        self._work = with_known_centres(self._divide([terms]), self._work)
        if not self.neighbor_list.serves(self._work, None):
            self.neighbor_list = self._new_list(self._work, np.zeros(0), self._skin)
        self._seeds = SeedsByAtom.of(
            *self._around.pairs(box), self.following.core, self.following.blend, self._q.device
        )
        self.neighbor_list.rebuild(positions, cell)
        self._built = self.neighbor_list.n_rebuilds
        self.n_rebuilds += 1

    def _bring_list_up_to_date(self, positions: Tensor, cell: Tensor) -> None:
        # A list that has outgrown its buffers was built without the seeds' one.
        known = self._built == self.neighbor_list.n_rebuilds
        if not known or not self.neighbor_list.is_valid(positions, cell):
            self.rebuild(positions, cell)

    def _evaluate_all(self, positions: Tensor, cell: Tensor) -> list[Evaluation]:
        self._bring_list_up_to_date(positions, cell)
        backend: Any = self.backend
        x, home = positions.detach().to(self._q), positions.device
        with torch.cuda.device_of(x):
            self._q = q = self._seeds.follow(x, self._q_static)
            hf, lf = 1.0 - q, torch.ones_like(q) if self.pair.correction else q
            mixture = backend.evaluate_weighted(positions, cell, self.neighbor_list, hf, lf)
            if self.pair.correction:
                mixture = mixture.with_whole_hf()
            mixture = replace(mixture, weights=hf.to(home))
            sites = mixture.site_energies
            if not {"hf", "lf"} <= sites.keys():
                return [mixture]
            difference = (sites["hf"] - sites["lf"]).to(q)
            forces, virial = self._seeds.pull(x, q, difference, self.neighbor_list.flags)
            backend.require_in_range(self.neighbor_list)
        forces, virial = forces.to(mixture.forces), virial.to(mixture.virial)
        return [replace(mixture, forces=mixture.forces + forces, virial=mixture.virial + virial)]
