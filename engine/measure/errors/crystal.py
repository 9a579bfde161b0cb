"""Lattice constant and bulk modulus of a crystal, by each expert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from duetto.atoms.labels import check_frame, read_frames
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.measure.errors.frames import Evaluator

SCAN = 0.03
"""Largest relative change of lengths in the equation of state; about three times that of volume."""

_POINTS = 13


def read_crystal(text: str, key: str = "--crystal") -> tuple[str, Atoms]:
    """A crystal from `fcc:Pt:3.98` (structure, elements, lattice constant in Å) or from a file.

    Args:
        text: the crystal.
        key: how messages call it.

    Returns:
        Its name and one cell, the conventional one where ASE has it.

    Raises:
        InputError: there is no such structure, or the file cannot be read.
    """
    from ase.build import bulk

    parts = text.split(":")
    if len(parts) != 3:
        if not Path(text).is_file():
            raise InputError(f"{key} {text}: write it as fcc:Pt:3.98, or name a structure file")
        atoms = read_frames(text)[-1]
        check_frame(atoms, text)
        if not atoms.pbc.all() or atoms.cell.rank < 3:
            raise InputError(f"{key} {text}: it is not periodic in three directions")
        return f"{Path(text).name} ({atoms.symbols})", atoms
    structure, name, constant = parts
    try:
        a = _number(constant)
        if not 0.0 < a < np.inf:
            raise ValueError(f"lattice constant {constant}; allowed: above 0, in Å, such as 3.98")
        try:
            return f"{structure} {name}", bulk(name, structure, a=a, cubic=True)
        except RuntimeError:  # no cubic cell: hcp and such
            return f"{structure} {name}", bulk(name, structure, a=a)
    except KeyError as error:
        raise InputError(f"{key} {text}: there is no element {error.args[0]}") from error
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{key} {text}: {error}") from error


def _number(text: str) -> float:
    """Not a number where the text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def equations_of_state(pair: ExpertPair, name: str, crystal: Atoms) -> dict[str, Any]:
    """Lattice constant and bulk modulus by every expert that knows the crystal's species."""
    evaluator = Evaluator(pair)
    known = [r for r, e in pair.experts.items() if set(crystal.symbols) <= set(e.species)]
    if not known:
        raise InputError(f"--crystal: {name}: the pair knows {', '.join(pair.species)}")
    found: dict[str, Any] = {"name": name}
    for role in known:

        def energy(atoms: Atoms, role: str = role) -> float:
            return float(evaluator.expert(role, atoms).energies.sum())

        found[role] = equation_of_state(energy, crystal, f"{role}, {name}")
    return found


def equation_of_state(
    energy: Callable[[Atoms], float], crystal: Atoms, where: str
) -> dict[str, float]:
    """Lattice constant and bulk modulus, by a Birch-Murnaghan fit of energies.

    That equation is a cubic polynomial of x = V^(-2/3) (Birch, Phys. Rev. 71, 809, 1947). The
    cell is scaled as a whole, atoms within it are not relaxed.

    Args:
        energy: eV of a structure.
        crystal: one cell, within some 3 % of its equilibrium.
        where: how messages call it.

    Returns:
        `lattice_constant_angstrom` (the length of the first cell vector), `volume_angstrom3` per
        atom, `energy_ev` per atom, `bulk_modulus_gpa`.

    Raises:
        InputError: the energy has no minimum there.
    """
    scale = 1.0
    for _ in range(2):  # the second time around the minimum itself
        crystals = [_scaled(crystal, scale * (1 + s)) for s in np.linspace(-SCAN, SCAN, _POINTS)]
        energies = [energy(atoms) for atoms in crystals]
        x = np.array([atoms.get_volume() for atoms in crystals]) ** (-2 / 3)
        curve = np.polynomial.Polynomial.fit(x, energies, 3)
        slope, curvature = curve.deriv(), curve.deriv(2)
        roots = [float(r.real) for r in slope.roots() if abs(r.imag) < 1e-12]
        minima = [r for r in roots if curvature(r) > 0 and x.min() < r < x.max()]
        if not minima:
            a = scale * crystal.cell.lengths()[0]
            raise InputError(
                f"{where}: no minimum of the energy within {SCAN:.0%} of a = {a:g} Å; give the "
                "crystal a lattice constant nearer to the expert's own, such as the one it learnt"
            )
        volume = minima[0] ** (-3 / 2)
        scale = (volume / float(crystal.get_volume())) ** (1 / 3)
    # dE/dx is zero there, so V d²E/dV² has one term, with dx/dV = −2x / 3V.
    modulus = volume * float(curvature(minima[0])) * (2 * minima[0] / (3 * volume)) ** 2
    return {
        "lattice_constant_angstrom": scale * float(crystal.cell.lengths()[0]),
        "volume_angstrom3": volume / len(crystal),
        "energy_ev": float(curve(minima[0])) / len(crystal),
        "bulk_modulus_gpa": modulus / units.GPa,
    }


def _scaled(crystal: Atoms, factor: float) -> Atoms:
    atoms = crystal.copy()
    atoms.set_cell(crystal.cell.array * factor, scale_atoms=True)
    return atoms
