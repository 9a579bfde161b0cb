"""Platinum crystals and slabs, without adsorbates."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc100, fcc111, fcc211

VACUUM = 6.5  # Å on either side of a slab: 13 Å between periodic images
THERMAL_EXPANSION = 1.0e-5  # 1/K, linear, of platinum

_CUBIC = ((2, 2, 2), (2, 2, 3))
_PRIMITIVE = ((3, 3, 3), (3, 3, 4), (3, 4, 4))


def bulk_cell(lattice_constant: float, rng: np.random.Generator, large: float = 0.0) -> Atoms:
    """A perfect crystal of 27 to 48 atoms, or of 108 with probability `large`."""
    if rng.random() < large:
        return bulk("Pt", a=lattice_constant, cubic=True) * (3, 3, 3)
    if rng.random() < 0.5:
        return bulk("Pt", a=lattice_constant, cubic=True) * _CUBIC[rng.integers(len(_CUBIC))]
    return bulk("Pt", a=lattice_constant) * _PRIMITIVE[rng.integers(len(_PRIMITIVE))]


def random_strain(rng: np.random.Generator, largest: float) -> np.ndarray:
    """A symmetric strain, hydrostatic, uniaxial, shear or all at once, up to ±`largest`."""
    strain = np.zeros((3, 3))
    kind = rng.integers(4)
    if kind == 0:
        strain += np.eye(3) * rng.uniform(-largest, largest)
    elif kind == 1:
        axis = rng.integers(3)
        strain[axis, axis] = rng.uniform(-largest, largest)
    elif kind == 2:
        i, j = ((0, 1), (0, 2), (1, 2))[rng.integers(3)]
        strain[i, j] = strain[j, i] = rng.uniform(-largest, largest)
    else:
        strain = rng.uniform(-largest, largest, (3, 3)) / 2
        strain = (strain + strain.T) / 2
    return strain


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """A copy under the homogeneous deformation 1 + strain."""
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return deformed


def debye_amplitude(temperature: float) -> float:
    """Root-mean-square displacement per direction (Å) of Pt above its Debye temperature, 240 K.

    <u²> = 3 ħ² T / (m k θ²), Debye model at high temperature: 0.062 Å at 300 K.
    """
    return 0.0624 * np.sqrt(temperature / 300.0)


def rattled(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> Atoms:
    """A copy with independent normal displacements of `amplitude` Å in each direction."""
    moved = atoms.copy()
    moved.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
    return moved


def slab(kind: str, size: tuple[int, int, int], lattice_constant: float) -> Atoms:
    """A free (111), (100) or (211) slab, periodic in all directions, 13 Å of vacuum."""
    build = {"111": fcc111, "100": fcc100, "211": fcc211}[kind]
    atoms = build("Pt", size, a=lattice_constant, vacuum=VACUUM)
    for name in ("tags", "initial_magmoms"):
        atoms.arrays.pop(name, None)
    atoms.info.clear()
    atoms.pbc = True
    return atoms


def recentred(atoms: Atoms) -> Atoms:
    """A copy whose third cell vector leaves 13 Å of vacuum around whatever is on the slab."""
    centred = atoms.copy()
    centred.center(vacuum=VACUUM, axis=2)
    return centred
