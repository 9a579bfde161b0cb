"""Weights around seeds, w(R), and the part of the forces by which they depend on positions.

    w_i(R) = 1 − (1 − w_i^static) Π_s [1 − f(|r_i − r_s|)]

over the seeds s and their periodic images, f falling from 1 at `core` to 0 at `core + blend` with
two continuous derivatives. Whoever mixes two experts by them adds −Σ_i (E_i^HF − E_i^LF) ∂w_i/∂R
to the forces: the engine in one process (`duetto.potential.following`), and every rank of LAMMPS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from duetto.kernels.cpu.following import follow_seeds, pull_on_seeds
from duetto.potential.neighbors import NeighborList

Array = NDArray[Any]


class SeedWeights:
    """The weights of one set of atoms around the seeds among them.

    Attributes:
        core: Å around a seed in which w = 1.
        blend: Å further out over which w falls to 0.
        seeds: (S,) int64, indices of the seeds, of the last `rebuild`.
        static: (A,) float64, the weights that do not move; likewise.
    """

    def __init__(self, core: float, blend: float, pbc: Array, skin: float) -> None:
        """Prepare; `rebuild` comes first.

        Args:
            core: Å.
            blend: Å.
            pbc: (3,) bool.
            skin: Å; the list of neighbors of seeds stays valid until an atom has moved half of it.
        """
        self.core, self.blend = core, blend
        self.pbc, self.skin = np.asarray(pbc, dtype=bool), skin
        self.seeds = np.zeros(0, dtype=np.int64)
        self.static = np.zeros(0)
        self._near: NeighborList | None = None

    def rebuild(self, x: Array, box: Array, seeds: Array, static: Array) -> dict[str, Array]:
        """List the neighbors of the seeds.

        No atom moves more than half the skin before the next rebuild, so no distance changes by
        more than the skin.

        Args:
            x: (A, 3) Å.
            box: (3, 3) Å, rows are the cell's vectors.
            seeds: (S,) int64.
            static: (A,) in [0, 1].

        Returns:
            By role, (A,) bool: the atoms that the expert may have to compute in the list's time.
        """
        self.seeds, self.static = seeds, static
        reach = np.full(len(x), -self.skin)
        reach[seeds] = self.core + self.blend
        self._near = NeighborList(reach, self.pbc, self.skin)
        self._near.rebuild(x, box)
        near = self._near.neighbor
        hf, lf = static > 0.0, static < 1.0
        hf[near] = True
        lf[near[self._distances(x, box) < self.core - self.skin]] = False
        return {"hf": hf, "lf": lf}

    def pairs(self, box: Array) -> tuple[Array, Array, Array]:
        """The list as pairs: seed (P,), atom near it (P,), and Å (P, 3) to the image that is."""
        near = self._near
        assert near is not None, "the list is built first"
        centre = np.repeat(np.arange(len(near.first) - 1), np.diff(near.first))
        lattice = np.where(self.pbc[:, None], box, 0.0)
        return centre, near.neighbor, near.shift @ lattice

    def is_valid(self, x: Array, box: Array) -> bool:
        """Whether the last `rebuild` serves these positions."""
        return self._near is not None and self._near.is_valid(x, box)

    def follow(self, x: Array, box: Array) -> tuple[Array, dict[str, Array]]:
        """The weights at these positions.

        Returns:
            (A,) float64, q = 1 − w, in which weights near 1 keep their digits; and by role, (A,)
            bool, the atoms that the expert computes: by distance, not by weight, for near the ends
            of the blend w may round to 0 or 1 while its gradient is not yet zero.
        """
        q, reached = 1.0 - self.static, np.zeros(len(x), dtype=bool)
        follow_seeds(x, box, *self._arguments(), q, reached)
        return q, {"hf": reached | (self.static > 0.0), "lf": q > 0.0}

    def pull(
        self, x: Array, box: Array, q: Array, difference: Array, forces: Array, virials: Array
    ) -> None:
        """Add −Σ_i (E_i^HF − E_i^LF) ∂w_i/∂R to forces and virials.

        Args:
            x: (A, 3) Å, positions.
            box: (3, 3) Å.
            q: (A,) of `follow` at these positions.
            difference: (A,) E_i^HF − E_i^LF, eV; read in the blend alone.
            forces: (A, 3) float64, eV/Å, ADDED TO.
            virials: (A, 3, 3) float64, eV, of each atom, ADDED TO; or (1, 3, 3), of all.
        """
        pull_on_seeds(x, box, *self._arguments(), q, difference, forces, virials)

    def _arguments(self) -> tuple[Any, ...]:
        """What the kernels are told of the seeds and their neighbors."""
        near = self._near
        assert near is not None, "the list is built first"
        return self.seeds, near.first, near.neighbor, near.shift, self.core, self.blend

    def _distances(self, x: Array, box: Array) -> Array:
        """(list,) Å from each seed to its neighbors, seeds in the order of the atoms."""
        centre, neighbor, offset = self.pairs(box)
        return np.asarray(np.linalg.norm(x[neighbor] - x[centre] + offset, axis=1))
