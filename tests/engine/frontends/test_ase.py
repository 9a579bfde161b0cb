"""The ASE calculator and the public Python API."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS

import duetto
from duetto.potential.cpu import CPUBackend
from tests.pairs import mismatched_pair
from tests.structures import structures

REGIONS = {"complex": {"slab": {"axis": "z", "min": 4.0}}, "blend": {"width": 2.0}}


def calculator(**settings) -> duetto.DuettoCalculator:
    regions = duetto.Regions.from_dict(REGIONS)
    return duetto.DuettoCalculator(mismatched_pair(), regions=regions, device="cpu", **settings)


def test_the_public_names_import() -> None:
    for name in duetto.__all__:
        assert getattr(duetto, name) is not None
    with pytest.raises(AttributeError, match="Pears"):
        duetto.Pears  # noqa: B018


def test_forces_and_stress_against_finite_differences() -> None:
    atoms = structures()["cubic"]
    atoms.calc = calculator(dtype="float64", backend="auto")
    assert atoms.calc.pair.hf.architecture.r_max > 0
    numeric = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 9, 20])
    # Central differences at 1e-4 Å: truncation about 1e-8 times the third derivative.
    np.testing.assert_allclose(atoms.get_forces()[[0, 9, 20]], numeric, atol=2e-6)
    # The regions are words about positions: keep the partition of the unstrained cell.
    stress = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=2e-7)


def test_the_partition_stays_while_atoms_move_and_is_resolved_anew_on_request() -> None:
    atoms = structures()["cubic"]
    atoms.calc = calculator()
    atoms.get_potential_energy()
    before = atoms.calc.potential.weights.copy()
    atoms.positions[:, 2] += 3.0
    atoms.get_potential_energy()
    np.testing.assert_array_equal(atoms.calc.potential.weights, before)
    atoms.calc.repartition()
    atoms.get_potential_energy()
    assert (atoms.calc.potential.weights != before).any()


def test_energies_sum_to_the_energy_and_cluster_has_no_stress() -> None:
    atoms = structures()["cluster_no_cell"]
    atoms.calc = calculator()
    assert atoms.get_potential_energies().sum() == pytest.approx(
        atoms.get_potential_energy(), abs=1e-12
    )
    assert "stress" not in atoms.calc.results


def test_float32_is_close_and_one_expert_is_enough() -> None:
    atoms = bulk("Pt", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=2)
    pair = mismatched_pair()
    for alone in (duetto.ExpertPair(pair.hf, None), duetto.ExpertPair(None, pair.lf)):
        atoms.calc = duetto.DuettoCalculator(alone)
        exact = atoms.get_forces()
        atoms.calc = duetto.DuettoCalculator(alone, dtype="float32")
        np.testing.assert_allclose(atoms.get_forces(), exact, atol=2e-5 * np.abs(exact).max())


def test_an_optimiser_lowers_the_energy() -> None:
    atoms = structures()["cubic"]
    atoms.calc = calculator()
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.0, steps=8)
    assert atoms.get_potential_energy() < start


def test_the_first_structure_is_compared_with_the_reference(monkeypatch) -> None:
    real = CPUBackend.evaluate

    def wrong(self, *arguments, **options):
        found = real(self, *arguments, **options)
        return [replace(one, forces=1.01 * one.forces) for one in found]

    monkeypatch.setattr(CPUBackend, "evaluate", wrong)
    atoms = structures()["cubic"]
    with pytest.raises(duetto.RunStopped, match="differs from the reference"):
        calculator().get_forces(atoms)
    assert np.isfinite(calculator(self_check=False).get_forces(atoms)).all()
