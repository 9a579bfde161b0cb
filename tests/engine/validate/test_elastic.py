"""The crystal's numbers against another code and against what a central pair force must give."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import FIRE

from duetto.measure.errors.crystal import equation_of_state
from duetto.validate.bulk import at_length
from duetto.validate.elastic import cubic_constants, strained
from duetto.validate.reference import reference


def stress_by(make):
    def stress(atoms):
        atoms = atoms.copy()
        atoms.calc = make()
        return atoms.get_stress()

    return stress


def at_rest(make, name, a):
    def energy(atoms):
        atoms = atoms.copy()
        atoms.calc = make()
        return atoms.get_potential_energy()

    crystal = bulk(name, "fcc", a=a, cubic=True)
    found = equation_of_state(energy, crystal, name)
    return at_length(crystal, found["lattice_constant_angstrom"]), found


def test_like_matscipy():
    """ASE's EMT copper; both take differences of stresses, matscipy by a straight line."""
    fit = pytest.importorskip("matscipy.elasticity").fit_elastic_constants
    crystal, _ = at_rest(EMT, "Cu", 3.6)
    mine = cubic_constants(stress_by(EMT), crystal)
    crystal.calc = EMT()
    theirs, _ = fit(crystal, symmetry="cubic", N_steps=5, delta=1e-3, verbose=False)
    theirs = theirs / units.GPa
    for key, (i, j) in {"c11_gpa": (0, 0), "c12_gpa": (0, 1), "c44_gpa": (3, 3)}.items():
        # The line's error is of second order in 2e-3, times some tens.
        assert mine[key] == pytest.approx(theirs[i, j], rel=1e-3)


def test_pair_forces_obey_cauchy_and_the_equation_of_state():
    """Central pair forces without pressure have C12 = C44; B = (C11 + 2 C12) / 3 always."""

    def make():
        # Cut where the potential is smooth, so that stress has no jumps.
        return LennardJones(sigma=2.5, epsilon=0.4, rc=7.0, ro=5.0, smooth=True)

    crystal, state = at_rest(make, "Cu", 3.85)
    found = cubic_constants(stress_by(make), crystal)
    # A fit of energies over ±3 % places the minimum to some 1e-4: a pressure of 0.1 % of B.
    assert found["c12_gpa"] == pytest.approx(found["c44_gpa"], rel=1e-2)
    modulus = (found["c11_gpa"] + 2 * found["c12_gpa"]) / 3
    assert modulus == pytest.approx(state["bulk_modulus_gpa"], rel=1e-2)


def test_a_strain_is_the_engineering_one():
    crystal = bulk("Cu", cubic=True)
    for j in range(6):
        deformation = np.linalg.solve(crystal.cell.array, strained(crystal, j, 0.01).cell.array)
        total = np.triu(deformation - np.eye(3)).sum() + np.tril(deformation, -1).sum()
        assert total == pytest.approx(0.01)


def test_reference_of_a_calculator():
    """EMT copper: its vacancy against FIRE from a disturbed start, the rest as above."""
    crystal, state = at_rest(EMT, "Cu", 3.6)
    found = reference(EMT(), bulk("Cu", a=3.6, cubic=True), (2, 2, 2))
    assert found["lattice_constant_angstrom"] == state["lattice_constant_angstrom"]
    assert found["bulk_modulus_gpa"] == state["bulk_modulus_gpa"]
    constants = cubic_constants(stress_by(EMT), crystal)
    assert {key: found[key] for key in constants} == constants
    whole = crystal.repeat(2)
    whole.calc = EMT()
    without = whole[:-1]
    without.rattle(0.02, seed=1)
    without.calc = EMT()
    assert FIRE(without, logfile=None).run(fmax=5e-4, steps=500)
    energy = without.get_potential_energy() - 31 / 32 * whole.get_potential_energy()
    # Forces of 2e-3 eV/Å on some eV/Å² leave 1e-6 eV an atom.
    assert found["vacancy_formation_ev"] == pytest.approx(energy, abs=31e-6)
