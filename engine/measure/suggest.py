"""The smallest region outside which two experts agree, in the words of the region language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from duetto.atoms.periodic import Array, Indices, nearest
from duetto.errors import InputError
from duetto.partition.regions import Regions
from duetto.run.prepare import Prepared

Mask = npt.NDArray[np.bool_]

MOST_LAYERS = 8
"""Layers at one side that are tried: of a thicker region nobody thinks as one of the surface."""

MOST_AROUND = 300
"""Disagreeing atoms up to which a centre is looked for: more are no defect."""

ROUNDING = 0.1
"""Å to which distances are rounded up, to be words that a person would write."""


@dataclass(frozen=True)
class Suggestion:
    """A region, and how the experts agree outside it.

    Attributes:
        tolerance: eV for energies, eV/Å for forces.
        complex: the region, as `regions.complex` takes it.
        n_complex: atoms that it holds.
        n_disagreeing: atoms on which the experts differ by more than the tolerance.
        energy_outside_eV, force_outside_eV_per_angstrom: largest |E_i^HF − E_i^LF| and
            |F_i^HF − F_i^LF| outside it; None where there is no atom.
        energy_largest_eV, force_largest_eV_per_angstrom: the same over all atoms.
    """

    tolerance: float
    complex: Any
    n_complex: int
    n_disagreeing: int
    energy_outside_eV: float | None
    force_outside_eV_per_angstrom: float | None
    energy_largest_eV: float
    force_largest_eV_per_angstrom: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def suggest(start: Prepared, tolerance: float) -> Suggestion:
    """Evaluate both experts once, on every atom, and look for the region.

    Args:
        start: what the run would start from.
        tolerance: eV for energies, eV/Å for forces.

    Raises:
        InputError: the pair lacks an expert, or one does not know a species.
    """
    energy, force = _differences(start)
    apart = (energy > tolerance) | (force > tolerance)
    region, inside = _smallest(start, apart)
    outside = ~inside
    return Suggestion(
        tolerance=tolerance,
        complex=region,
        n_complex=int(inside.sum()),
        n_disagreeing=int(apart.sum()),
        energy_outside_eV=float(energy[outside].max()) if outside.any() else None,
        force_outside_eV_per_angstrom=float(force[outside].max()) if outside.any() else None,
        energy_largest_eV=float(energy.max()),
        force_largest_eV_per_angstrom=float(force.max()),
    )


def _differences(start: Prepared) -> tuple[Array, Array]:
    """|E_i^HF − E_i^LF| in eV and |F_i^HF − F_i^LF| in eV/Å, (A,) each."""
    atoms, pair = start.atoms, start.model.pair
    for role in ("hf", "lf"):
        if role not in pair.experts:
            raise InputError(f"--suggest: the pair lacks the expert {role}, so nothing compares")
    potential = start.potential(np.ones(len(atoms)))
    positions = torch.tensor(atoms.positions, device=start.model.device)
    cell = torch.tensor(atoms.cell.array, device=start.model.device)
    e_hf, e_lf = potential.expert_energies(positions, cell)
    f_hf, f_lf = potential.expert_forces(positions, cell, np.arange(len(atoms)))
    return (e_hf - e_lf).abs().cpu().numpy(), (f_hf - f_lf).norm(dim=1).cpu().numpy()


def _smallest(start: Prepared, apart: Mask) -> tuple[Any, Mask]:
    """The candidate that holds all atoms of `apart` (A,) and the fewest others."""
    if not apart.any():
        return "none", apart
    best: tuple[int, Any, Mask] | None = None
    for words in _candidates(start, apart):
        try:
            inside = Regions.from_dict({"complex": words}).complex.select(start.atoms)
        except InputError:  # such as layers that thermal motion has filled
            continue
        if (apart & ~inside).any() or inside.all():
            continue
        if best is None or inside.sum() < best[0]:
            best = int(inside.sum()), words, inside
    if best is not None:
        return best[1], best[2]
    if apart.all():
        return "all", apart
    return {"indices": np.flatnonzero(apart).tolist()}, apart


def _candidates(start: Prepared, apart: Mask) -> Iterator[Any]:
    """Regions that a person would write, the simplest first."""
    atoms = start.atoms
    symbols = np.array(atoms.get_chemical_symbols())
    kinds = [str(kind) for kind in np.unique(symbols)]
    sets = [list(kept) for n in range(1, len(kinds)) for kept in combinations(kinds, n)]
    for kept in sets:
        yield {"species": kept}
    for kept in sets:
        seeds = atoms.positions[np.isin(symbols, kept)]
        away = nearest(atoms.positions[apart], seeds, atoms.cell.array, atoms.pbc, np.inf)
        distance = _up(float(away.distance.max()))
        if 0.0 < distance < 1e3:
            yield {"within": {"distance": distance, "of": {"species": kept}}}
    yield from _around_one(start, np.flatnonzero(apart))
    for axis in "xyz":
        for count in range(1, MOST_LAYERS + 1):
            yield {"layers": {"axis": axis, "top": count}}
            yield {"layers": {"axis": axis, "bottom": count}}
            for other in range(1, MOST_LAYERS + 1):
                ends = [{"axis": axis, "top": count}, {"axis": axis, "bottom": other}]
                yield {"any": [{"layers": end} for end in ends]}


def _around_one(start: Prepared, apart: Indices) -> Iterator[Any]:
    """A defect: what is around one of the atoms that are apart, or around their middle."""
    if len(apart) > MOST_AROUND:
        return
    atoms = start.atoms
    best, centre, reach = np.inf, -1, np.zeros((0, 3))
    for atom in apart:
        vectors = atoms.get_distances(atom, apart, mic=True, vector=True)
        farthest = float(np.linalg.norm(vectors, axis=1).max())
        if farthest < best:
            best, centre, reach = farthest, int(atom), vectors
    distance = _up(best)
    if distance > 0.0:
        yield {"within": {"distance": distance, "of": {"indices": [centre]}}}
    # The middle of the smallest box around them, in words of two decimals.
    middle = np.round(0.5 * (reach.min(axis=0) + reach.max(axis=0)) + atoms.positions[centre], 2)
    away = np.linalg.norm(reach + atoms.positions[centre] - middle, axis=1).max()
    yield {"sphere": {"center": middle.tolist(), "radius": max(_up(float(away)), ROUNDING)}}


def _up(distance: float) -> float:
    """Å rounded up to what a person would write."""
    return round(float(np.ceil(distance / ROUNDING) * ROUNDING), 3)
