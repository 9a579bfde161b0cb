"""Evaluating a pair on held-out frames, and drawing learning curves."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from tests.engine.cotrain.training import labelled_frames
from tests.pairs import mismatched_pair

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def evaluation() -> ModuleType:
    return _script("evaluate_pair")


@pytest.fixture
def pair() -> ExpertPair:
    return mismatched_pair(zbl=True)


def _labelled_by_hf(atoms: Atoms, pair: ExpertPair, force: float, energy: float) -> Atoms:
    """The frame with the HF expert's own results as labels, made wrong by known amounts."""
    atoms.calc = DuettoCalculator(ExpertPair(pair.hf, None), dtype="float64")
    shifted = atoms.get_forces() + force
    total = atoms.get_potential_energy() + energy * len(atoms)
    atoms.calc = SinglePointCalculator(atoms, energy=total, forces=shifted)
    return atoms


def test_known_errors_are_found(
    evaluation: ModuleType, pair: ExpertPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An untrained expert has no equilibrium.
    platinum = {"lattice_constant_angstrom": 4.0, "bulk_modulus_gpa": 200.0}
    monkeypatch.setattr(evaluation, "equation_of_state", lambda pair, role: platinum)
    frames = [_labelled_by_hf(atoms, pair, 0.05, -0.002) for atoms in labelled_frames(2, 2, 1)]
    write(tmp_path / "ptco_chgnet_test.extxyz.gz", frames)
    shared = [_labelled_by_hf(atoms, pair, 0.0, 0.0) for atoms in labelled_frames(2, 0, 2)]
    for atoms, temperature in zip(shared, ("300K", "900K"), strict=True):
        atoms.info["config_type"] = f"bulk_{temperature}"
    write(tmp_path / "bulk_agreement_test.extxyz.gz", shared)
    result = evaluation.evaluate(pair, tmp_path)

    # Extended XYZ keeps eight decimals, also of positions.
    assert result["hf_on_co_covered"]["forces_mev_per_angstrom"] == pytest.approx(50, rel=1e-4)
    assert result["hf_on_co_covered"]["energy_mev_per_atom"] == pytest.approx(2, rel=1e-4)
    parts = result["hf_by_region"]
    assert sum(part["atoms"] for part in parts.values()) == sum(map(len, frames))
    assert parts["C of CO"]["atoms"] == parts["O of CO"]["atoms"] == 2
    for part in parts.values():
        assert part["forces_mev_per_angstrom"] == pytest.approx(50, rel=1e-4)

    atoms = shared[0]
    hf = atoms.get_forces()
    atoms.calc = DuettoCalculator(ExpertPair(None, pair.lf), dtype="float64")
    difference = np.sqrt(np.mean((hf - atoms.get_forces()) ** 2))
    agreed = result["agreement"]["300K"]
    assert agreed["forces_mev_per_angstrom"] == pytest.approx(1e3 * difference, rel=1e-4)
    percent = 100 * difference / np.sqrt(np.mean(hf**2))
    assert agreed["forces_percent_of_rms"] == pytest.approx(percent, rel=1e-4)

    text = evaluation.markdown({"pair": result, "twin": result})
    assert "| HF on CO-covered frames, forces, meV/Å | 50.0 | 50.0 |" in text


def test_equation_of_state_is_fitted(
    evaluation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def birch_murnaghan(pair: object, role: str, atoms: Atoms) -> tuple[np.ndarray, None]:
        v0, b0, slope = 3.92**3 / 4, 250 * units.GPa, 5.0
        x = (v0 / atoms.get_volume()) ** (2 / 3)
        energy = 9 * v0 * b0 / 16 * ((x - 1) ** 3 * slope + (x - 1) ** 2 * (6 - 4 * x))
        return np.array([energy]), None

    monkeypatch.setattr(evaluation, "evaluate_expert", birch_murnaghan)
    found = evaluation.equation_of_state(None, "hf")
    assert found["lattice_constant_angstrom"] == pytest.approx(3.92, rel=1e-9)
    assert found["bulk_modulus_gpa"] == pytest.approx(250, rel=1e-6)

    monkeypatch.setattr(evaluation, "evaluate_expert", lambda *_: (np.array([0.0]), None))
    with pytest.raises(InputError, match="no minimum"):
        evaluation.equation_of_state(None, "lf")


def test_curves_of_a_resumed_training_are_one(tmp_path: Path) -> None:
    plotting = _script("plot_training")
    names = ("hf_forces_rmse", "lf_forces_rmse", "hf_per_atom_energy_rmse")
    names += ("lf_per_atom_energy_rmse", "agreement_forces_rmse", "agreement_energy_rmse")
    for version, epochs in ((0, (0, 1, 2)), (1, (2, 3))):
        folder = tmp_path / "logs" / f"version_{version}"
        folder.mkdir(parents=True)
        with (folder / "metrics.csv").open("w") as stream:
            writer = csv.DictWriter(stream, ["epoch", *(f"val0_epoch/{name}" for name in names)])
            writer.writeheader()
            writer.writerow({"epoch": epochs[0]})  # a row of a training step
            for epoch in epochs:
                values = {f"val0_epoch/{name}": 0.1 / (epoch + 1 + version) for name in names}
                writer.writerow({"epoch": epoch, **values})
    curves = plotting.read_logs(tmp_path)
    assert curves["hf_forces_rmse"] == pytest.approx({1: 100, 2: 50, 3: 25, 4: 20})
    image = plotting.draw_png(lambda f: plotting.draw(f, curves), width=6.0, height=2.6)
    assert image.startswith(b"\x89PNG")
