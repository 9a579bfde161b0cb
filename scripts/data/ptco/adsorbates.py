"""Adsorption sites of any fcc surface, and CO put onto them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list

PT_C_BOND = {"top": 1.86, "bridge": 2.04, "fcc": 2.12, "hcp": 2.12, "hollow": 2.25}  # Å
CO_BOND = {"top": 1.157, "bridge": 1.178, "fcc": 1.19, "hcp": 1.19, "hollow": 1.20}  # Å


@dataclass(frozen=True)
class Site:
    """One site: the atoms it touches (with their cell shifts) and the outward normal."""

    kind: str
    atoms: tuple[int, ...]
    shifts: np.ndarray
    normal: np.ndarray

    def centre(self, slab: Atoms) -> np.ndarray:
        """Mean position (Å) of the atoms it touches, in this slab."""
        return (slab.positions[list(self.atoms)] + self.shifts @ slab.cell.array).mean(axis=0)


def surface_sites(slab: Atoms, bond: float) -> list[Site]:
    """Top, bridge and hollow sites of the upper side of an unrelaxed slab; `bond` is Pt-Pt in Å.

    Surface atoms have at most nine neighbours and these lie below them.
    """
    i, j, vector, shift = neighbor_list("ijDS", slab, 1.55 * bond)
    near = np.linalg.norm(vector, axis=1) < 1.2 * bond
    outward = np.zeros((len(slab), 3))
    np.add.at(outward, i[near], -vector[near])
    coordination = np.bincount(i[near], minlength=len(slab))
    on_surface = (coordination <= 9) & (outward[:, 2] > 0.5 * bond)

    sites = []
    for a in np.flatnonzero(on_surface):
        zero = np.zeros(3, int)
        sites.append(_site("top", [a], [zero], outward))
        mine = (i == a) & on_surface[j]
        close = np.flatnonzero(mine & near)
        for p in close:
            sites.append(_site("bridge", [a, j[p]], [zero, shift[p]], outward))
            for q in close[close > p]:
                if np.linalg.norm(vector[p] - vector[q]) < 1.2 * bond:
                    members, shifts = [a, j[p], j[q]], [zero, shift[p], shift[q]]
                    site = _site("fcc", members, shifts, outward)
                    if _atom_below(slab, site.centre(slab), bond):
                        site = _site("hcp", members, shifts, outward)
                    sites.append(site)
        for p in np.flatnonzero(mine & ~near):  # across the diagonal of a (100) square
            corners = [q for q in close if np.linalg.norm(vector[q] - vector[p] / 2) < 0.85 * bond]
            if len(corners) == 2:
                members = [a, j[p], *j[corners]]
                shifts = [zero, shift[p], *shift[corners]]
                sites.append(_site("hollow", members, shifts, outward))
    return _without_repeats(sites, slab)


def add_co(
    slab: Atoms,
    sites: list[Site],
    count: int,
    rng: np.random.Generator,
    *,
    kinds: tuple[str, ...] | None = None,
    lift: float = 0.0,
    apart: float = 3.0,
) -> Atoms:
    """Up to `count` CO molecules on random sites whose carbons are at least `apart` Å apart.

    Heights follow the Pt-C bonds of the site; bond lengths vary by 0.03 Å, tilts by some 10
    degrees. `lift` (Å) is the spread of an extra height, for molecules on their way on or off.
    """
    covered = slab.copy()
    carbons: list[np.ndarray] = []
    for site in (sites[k] for k in rng.permutation(len(sites))):
        if len(carbons) == count:
            break
        if kinds is not None and site.kind not in kinds:
            continue
        centre = site.centre(slab)
        touching = slab.positions[site.atoms[0]] + site.shifts[0] @ slab.cell.array
        reach = float(np.linalg.norm(touching - centre))
        height = np.sqrt(max(PT_C_BOND[site.kind] ** 2 - reach**2, 0.25))
        height += rng.normal(0.0, 0.05) + abs(rng.normal(0.0, lift))
        carbon = centre + height * site.normal + rng.normal(0.0, 0.1, 3)
        if carbons and _closest(carbon, np.array(carbons), slab) < apart:
            continue
        axis = site.normal + rng.normal(0.0, 0.12 + 0.3 * lift, 3)
        length = CO_BOND[site.kind] + rng.normal(0.0, 0.03)
        carbons.append(carbon)
        covered += Atoms("CO", [carbon, carbon + length * axis / np.linalg.norm(axis)])
    return covered


def random_co(centre: np.ndarray, length: float, rng: np.random.Generator) -> Atoms:
    """One CO of bond `length` (Å) about `centre` (Å), in a random direction."""
    axis = rng.normal(size=3)
    half = 0.5 * length * axis / np.linalg.norm(axis)
    return Atoms("CO", [centre - half, centre + half])


def _site(kind: str, atoms: list, shifts: list, outward: np.ndarray) -> Site:
    normal = outward[atoms].sum(axis=0)
    return Site(
        kind, tuple(int(a) for a in atoms), np.array(shifts), normal / np.linalg.norm(normal)
    )


def _atom_below(slab: Atoms, centre: np.ndarray, bond: float) -> bool:
    vectors, _ = get_distances([centre], slab.positions, cell=slab.cell, pbc=[True, True, False])
    sideways = np.linalg.norm(vectors[0, :, :2], axis=1)
    depth = -vectors[0, :, 2]
    return bool(np.any((sideways < 0.3 * bond) & (depth > 0.3 * bond) & (depth < 1.2 * bond)))


def _without_repeats(sites: list[Site], slab: Atoms) -> list[Site]:
    seen, unique = set(), []
    for site in sites:
        scaled = slab.cell.scaled_positions(site.centre(slab))
        key = (site.kind, *np.round((scaled[:2] + 1e-6) % 1.0, 4), round(float(scaled[2]), 4))
        if key not in seen:
            seen.add(key)
            unique.append(site)
    return unique


def _closest(point: np.ndarray, others: np.ndarray, slab: Atoms) -> float:
    _, distances = get_distances([point], others, cell=slab.cell, pbc=slab.pbc)
    return float(distances.min())
