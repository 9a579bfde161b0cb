"""What an ASE calculator, such as the one that labelled the data, says of a crystal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import LBFGS

from duetto.errors import RunStopped
from duetto.measure.errors.crystal import equation_of_state
from duetto.validate.bulk import at_length
from duetto.validate.elastic import cubic_constants
from duetto.validate.subject import MOST_RELAXATION_STEPS
from duetto.validate.vacancy import LARGEST_FORCE


def reference(
    calculator: Calculator, crystal: Atoms, repeat: tuple[int, int, int]
) -> dict[str, float]:
    """The values of `reference` in a validation, by the definitions of `duetto validate`.

    Args:
        calculator: with energy, forces and stress.
        crystal: one conventional cubic cell whose atoms are at rest by symmetry, within some 3 %
            of its equilibrium.
        repeat: cells of the crystal that lacks an atom.

    Returns:
        `lattice_constant_angstrom`, `bulk_modulus_gpa`, `c11_gpa`, `c12_gpa`, `c44_gpa`,
        `vacancy_formation_ev`.

    Raises:
        InputError: the energy has no minimum nearby.
        RunStopped: the crystal with a vacancy does not come to rest.
    """

    def with_it(atoms: Atoms) -> Atoms:
        atoms = atoms.copy()
        atoms.calc = calculator
        return atoms

    def energy(atoms: Atoms) -> float:
        return float(with_it(atoms).get_potential_energy())

    def stress(atoms: Atoms) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = with_it(atoms).get_stress()
        return found

    state = equation_of_state(energy, crystal, str(crystal.symbols))
    crystal = at_length(crystal, state["lattice_constant_angstrom"])
    whole = crystal.repeat(repeat)
    without = with_it(whole[1:])
    if not LBFGS(without, logfile=None).run(fmax=LARGEST_FORCE, steps=MOST_RELAXATION_STEPS):
        raise RunStopped(f"{whole.symbols} less one: forces stay above {LARGEST_FORCE} eV/Å")
    return {
        "lattice_constant_angstrom": state["lattice_constant_angstrom"],
        "bulk_modulus_gpa": state["bulk_modulus_gpa"],
        **cubic_constants(stress, crystal),
        "vacancy_formation_ev": float(without.get_potential_energy())
        - (len(whole) - 1) / len(whole) * energy(whole),
    }
