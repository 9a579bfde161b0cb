"""Structures to measure on: bulk platinum, and a platinum slab with CO, of any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.partition.regions.partition import Blend

LATTICE_CONSTANT = 3.974
"""Å, platinum, of the potential's reference, CHGNet 0.3."""

_RATTLE = 0.05
"""Å, standard deviation of each coordinate, somewhat less than platinum's at 300 K."""
_PT_C, _C_O = 1.86, 1.157
"""Å, bond lengths of upright CO on top of a platinum atom."""
_VACUUM = 10.0


def bulk_platinum(n_atoms: int, seed: int = 0) -> Atoms:
    """Face-centred cubic platinum, rattled, in the most cube-like cell within 3 % of `n_atoms`."""
    cells = max(n_atoms / 4.0, 1.0)
    best: tuple[int, int, int] = (1, 1, round(cells))
    for a in range(1, round(cells ** (1 / 3)) + 2):
        for b in range(a, int((cells / a) ** 0.5) + 2):
            shape = (a, b, max(round(cells / (a * b)), 1))
            if _misfit(shape, cells) < _misfit(best, cells):
                best = shape
    atoms = bulk("Pt", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat(best)
    return _rattled(atoms, seed)


def _misfit(shape: tuple[int, int, int], cells: float) -> tuple[float, float]:
    """Excess over 3 % in the number of cells first, then elongation."""
    excess = max(abs(shape[0] * shape[1] * shape[2] / cells - 1.0) - 0.03, 0.0)
    return excess, max(shape) / min(shape)


def platinum_with_co(n_atoms: int, seed: int = 0, layers: int | None = None) -> Atoms:
    """A Pt(111) slab with a quarter monolayer of CO on its upper side, about `n_atoms`, rattled.

    Periodic in x and y. Thicker slabs are wider too: a cube above some thousand atoms, unless the
    number of `layers` is given.
    """
    if layers is None:
        layers = max(4, round(0.75 * n_atoms ** (1 / 3)))
    per_layer = n_atoms / (layers + 0.5)  # two atoms of CO for every fourth platinum on top
    columns = max(2, 2 * round((per_layer * 3**0.5 / 2) ** 0.5 / 2))
    rows = max(2, 2 * round(per_layer / columns / 2))
    slab = fcc111("Pt", (columns, rows, layers), a=LATTICE_CONSTANT, orthogonal=True)
    top = slab.positions[slab.get_tags() == 1]
    row, column = np.divmod(np.lexsort((top[:, 0], top[:, 1])).argsort(), columns)
    carbon = top[(row % 2 == 0) & (column % 2 == 0)] + np.array([0.0, 0.0, _PT_C])
    oxygen = carbon + np.array([0.0, 0.0, _C_O])
    symbols = list(slab.symbols) + ["C"] * len(carbon) + ["O"] * len(oxygen)
    positions = np.concatenate([slab.positions, carbon, oxygen])
    atoms = Atoms(symbols, positions, cell=slab.cell, pbc=(True, True, False))
    atoms.center(vacuum=_VACUUM, axis=2)
    return _rattled(atoms, seed)


def _rattled(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(scale=_RATTLE, size=atoms.positions.shape)
    return atoms


_SYSTEMS: dict[str, Callable[[int, int], Atoms]] = {"pt": bulk_platinum, "ptco": platinum_with_co}
SPECIES = ("Pt", "C", "O")
"""What the experts of every structure know, so that all can be measured with the same weights."""


def build_system(name: str, n_atoms: int, seed: int = 0) -> Atoms:
    """The structure called `name` with about `n_atoms` atoms.

    Raises:
        InputError: there is no such structure, or fewer than four atoms are asked for.
    """
    if name not in _SYSTEMS:
        raise InputError(f"system {name!r}: use one of {', '.join(_SYSTEMS)}")
    if n_atoms < 4:
        raise InputError(f"{n_atoms} atoms: use at least 4")
    return _SYSTEMS[name](n_atoms, seed)


def complex_weights(atoms: Atoms, fraction: float, blend: float = 0.0) -> NDArray[np.float64]:
    """Weights (A,): 1 for the highest `fraction` of the atoms along z, 0 for the others.

    With a `blend` of so many Å, weights fall to 0 over that distance from the complex atoms.

    Raises:
        InputError: the fraction is not between 0 and 1, or the width is negative.
    """
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"complex fraction {fraction}: use a number from 0 to 1")
    if not 0.0 <= blend < 1000.0:
        raise InputError(f"blend width {blend} Å: use a number from 0 to 1000")
    n_complex = round(fraction * len(atoms))
    weights = np.zeros(len(atoms))
    weights[np.argsort(-atoms.positions[:, 2], kind="stable")[:n_complex]] = 1.0
    if blend > 0.0 and n_complex:
        return Blend(blend).weights(weights == 1.0, atoms)
    return weights
