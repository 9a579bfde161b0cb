"""Weights that follow seeds, on one MPI rank: its own atoms, and the seeds of all ranks.

The pair style's C++ half gathers the seeds at every evaluation, adds up what all ranks' weights do
to them, and has LAMMPS's edges as far as the experts that may be asked see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.errors import RunStopped
from duetto.experts.pair import ROLES
from duetto.frontends.lammps.unified import DuettoUnified
from duetto.potential.seed_weights import SeedWeights

Array = NDArray[Any]


@dataclass
class Places:
    """What LAMMPS hands over and takes back: P places, n own atoms and then S seeds.

    Attributes:
        n_own: n.
        fresh: whether the order of the atoms may be another one than last time.
        skin: of LAMMPS's neighbor list, Å.
        periodic: (3,) bool.
        cell: (3, 3) Å, rows are the vectors.
        x: (P, 3) Å.
        types: (n,) from 0.
        own: (n,) weights of the atoms whose type has none, or None.
        weight: (n,) OUTPUT, w.
        wide: (n,) OUTPUT, whether HF may be asked before `wide` is renewed.
        force: (P, 3) OUTPUT, eV/Å, ADDED TO.
        virial: (P, 3, 3), or (1, 3, 3) of all, OUTPUT, eV, ADDED TO.
    """

    n_own: int
    fresh: bool
    skin: float
    periodic: Array
    cell: Array
    x: Array
    types: Array
    own: Array | None
    weight: Array
    wide: Array
    force: Array
    virial: Array


class FollowingOnRank:
    """The weights of one pair style on one rank, from one evaluation to the next."""

    def __init__(self, unified: DuettoUnified) -> None:
        """Prepare for a potential whose weights follow seeds."""
        assert unified.follow is not None, "the potential's weights follow nothing"
        self.unified = unified
        self.core, self.blend = unified.follow
        self._around: SeedWeights | None = None
        self._places: Places | None = None
        self._q = np.zeros(0)
        self._active: dict[str, Array] = {}

    def bring(self, places: Places) -> bool:
        """Bring weights up to these positions.

        Returns:
            Whether `places.wide` has changed.
        """
        n, P = places.n_own, len(places.x)
        self._places = places
        if not P:
            self._q, self._active = np.zeros(0), dict.fromkeys(ROLES, np.zeros(0, dtype=bool))
            return False
        static = np.ones(P)
        own = None if places.own is None else torch.from_numpy(places.own)
        static[:n] = self.unified.weights(torch.from_numpy(places.types), own).cpu().numpy()
        around = self._around
        renewed = (
            around is None
            or places.fresh
            or not np.array_equal(around.static, static)
            or not around.is_valid(places.x, places.cell)
        )
        if around is None or renewed:
            around = SeedWeights(self.core, self.blend, places.periodic, places.skin)
            may = around.rebuild(places.x, places.cell, np.arange(n, P), static)
            self._around, places.wide[:] = around, may["hf"][:n]
        self._q, self._active = around.follow(places.x, places.cell)
        if self.unified.terms == "slow":  # lf is asked where hf is
            self._active["lf"] = self._active["hf"]
        places.weight[:] = 1.0 - self._q[:n]
        return renewed

    def of_centres(self, centres: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Of own atoms (C,): their weights (C,) and, by role, whether the expert computes them."""
        i = centres.cpu().numpy()
        on = centres.device
        active = {role: torch.from_numpy(mask[i]).to(on) for role, mask in self._active.items()}
        return torch.from_numpy(1.0 - self._q[i]).to(on), active

    def pull(self, centres: Tensor, difference: Tensor) -> None:
        """Add −Σ_i (E_i^HF − E_i^LF) ∂w_i/∂R to forces and virials.

        Args:
            centres: (C,) own atoms.
            difference: (C,) E^HF − E^LF, eV, NaN where an expert was not asked.

        Raises:
            RunStopped: a force is not finite.
        """
        assert self._places is not None, "weights come first"
        places, n = self._places, self._places.n_own
        if self._around is None or not len(places.x):
            return
        by_place = np.zeros(len(places.x))
        by_place[centres.cpu().numpy()] = difference.cpu().numpy()
        # Seeds are complex themselves, here as on their own rank.
        assert not self._q[n:].any(), "a seed is not complex"
        self._around.pull(places.x, places.cell, self._q, by_place, places.force, places.virial)
        if not np.isfinite(places.force).all():
            raise RunStopped("the force by which weights follow seeds is not finite")
