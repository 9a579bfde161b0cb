"""From an expensive expert and structures to a linear expert that agrees with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from duetto.distil.elastic import Elasticity, constraints_of, elasticity
from duetto.distil.equations import Constraints, Equations, choose_ridge, solve
from duetto.distil.gathered import Gathered, evaluate
from duetto.distil.rows import num_unknowns
from duetto.distil.settings import DistilSettings, pair_matrix
from duetto.distil.structures import Structure, make_structures, read_structures, tensors_of
from duetto.errors import InputError
from duetto.experts.base import Expert, cutoff_matrix
from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.description import LinearDescription, WallTerm
from duetto.experts.linear.expert import LinearExpert
from duetto.experts.pair import ExpertPair
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential

Say = Callable[[str], None]
_WALL_EXPONENT = 6.0


@dataclass(frozen=True)
class Fit:
    """A distilled expert and what is known of it.

    Attributes:
        expert: under the constraints. unconstrained: the same fit without them.
        ridge: relative strength. misfits: of cross-validation, by ridge.
        crystal: HF's crystal, or None.
        constraints: or None.
        equations: of the data, to look at errors by fold.
        test: structures that the fit has not seen, and HF's evaluation of them.
        n_structures, n_atoms, n_rows: of the data.
        seen_pairs: [centre, neighbor] species within the cutoff in the data.
        closest: Å, between two atoms of the data; infinity where none has a neighbor.
        dropped: structures left out for large forces.
        too_close: structures left out for atoms closer than `inner`.
    """

    expert: LinearExpert
    unconstrained: LinearExpert
    ridge: float
    misfits: dict[float, float]
    crystal: Elasticity | None
    constraints: Constraints | None
    equations: Equations
    test: list[tuple[Structure, Evaluation]]
    n_structures: int
    n_atoms: int
    n_rows: int
    seen_pairs: list[list[str]]
    closest: float
    dropped: int
    too_close: int


def distil(
    hf: Expert,
    settings: DistilSettings,
    say: Say = lambda line: None,
    structures: Sequence[Structure] = (),
) -> Fit:
    """Fit a linear expert to HF.

    Args:
        hf: the expensive expert.
        settings: data, shape of the expert, constraints.
        say: is told what goes on.
        structures: more of them, beside the files and what is made of the crystal.

    Raises:
        InputError: no structures, a species that HF does not know, constraints that cannot be met.
    """
    settings = _with_species(hf, settings)
    description = describe(settings)
    crystal = None if settings.crystal is None else elasticity(hf, settings.crystal)
    if crystal is not None:
        say(
            f"HF's crystal: a = {crystal.a:.4f} Å, B = {crystal.B:.1f}, C11 = {crystal.C11:.1f}, "
            f"C12 = {crystal.C12:.1f}, C44 = {crystal.C44:.1f} GPa"
        )
    chosen = settings.species, hf.species, settings.families
    data = [*structures, *read_structures(settings.data, *chosen, settings.every)]
    if crystal is not None:
        data += make_structures(settings, hf, crystal.a)
    if not data:
        raise InputError(
            f"distil: no structures of {', '.join(settings.species)} alone; name files as data, "
            "or have some made: make.rattled=20 with a crystal"
        )
    constraints = None
    if crystal is not None and settings.crystal is not None:
        constraints = constraints_of(description, settings.crystal, crystal)
    gathered = Gathered(hf, description, settings)
    for structure in tqdm(data, "rows", delay=2.0, disable=None):
        gathered.add(structure)
    gathered.require_some()
    if gathered.left_out:
        say(f"of {len(data)} structures left out: {gathered.left_out}")
    free = _shifts(description)
    ridge: float | None = settings.ridge
    misfits: dict[float, float] = {}
    if ridge is None:
        ridge, misfits = choose_ridge(gathered.equations, free, constraints)
    XX, Xy = gathered.equations.sums(gathered.equations.folds)
    experts = [
        gathered.expert(solve(XX, Xy, ridge, free, conditions))
        for conditions in (constraints, None)
    ]
    test = read_structures(settings.test, *chosen)
    return Fit(
        expert=experts[0],
        unconstrained=experts[1],
        ridge=ridge,
        misfits=misfits,
        crystal=crystal,
        constraints=constraints,
        equations=gathered.equations,
        test=[(one, evaluate(hf, one)) for one in tqdm(test, "test", delay=2.0, disable=None)],
        n_structures=len(data) - gathered.dropped - gathered.too_close,
        n_atoms=gathered.n_atoms,
        n_rows=sum(part.rows for part in gathered.equations.parts.values()),
        seen_pairs=gathered.seen_pairs,
        closest=gathered.closest,
        dropped=gathered.dropped,
        too_close=gathered.too_close,
    )


def _with_species(hf: Expert, settings: DistilSettings) -> DistilSettings:
    """Settings with species and crystal that HF knows."""
    species = settings.species
    if not species and settings.crystal is not None:
        species = (settings.crystal.symbol,)
    if not species:
        species = hf.species
    for name in species:
        if name not in hf.species:
            known = ", ".join(hf.species)
            raise InputError(f"distil.species: got {name}; allowed: what HF knows, {known}")
    if settings.crystal is not None and settings.crystal.symbol not in species:
        raise InputError(
            f"distil.crystal.symbol: got {settings.crystal.symbol}; allowed: {', '.join(species)}"
        )
    return settings.model_copy(update={"species": species})


def describe(settings: DistilSettings) -> LinearDescription:
    """The expert's shape.

    Raises:
        InputError: a length is given for species that the expert does not have.
    """

    def table(key: str) -> tuple[tuple[float, ...], ...]:
        return pair_matrix(getattr(settings, key), settings.species, f"distil.{key}")

    return LinearDescription(
        species=settings.species,
        neighbors=settings.species,
        cutoffs=table("cutoff"),
        inner=table("inner"),
        radials=settings.radials,
        three_body=settings.three_body,
        four_body=settings.four_body,
        wall=None if settings.wall is None else WallTerm(_WALL_EXPONENT, table("wall")),
    )


def _shifts(description: LinearDescription) -> Tensor:
    """(X,) bool, which unknowns are energies of isolated atoms."""
    K = basis_of(description).size
    last = torch.arange(num_unknowns(description)) % (K + 1)
    return last == K


def cost_per_edge(expert: LinearExpert, structure: Structure) -> dict[str, float]:
    """ns of one core per edge within the cutoff, on a large copy of a structure, float32."""
    atoms = structure.atoms
    copies = [
        max(1, round((4000 / len(atoms)) ** (1 / 3))) if periodic else 1 for periodic in atoms.pbc
    ]
    atoms = atoms.repeat(copies)
    potential = Potential(
        ExpertPair(expert, None), atoms.get_chemical_symbols(), np.ones(len(atoms)), atoms.pbc
    )
    positions, cell = tensors_of(atoms)
    potential.evaluate(positions, cell)
    times = []
    for _ in range(7):
        start = time.process_time()
        potential.evaluate(positions, cell)
        times.append(time.process_time() - start)
    lists = potential.neighbor_list
    i = np.repeat(np.arange(len(atoms)), np.diff(lists.first))
    vectors = atoms.positions[lists.neighbor] - atoms.positions[i]
    vectors = vectors + lists.shift @ atoms.cell.array
    edges = int((np.linalg.norm(vectors, axis=1) < float(cutoff_matrix(expert).max())).sum())
    return {"ns_per_edge_and_core": 1e9 * min(times) / edges, "edges_per_atom": edges / len(atoms)}


def provenance_of(fit: Fit, settings: DistilSettings, source: str) -> dict[str, Any]:
    """What the pair file remembers of the fit."""
    return {
        "kind": "linear",
        "distilled_from": source,
        "seen_pairs": fit.seen_pairs,
        "structures": fit.n_structures,
        "atoms": fit.n_atoms,
        "ridge": fit.ridge,
        "data": [str(path) for path in settings.data],
    }
