"""Numbers per atom by which the seeds of an updated partition are chosen."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from duetto.atoms.periodic import Array, Indices, nearest, pairs_within
from duetto.errors import InputError
from duetto.partition.extrapolation import excess_of
from duetto.partition.regions.moving import Quantity
from duetto.partition.rules import Configuration, Kinds


def quantity(
    asked: Quantity, atoms: Atoms, weights: Array | None = None, potential: Any = None
) -> Array:
    """The value of a quantity for every atom, (A,); NaN where it was not sampled.

    Args:
        asked: which one.
        atoms: positions in Å, cell, pbc; for `array` the array.
        weights: (A,) w now, for `disagreement`: it is sampled on atoms with w > 0 and in the shell
            around them; None: everywhere.
        potential: of these atoms, for `disagreement` and `extrapolation`.

    Raises:
        InputError: an array that the structure does not have; an LF that does not remember what it
            was fitted to.
    """
    settings = asked.settings
    if asked.name == "coordination":
        return coordination(atoms, settings["cutoff"])
    if asked.name == "centrosymmetry":
        return centrosymmetry(atoms, settings["cutoff"], settings["neighbors"])
    if asked.name == "array":
        return _array(atoms, settings["name"])
    if asked.name == "extrapolation":
        return extrapolation(atoms, potential)
    return disagreement(atoms, settings["of"], settings["shell"], weights, potential)


def extrapolation(atoms: Atoms, potential: Any) -> Array:
    """How far the worst moment of each atom is outside what LF's fit has seen, (A,).

    In widths of the range that it has seen; below 0 inside it, ∞ for a species that the fit did not
    have. Only distances count, and LF is not evaluated.

    Raises:
        InputError: LF is no linear expert, or remembers no ranges.
    """
    kinds, nobody = Kinds.of(list(atoms.symbols)), np.zeros(len(atoms))
    now = Configuration(atoms.positions, atoms.cell.array, np.asarray(atoms.pbc), kinds, nobody)
    excess = excess_of(potential.pair.lf, now, np.arange(len(atoms)))
    if excess is None:
        raise InputError(
            "regions.update.seeds.extrapolation: this pair's lf does not remember what it was "
            "fitted to; allowed: a linear one (duetto distil)"
        )
    worst = excess.max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(worst), np.inf, worst)


def coordination(atoms: Atoms, cutoff: float) -> Array:
    """How many atoms are closer than `cutoff` Å to each atom, (A,)."""
    centre, _ = _vectors(atoms, cutoff)
    return np.bincount(centre, minlength=len(atoms)).astype(np.float64)


def centrosymmetry(atoms: Atoms, cutoff: float, neighbors: int = 12) -> Array:
    """How far each atom's surroundings are from having a centre of symmetry, (A,) Å².

    Kelchner, Plimpton, Hamilton, Phys. Rev. B 58, 11085 (1998): Σ |r_a + r_b|² over the
    `neighbors`/2 pairs of the nearest neighbours for which it is smallest. 0 in a perfect crystal,
    of the order of the squared bond length at a surface. A neighbour that is missing within
    `cutoff` counts as one at the atom itself.
    """
    centre, vectors = _vectors(atoms, cutoff)
    square = np.einsum("px,px->p", vectors, vectors)
    order = np.lexsort((square, centre))
    centre, vectors = centre[order], vectors[order]
    begin = np.searchsorted(centre, np.arange(len(atoms)))
    rank = np.arange(len(centre)) - begin[centre]
    kept = rank < neighbors
    around = np.zeros((len(atoms), neighbors, 3))
    around[centre[kept], rank[kept]] = vectors[kept]
    total = np.zeros((len(atoms), neighbors * (neighbors - 1) // 2))
    for column, (a, b) in enumerate(combinations(range(neighbors), 2)):
        sums = around[:, a] + around[:, b]
        total[:, column] = np.einsum("ax,ax->a", sums, sums)
    return np.sort(total, axis=1)[:, : neighbors // 2].sum(axis=1)


def disagreement(
    atoms: Atoms, of: str, shell: float, weights: Array | None, potential: Any
) -> Array:
    """|E_i^HF − E_i^LF| in eV, or |F_i^HF − F_i^LF| in eV/Å, (A,); NaN where not sampled."""
    import torch

    everywhere = np.ones(len(atoms), dtype=bool)
    sampled = everywhere if weights is None else within(atoms, weights > 0.0, shell)
    positions = torch.tensor(atoms.positions, dtype=torch.float64, device=potential.device)
    cell = torch.tensor(atoms.cell.array, dtype=torch.float64, device=potential.device)
    values = np.full(len(atoms), np.nan)
    if not sampled.any():
        return values
    if of == "energies":
        chosen = np.flatnonzero(sampled)
        e_hf, e_lf = potential.expert_energies(positions, cell, chosen)
        values[sampled] = (e_hf - e_lf).abs().cpu().numpy()[sampled]
        return values
    # All centres that have a say in the forces on the atoms sampled.
    centres = within(atoms, sampled, potential.reach)
    f_hf, f_lf = potential.expert_forces(positions, cell, np.flatnonzero(centres))
    values[sampled] = (f_hf - f_lf).norm(dim=1).cpu().numpy()[sampled]
    return values


def within(atoms: Atoms, chosen: npt.NDArray[np.bool_], distance: float) -> npt.NDArray[np.bool_]:
    """(A,) the atoms chosen, and all up to `distance` Å from one of them."""
    found = nearest(atoms.positions, atoms.positions[chosen], atoms.cell.array, atoms.pbc, distance)
    return chosen | np.isfinite(found.distance)


def _array(atoms: Atoms, name: str) -> Array:
    values = atoms.arrays.get(name)
    if values is None or values.ndim != 1 or values.dtype.kind not in "bif":
        there = ", ".join(
            sorted(key for key, v in atoms.arrays.items() if v.ndim == 1 and v.dtype.kind in "bif")
        )
        raise InputError(
            f"regions.update.seeds.array.name: got {name!r}; allowed: an array of the structure "
            f"with one number per atom: {there or 'it has none'}"
        )
    return np.asarray(values, dtype=np.float64)


def _vectors(atoms: Atoms, cutoff: float) -> tuple[Indices, Array]:
    """Centre (P,) and vector (P, 3), Å, of every pair of atoms closer than `cutoff`."""
    x, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    found = pairs_within(x, x, cell, pbc, cutoff)
    other = (found.query != found.point) | found.shift.any(axis=1)
    i, j, shift = found.query[other], found.point[other], found.shift[other]
    return i, x[j] - x[i] + shift @ np.where(pbc[:, None], cell, 0.0)
