"""Textbook values of the labelling calculator: does it behave like Pt and CO?"""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.eos import EquationOfState
from ase.optimize import BFGS

from ptco.adsorbates import CO_BOND, PT_C_BOND, Site, surface_sites
from ptco.structures import recentred, slab


def equation_of_state(calculator: Calculator, guess: float = 3.95) -> dict[str, float]:
    """Lattice constant (Å) and bulk modulus (GPa) of fcc Pt: Birch-Murnaghan, ±2 % in length."""
    for _ in range(2):
        volumes, energies = [], []
        for factor in np.linspace(0.98, 1.02, 9):
            atoms = bulk("Pt", a=guess * factor, cubic=True)
            atoms.calc = calculator
            volumes.append(atoms.get_volume())
            energies.append(atoms.get_potential_energy())
        volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
        guess = float(volume ** (1 / 3))
    return {"lattice_constant": guess, "bulk_modulus_GPa": float(modulus / units.GPa)}


def pressure_modulus(calculator: Calculator, lattice_constant: float) -> dict[str, float]:
    """Bulk modulus (GPa) from the pressure, -V dP/dV where a parabola P(V) crosses zero.

    Less sensitive than the energy fit to the rounding of a float32 calculator.
    """
    volumes, pressures = [], []
    for factor in np.linspace(0.99, 1.01, 9):
        atoms = bulk("Pt", a=lattice_constant * factor, cubic=True)
        atoms.calc = calculator
        volumes.append(atoms.get_volume() / lattice_constant**3)
        pressures.append(-atoms.get_stress()[:3].mean())
    curve = np.poly1d(np.polyfit(volumes, pressures, 2))
    zero = min(curve.roots.real, key=lambda volume: abs(volume - 1.0))
    return {"bulk_modulus_pressure_GPa": float(-zero * curve.deriv()(zero) / units.GPa)}


def carbon_monoxide(calculator: Calculator) -> dict[str, float]:
    """Bond length (Å) and energy (eV) of CO in a box of 14 Å."""
    atoms = Atoms("CO", [[6.4, 7, 7], [7.55, 7, 7]], cell=[14] * 3, pbc=True)
    _relax(atoms, calculator)
    return {"co_bond": float(atoms.get_distance(0, 1)), "co_energy": _energy(atoms)}


def adsorption(calculator: Calculator, lattice_constant: float, co_energy: float) -> dict:
    """Adsorption energies (eV) of one CO on p(3x3) Pt(111), four layers, the lower two fixed."""
    clean = slab("111", (3, 3, 4), lattice_constant)
    sites = surface_sites(clean, lattice_constant / np.sqrt(2))
    _fix_lower_half(clean)
    _relax(clean, calculator)
    clean_energy = _energy(clean)
    clean.calc = None
    found = {}
    for kind in ("top", "bridge", "fcc", "hcp"):
        site = next(site for site in sites if site.kind == kind)
        covered = recentred(_with_one_co(clean, site))
        _fix_lower_half(covered, n_platinum=len(clean))
        _relax(covered, calculator)
        found[f"adsorption_{kind}"] = _energy(covered) - clean_energy - co_energy
    return found


def _with_one_co(clean: Atoms, site: Site) -> Atoms:
    centre = site.centre(clean)
    reach = np.linalg.norm((clean.positions[site.atoms[0]] - centre)[:2])
    upwards = np.array([0.0, 0.0, 1.0])
    carbon = centre + np.sqrt(PT_C_BOND[site.kind] ** 2 - reach**2) * upwards
    return clean + Atoms("CO", [carbon, carbon + CO_BOND[site.kind] * upwards])


def _fix_lower_half(atoms: Atoms, n_platinum: int | None = None) -> None:
    heights = atoms.positions[:n_platinum, 2]
    below = np.flatnonzero(heights < np.median(heights))
    atoms.set_constraint(FixAtoms(below))


def _relax(atoms: Atoms, calculator: Calculator) -> None:
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.03, steps=100)


def _energy(atoms: Atoms) -> float:
    return float(atoms.get_potential_energy())
