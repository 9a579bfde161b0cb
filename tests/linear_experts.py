"""Linear experts with random coefficients, of all shapes, and random atoms for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.description import LinearDescription, WallTerm
from duetto.experts.linear.expert import LinearExpert
from duetto.kernels.linear import LinearForm
from duetto.potential.neighbors import NeighborList

SHAPES: dict[str, dict[str, Any]] = {
    "one species, l_max 2": {
        "species": ("Pt",),
        "radials": (5, 5, 5),
        "three_body": (5, 5, 5),
        "four_body": ((0, 0, 0, 5),),
    },
    "l_max 3, all four-body degrees, wall": {
        "species": ("Pt",),
        "radials": (4, 3, 2, 2),
        "three_body": (4, 3, 2, 1),
        "four_body": (
            (0, 0, 0, 2),
            (0, 1, 1, 2),
            (1, 1, 2, 1),
            (2, 2, 2, 1),
            (1, 2, 3, 1),
            (0, 3, 3, 1),
        ),
        "wall": True,
    },
    "three species, one without moments, wall": {
        "species": ("Pt", "C", "O"),
        "neighbors": ("Pt", "O"),
        "radials": (3, 2, 2),
        "three_body": (3, 2, 1),
        "four_body": ((0, 0, 0, 2),),
        "wall": True,
    },
    "two species, l_max 0": {"species": ("Pt", "C"), "radials": (3,), "three_body": (3,)},
}


def random_expert(shape: str, seed: int = 0) -> LinearExpert:
    """An expert whose cutoffs and inner radii differ from pair to pair of its types."""
    given = SHAPES[shape]
    species = given["species"]
    T = range(len(species))
    wall = tuple(tuple(2.3 for _ in T) for _ in T)
    description = LinearDescription(
        species=species,
        neighbors=given.get("neighbors", species),
        cutoffs=tuple(tuple(4.5 - 0.2 * ((3 * i + j) % 3) for j in T) for i in T),
        inner=tuple(tuple(2.2 + 0.1 * ((i + j) % 2) for j in T) for i in T),
        radials=given["radials"],
        three_body=given["three_body"],
        four_body=given.get("four_body", ()),
        wall=WallTerm(6.0, wall) if given.get("wall") else None,
    )
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    coefficients = 0.1 * normal(len(species), basis_of(description).size)
    seen = torch.zeros(len(species), 2, len(description.layout.scalar), dtype=torch.float64)
    return LinearExpert(description, normal(len(species)), coefficients, seen)


class Box:
    """Random atoms in a sheared periodic box, some as close as the inner radii, and their edges.

    Attributes:
        positions (A, 3), cell (3, 3), types (A,), weights (A,), neighbors: the list, with skin.
        i, j, vectors: the edges within the cutoffs, as a function of the list.
    """

    def __init__(
        self, form: LinearForm, atoms: int = 40, seed: int = 0, only: int | None = None
    ) -> None:
        rng = np.random.default_rng(seed)
        self.cell = np.array([[10.0, 1.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]])
        sites = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)[:atoms]
        self.positions = (sites + rng.uniform(-0.12, 0.12, sites.shape)) / 4.0 @ self.cell
        self.types = rng.integers(0, form.num_types, atoms)
        if only is not None:
            self.types[:] = only
        self.weights = rng.uniform(0, 1, atoms)
        self.neighbors = NeighborList(np.full(atoms, 4.5), np.ones(3, dtype=bool), 0.4)
        self.neighbors.rebuild(torch.from_numpy(self.positions), torch.from_numpy(self.cell))
        i = np.repeat(np.arange(atoms), np.diff(self.neighbors.first))
        j = self.neighbors.neighbor.astype(np.int64)
        shift = self.neighbors.shift.astype(np.float64)
        self.vectors_of = lambda x: x[j] - x[i] + torch.from_numpy(shift @ self.cell)
        length = self.vectors_of(torch.from_numpy(self.positions)).norm(dim=1)
        self.near = length < form.cutoffs[self.types[i], self.types[j]]
        self.i, self.j = torch.from_numpy(i)[self.near], torch.from_numpy(j)[self.near]

    @property
    def rows(self) -> np.ndarray:
        """(A + 1,) where each centre's edges begin."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.i, minlength=len(self.types)))])
