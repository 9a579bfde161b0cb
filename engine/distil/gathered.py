"""What structures say: rows for the normal equations, and the ranges that a fit has seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import torch
from torch import Tensor

from duetto.distil.equations import QUANTITIES, Equations
from duetto.distil.rows import Rows, empty_expert, num_unknowns, rows_of
from duetto.distil.settings import DistilSettings
from duetto.distil.structures import Structure, stretch, tensors_of
from duetto.errors import InputError
from duetto.experts.base import Expert, cutoff_matrix
from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.description import LinearDescription
from duetto.experts.linear.expert import LinearExpert
from duetto.experts.pair import ExpertPair
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential
from duetto.potential.neighbors import NeighborList


def evaluate(expert: Expert, structure: Structure, dtype: str = "float32") -> Evaluation:
    """Energies, forces and virial of a structure by one expert alone."""
    atoms = structure.atoms
    potential = Potential(
        ExpertPair(expert, None),
        atoms.get_chemical_symbols(),
        np.ones(len(atoms)),
        atoms.pbc,
        dtype=dtype,
        skin=0.0,
    )
    return potential.evaluate(*tensors_of(atoms))


@dataclass(frozen=True)
class _Edges:
    """A structure's types (A,) and its edges i, j (E,) within the cutoffs, vectors (E, 3) in Å."""

    types: Tensor
    i: Tensor
    j: Tensor
    vectors: Tensor

    @property
    def closest(self) -> float:
        """Å; infinity without edges."""
        return float(self.vectors.norm(dim=1).min()) if len(self.vectors) else math.inf


@dataclass(frozen=True)
class _Known:
    """A structure's rows, its wall, and the forces that are left to explain, (3 A,) eV/Å."""

    rows: Rows
    wall: Evaluation
    forces: Tensor


class Gathered:
    """Normal equations of the structures seen so far, and what else a fit remembers of them."""

    def __init__(self, hf: Expert, description: LinearDescription, settings: DistilSettings):
        self.hf, self.description, self.settings = hf, description, settings
        of_changes = 1.0 if settings.slow is None else settings.slow.noise
        noise = dict(zip(QUANTITIES, (*settings.noise, of_changes), strict=True))
        self.equations = Equations(num_unknowns(description), noise)
        self.n_atoms = self.dropped = self.too_close = 0
        self.closest = self._closest_of_all = math.inf
        self._inner = torch.tensor(description.inner, dtype=torch.float64)
        T, V = len(description.species), len(description.layout.scalar)
        self._low = torch.full((T, V), math.inf, dtype=torch.float64)
        self._high = torch.full((T, V), -math.inf, dtype=torch.float64)
        self._pairs = torch.zeros(T, T, dtype=torch.bool)
        self._groups: dict[str, int] = {}
        self._cutoffs = cutoff_matrix(empty_expert(description))

    def add(self, structure: Structure) -> None:
        """Add a structure's rows, and those of where HF takes it from there; see `Slow`.

        It is left out where its forces are too large or its atoms too close.
        """
        group = self._groups.setdefault(structure.group, len(self._groups))
        fold, n = group % self.settings.folds, len(structure.atoms)
        edges = self._edges(structure)
        self._closest_of_all = min(self._closest_of_all, edges.closest)
        if self._too_close(edges):
            self.too_close += 1
            return
        labels = evaluate(self.hf, structure)
        if not self._bearable(labels):
            self.dropped += 1
            return
        before = self._add(fold, structure, edges, labels)
        self.n_atoms += n
        # Per atom, so that large cells do not count for more than their atoms do.
        virial = (labels.virial - before.wall.virial).flatten() / n
        self.equations.add(fold, "virial", before.rows.virial / n, virial)
        for moved in self._stretch(structure):
            edges, labels = self._edges(moved), evaluate(self.hf, moved)
            if self._too_close(edges) or not self._bearable(labels):
                break
            now = self._add(fold, moved, edges, labels)
            change = before.rows.forces.neg_().add_(now.rows.forces)
            self.equations.add(fold, "changes", change, now.forces - before.forces)
            before = now

    @property
    def left_out(self) -> str:
        """How many structures, and why; empty if none was."""
        inner = self.settings.inner
        radii = list(inner.values()) if isinstance(inner, dict) else [inner]
        words = " to ".join(f"{r:g}" for r in dict.fromkeys((min(radii), max(radii))))
        counts = (
            (self.too_close, f"atoms closer than inner, {words} Å ({self._closest_of_all:.2f} Å)"),
            (self.dropped, f"forces above largest_force, {self.settings.largest_force:g} eV/Å"),
        )
        return ", ".join(f"{count} with {why}" for count, why in counts if count)

    def require_some(self) -> None:
        """Refuse, with the reason, if no structure was left."""
        if not self.n_atoms:
            raise InputError(f"distil: all structures were left out: {self.left_out}")

    def _too_close(self, edges: _Edges) -> bool:
        """Where the expert could not tell how close."""
        inner = self._inner[edges.types[edges.i], edges.types[edges.j]]
        return bool((edges.vectors.norm(dim=1) < inner).any())

    def _bearable(self, labels: Evaluation) -> bool:
        return float(labels.forces.abs().max()) <= self.settings.largest_force

    def _stretch(self, structure: Structure) -> Iterator[Structure]:
        slow = self.settings.slow
        if slow is None or not any(fnmatch(structure.family, name) for name in slow.families):
            return iter(())
        return stretch(structure, self.hf, slow, self._groups[structure.group])

    def _add(self, fold: int, structure: Structure, edges: _Edges, labels: Evaluation) -> _Known:
        """Add rows of site energies and forces, and remember what species and moments there are."""
        types, i, j = edges.types, edges.i, edges.j
        rows = rows_of(self.description, types, i, j, edges.vectors)
        self.closest = min(self.closest, edges.closest)
        # What the fit need not explain.
        wall = evaluate(empty_expert(self.description), structure, "float64")
        forces = (labels.forces - wall.forces).flatten()
        self.equations.add(fold, "sites", rows.sites, labels.energies - wall.energies)
        self.equations.add(fold, "forces", rows.forces, forces)
        self._pairs[types[i], types[j]] = True
        for t in range(len(self.description.species)):
            of_type = rows.scalars[types == t]
            if len(of_type):
                self._low[t] = torch.minimum(self._low[t], of_type.amin(dim=0))
                self._high[t] = torch.maximum(self._high[t], of_type.amax(dim=0))
        return _Known(rows, wall, forces)

    def _edges(self, structure: Structure) -> _Edges:
        index = {name: t for t, name in enumerate(self.description.species)}
        types = torch.tensor([index[name] for name in structure.atoms.symbols])
        positions, cell = tensors_of(structure.atoms)
        ranges = np.full(len(positions), float(self._cutoffs.max()))
        lists = NeighborList(ranges, structure.atoms.pbc, 0.0)
        lists.rebuild(positions, cell)
        i = torch.from_numpy(np.repeat(np.arange(len(positions)), np.diff(lists.first)))
        j = torch.from_numpy(lists.neighbor.astype(np.int64))
        shift = torch.from_numpy(lists.shift.astype(np.float64))
        vectors = positions[j] - positions[i] + shift @ cell
        near = vectors.norm(dim=1) < self._cutoffs[types[i], types[j]]
        return _Edges(types, i[near], j[near], vectors[near])

    def expert(self, c: Tensor) -> LinearExpert:
        """The expert of the unknowns c (X,)."""
        T, K = len(self.description.species), basis_of(self.description).size
        table = c.view(T, K + 1)
        seen = torch.stack([self._low, self._high], dim=1)
        seen = torch.where(seen.isfinite(), seen, torch.nan)
        return LinearExpert(
            self.description, table[:, K].contiguous(), table[:, :K].contiguous(), seen
        )

    @property
    def seen_pairs(self) -> list[list[str]]:
        """Species of centres and neighbors within the cutoff."""
        names = self.description.species
        return [[names[i], names[j]] for i, j in self._pairs.nonzero().tolist()]
