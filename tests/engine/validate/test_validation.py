"""A validation of small embedded-atom pairs, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk

from duetto.cli.main import main
from duetto.errors import InputError, RunStopped
from duetto.experts.eam.setfl import read_setfl
from duetto.experts.pair import ExpertPair
from duetto.potential.terms import mixture_terms
from duetto.validate import bulk as bulk_response
from duetto.validate import curved, phonons, seam, warm
from duetto.validate.certificate import smallest_region
from duetto.validate.config import load_validation
from duetto.validate.seam import mixture_terms_of
from duetto.validate.subject import Subject, half
from duetto.validate.validation import case_of
from tests.engine.experts.eam.tables import setfl_text

WITH_BOTH = ("bulk_modulus_gpa", "c11_gpa", "c12_gpa", "c44_gpa", "vacancy_formation_ev")


def expert(folder: Path, repulsion: float):
    path = folder / f"{repulsion}.eam.alloy"
    path.write_text(setfl_text("eam/alloy", 1, repulsion))
    return read_setfl(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair of equal experts, one of unlike ones, and a configuration."""
    path = tmp_path_factory.mktemp("validation")
    hf, lf = expert(path, 12.0), expert(path, 12.6)
    ExpertPair(hf, hf, {}).save(path / "equal.duetto")
    ExpertPair(hf, lf, {}).save(path / "unlike.duetto")
    ase.io.write(path / "cell.extxyz", bulk("Pt", "fcc", a=3.32, cubic=True) * (2, 2, 6))
    (path / "validate.yaml").write_text(
        """
structure: cell.extxyz
pair: equal.duetto
independent: unlike.duetto
regions: {complex: {slab: {axis: z, min: -0.1, max: 9.9}}}
crystal: fcc:Pt:3.32
reference: {source: nowhere, bulk_modulus_gpa: 300.0}
vacancy_repeat: [2, 2, 4]
seam: {repeat: [1, 1, 8], temperatures_K: [0, 200], warm_up_steps: 20, snapshots: 2,
       steps_between: 10, timestep_fs: 1.0}
dynamics: {timestep_fs: 1.0, temperature_K: 200, warm_up_steps: 10, steps: 20, snapshots: 2}
"""
    )
    return path


def test_equal_experts_agree_and_unlike_ones_do_not(folder, capsys):
    assert main(["validate", str(folder / "validate.yaml"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((folder / "validation" / "validate.json").read_text())
    other = report["independent"]
    for key in WITH_BOTH:
        # float64 sums in another order, differences over strains of 0.004
        assert report[key]["lf"] == pytest.approx(report[key]["hf"], rel=1e-6)
        assert report[key]["mixture"] == pytest.approx(report[key]["hf"], rel=1e-4)
        assert other[key]["lf"] != pytest.approx(other[key]["hf"], rel=1e-3)
    assert report["bulk_modulus_gpa"]["reference"] == 300.0
    assert "reference" not in report["c11_gpa"]
    for region in ("complex", "simple"):
        assert report["force_rmse_mev_per_angstrom"][region] < 1e-9
        assert other["force_rmse_mev_per_angstrom"][region] > 0.1
    for cold, apart in zip(report["seam"], other["seam"], strict=True):
        assert cold["force_jump_mev_per_angstrom"] < 1e-6 < apart["force_jump_mev_per_angstrom"]
        assert cold["stress_jump_mpa"] < 1e-6 < apart["stress_jump_mpa"]
    hot = other["seam"][1]
    assert (hot["snapshots"], hot["snapshots_apart_fs"]) == (2, 10.0)
    for key, error in hot["standard_error"].items():
        assert error > 0, key
    assert "pressure_gpa" in hot["standard_error"]
    assert hot["lattice_constant_angstrom"] != other["seam"][0]["lattice_constant_angstrom"]
    rows = hot["force_error"][0]
    assert hot["force_jump_mev_per_angstrom"] == max(rows["error_mev_per_angstrom"])
    assert len(rows["standard_error_mev_per_angstrom"]) == len(rows["depth_angstrom"])
    deep = [
        error
        for depth, error in zip(rows["depth_angstrom"], rows["error_mev_per_angstrom"], strict=True)
        if depth > 0
    ]
    assert rows["largest_inside_mev_per_angstrom"] == max(deep)
    assert "standard_error" not in other["seam"][0]
    assert report["provenance"]["command"].startswith("duetto validate ")
    # Equal experts are one: its pressure, which Newton's steps bring below 1e-3 MPa.
    assert report["interface_stress_mpa"] < 1e-2 < 10 < other["interface_stress_mpa"]
    drift = report["nve_drift_mev_per_atom_per_ps"]
    assert drift["mixture"] == pytest.approx(drift["hf"], abs=1e-6)


def test_a_hot_seam_is_in_a_crystal_without_pressure(folder):
    config = load_validation(folder / "validate.yaml", ["seam.snapshots=5"])
    case = case_of(config, config.pair)
    case.found.update(bulk_response.measure(case))
    cold = seam.without_stress(case).repeat((2, 2, 2))
    temperature = 300.0

    def pressure(crystal) -> tuple[float, float]:
        """Of a longer run than those that found the size; blocks of 200 fs forget each other."""
        blocks = warm.pressures(case, crystal, temperature, 1000).reshape(5, -1).mean(axis=1)
        return float(blocks.mean()), float(blocks.std(ddof=1) / 5**0.5)

    squeezed, _ = pressure(cold)
    hot = warm.expanded(case, cold, temperature)
    left, error = pressure(hot)
    # What the last round's shorter run left open is 1000/400 of this one's square.
    assert abs(left) < 4 * error * (1 + 1000 / 400) ** 0.5 < squeezed
    instants, means = warm.snapshots(case, hot, temperature)
    assert len(instants) == len(means) == 5
    assert all(np.isfinite(means))
    assert all((a.cell.array == hot.cell.array).all() for a in instants)
    assert not np.allclose(instants[0].positions, instants[1].positions)


def test_a_temperature_that_no_crystal_stands_is_refused(folder):
    config = load_validation(folder / "validate.yaml", [])
    case = case_of(config, config.pair)
    case.found["bulk_modulus_gpa"] = {"lf": 1.0}  # far below what 300 K make of pressure
    with pytest.raises(RunStopped, match=r"seam at 300 K.*seam\.temperatures_K"):
        warm.expanded(case, case.crystal.repeat((2, 2, 2)), 300.0)


def test_page_and_pictures_come_with_the_report(folder, capsys):
    words = ["seam.temperatures_K=[0]", "dynamics.warm_up_steps=0", "dynamics.steps=10"]
    out = folder / "again"
    assert main(["validate", str(folder / "validate.yaml"), f"output.dir={out}", *words]) == 0
    page = (out / "validation.md").read_text()
    assert capsys.readouterr().out.strip() == page.strip()
    assert "within: {distance: 4.7}" in page
    for name in ("equation_of_state.png", "seam.png"):
        assert name in page
        assert (out / name).read_bytes()[:4] == b"\x89PNG"


def test_layers_sum_to_the_whole(folder):
    """The layers' virials are shares of the mixture's."""
    subject = Subject(ExpertPair(expert(folder, 12.0), expert(folder, 12.4), {}))
    atoms = bulk("Pt", "fcc", a=3.3, cubic=True) * (1, 1, 6)
    atoms.rattle(0.05, seed=1)
    weights = half(bulk("Pt", "fcc", a=3.3, cubic=True) * (1, 1, 6))
    chosen = np.arange(len(atoms)) % 3
    groups = [mixture_terms(weights)]
    groups += [mixture_terms_of(weights, chosen == k) for k in range(3)]
    whole, *parts = subject.evaluate_terms(atoms, groups)
    total = sum(part.virial.numpy() for part in parts)
    np.testing.assert_allclose(total, whole.virial.numpy(), atol=1e-10)
    assert abs(whole.virial).max() > 1.0


def test_half_is_half_and_blends_beyond():
    crystal = bulk("Pt", "fcc", a=4.0, cubic=True) * (1, 1, 8)
    sharp, soft = half(crystal), half(crystal, 5.0)
    assert sharp.sum() == len(crystal) / 2
    assert set(sharp) == {0.0, 1.0}
    assert (soft[sharp == 1] == 1).all()
    # Two layers, 2 and 4 Å away, on either side.
    assert ((soft > 0) & (soft < 1)).sum() == 4 * 2


def test_a_certificate_holds_with_two_standard_errors():
    row = {"blend_angstrom": 0.0, "depth_angstrom": [2, 4, 6], "error_mev_per_angstrom": [9, 6, 4]}
    assert smallest_region([row], 6.5, 3.0) == (4.0, 0.0)
    unsure = row | {"standard_error_mev_per_angstrom": [0.5, 0.4, 0.3]}
    assert smallest_region([unsure], 6.5, 3.0) == (6.0, 0.0)
    assert smallest_region([unsure], 4.5, 3.0) is None


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [(5.0, (6.0, 0.0)), (2.0, (6.0, 2.0)), (10.0, (4.5, 0.0)), (0.1, None)],
)
def test_smallest_region(tolerance, expected):
    sharp = {"blend_angstrom": 0.0, "depth_angstrom": [-2, 2, 4, 6, 8]}
    soft = {"blend_angstrom": 2.0, "depth_angstrom": [-2, 2, 4, 6, 8]}
    sharp["error_mev_per_angstrom"] = [20.0, 9.0, 6.0, 4.0, 3.0]
    soft["error_mev_per_angstrom"] = [15.0, 1.0, 3.0, 1.5, 1.0]
    assert smallest_region([sharp, soft], tolerance, 4.45) == expected


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("crystal=hcp:Pt:2.8", "not a cube"),
        ("crystal=fcc:Xx:3.3", "crystal fcc:Xx:3.3: there is no element Xx"),
        ("crystal=fcc:Pt:-3.3", "lattice constant -3.3; allowed: above 0"),
        ("crystal=fcc:Pt:nan", "lattice constant nan; allowed: above 0"),
        ("crystal=fcc:Cu:3.3", "Cu is unknown"),
        ("pair=none.duetto", "no such pair file"),
        ("seam.blends_A=[3, 1]", "ascending"),
        ("seam.tolerances=1", "unknown key"),
        ("dtype=float32", "float64"),
        ("dynamics={seeds: 2, steps: 100}", "too few"),
        ("crystal=fcc:Pt:4.4", "no minimum of the energy within 3% of a = 4.4 Å; give the crystal"),
        ("crystal=fcc:Pt:abc", "lattice constant abc; allowed: above 0, in Å, such as 3.98"),
        ("independent=equal.duetto", "holds the same experts as pair; allowed: a pair that was"),
        ("regions.complex=none", "regions: no complex atom (w = 1) among the 96 of cell.extxyz"),
        ("regions.complex=all", "regions: no simple atom (w = 0) among the 96 of cell.extxyz"),
        ("regions.blend={width: 9}", "regions: no simple atom (w = 0)"),
        ("dynamics.snapshots=21", "snapshots: 21 are more than the steps, 20"),
        ("seam.blends_A=[0, 6.8]", "seam.blends_A: 6.8 Å leave no simple atom in 8 cells"),
        ("seam.repeat=[1, 1, 2]", "too short for two seams: between them are 3.32 Å, within the"),
        ("output.dir=two\nlines", "has a line break; allowed: text on one line"),
        ("surface={sites: {}}", "surface.sites: got {}; allowed: a mapping of at least 1 entry"),
    ],
)
def test_what_cannot_be_validated(folder, capsys, word, said):
    assert main(["validate", str(folder / "validate.yaml"), "output.dir=bad", word]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert error.startswith("duetto: error: ")
    assert not (folder / "bad").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("vacancy_repeat=[1, 1, 1]", "no simple atom is left beside the vacancy"),
        ("vacancy_repeat=[1, 1, 2]", "no complex atom is left beside the vacancy"),
        ("phonon_repeat=[1, 1, 1]", "holds one atom, whose images move with it"),
    ],
)
def test_cells_in_which_nothing_is_left(folder, word, said):
    """A simple cubic cell has one atom: what fcc survives as a poor crystal means nothing here."""
    with pytest.raises(InputError, match=said):
        case_by(folder, ["crystal=sc:Pt:2.7", "seam.repeat=[1, 1, 10]", word])
    case_by(folder, ["crystal=sc:Pt:2.7", "seam.repeat=[1, 1, 10]", "vacancy_repeat=[2, 1, 2]"])
    case_by(folder, ["vacancy_repeat=[1, 1, 1]", "seam.blends_A=[0, 6.6]"])


@pytest.mark.parametrize(
    "name", ["validate.json", "validation.md", "equation_of_state.png", "seam.png", "runs.png"]
)
def test_a_folder_in_a_file_s_place_is_seen_first(folder, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr("duetto.validate.validation._crystal", lambda *_: pytest.fail("too late"))
    (tmp_path / name).mkdir()
    assert main(["validate", str(folder / "validate.yaml"), f"output.dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / name} is a folder where a file will be written" in error
    assert len(error.splitlines()) == 1


def test_a_file_in_the_runs_place_is_seen_first(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("duetto.validate.validation._crystal", lambda *_: pytest.fail("too late"))
    (tmp_path / "runs").touch()
    assert main(["validate", str(folder / "validate.yaml"), f"output.dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'runs'} is no folder that can be written into" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_file_in_the_output_s_place_is_seen_first(folder, tmp_path, capsys, monkeypatch, below):
    monkeypatch.setattr("duetto.validate.validation._crystal", lambda *_: pytest.fail("too late"))
    (tmp_path / "file").touch()
    word = f"output.dir={tmp_path / 'file' / below}"
    assert main(["validate", str(folder / "validate.yaml"), word]) == 2
    assert "file is a file; allowed: a folder" in capsys.readouterr().err


def test_phonons_are_those_of_frozen_planes(folder):
    """At X the planes of fcc move against each other: one displaced cell gives the frequency."""
    pytest.importorskip("phonopy")
    words = ["phonon_repeat=[2, 2, 2]"]
    case = case_by(folder, words)
    case.found["lattice_constant_angstrom"] = {"hf": 3.32, "lf": 3.32}
    found = phonons.measure(case)["phonon_thz"]["X"]
    for who in ("hf", "lf"):
        expected = sorted(_frozen(case.subject, who, axis) for axis in (0, 1, 2))
        # Planes 0.02 Å apart from where they were: cubic forces are (0.02 Å)² over some (0.5 Å)²
        # of the linear ones, half of that in a frequency
        np.testing.assert_allclose(np.abs(found[who]), expected, rtol=8e-4)
    assert found["largest_difference"] < 1e-9


def _frozen(subject, who, axis):
    """THz of alternating planes along z moving along an axis, from forces at ±0.01 Å."""
    crystal = bulk("Pt", "fcc", a=3.32, cubic=True) * (2, 2, 2)
    upper = np.rint(crystal.positions[:, 2] / 1.66).astype(int) % 2 == 1
    forces = []
    for sign in (1, -1):
        moved = crystal.copy()
        moved.positions[:, axis] += 0.01 * sign * np.where(upper, 1, -1)
        weights = np.full(len(moved), float(who == "hf"))
        forces.append(subject.evaluate(moved, weights).forces.numpy()[upper, axis].mean())
    stiffness = -(forces[0] - forces[1]) / 0.02  # eV/Å²
    mass = crystal.get_masses()[0]
    return np.sqrt(abs(stiffness) * units._e / (mass * units._amu) * 1e20) / (2 * np.pi) / 1e12


def test_curved_seams_of_equal_and_unlike_experts(folder):
    equal = curved.measure(cell_found(case_by(folder, ["seam.radius_A=3"])))["curved_seam"]
    unlike = curved.measure(cell_found(case_by(folder, ["seam.radius_A=3", "pair=unlike.duetto"])))[
        "curved_seam"
    ]
    for shape in ("sphere", "cylinder"):
        assert 0 < equal[shape]["complex_atoms"] < equal[shape]["atoms"]
        assert equal[shape]["residual_force_mev_per_angstrom"] < 1e-9
        # One expert's pressure, below 1e-3 MPa after Newton's steps; the share of a shell's
        # centres is its own for none but a perfect crystal's.
        assert equal[shape]["interface_stress_mpa"] < 1e-2
        assert unlike[shape]["residual_force_mev_per_angstrom"] > 1.0
        assert unlike[shape]["interface_stress_mpa"] > 10.0


TWO_STARTS = (
    "independent=null",
    "seam.temperatures_K=[0]",
    "dynamics={seeds: 2, steps: 200, blocks: 2, sample_every: 2, warm_up_steps: 10}",
)


def _not_again(*_):
    raise AssertionError("a finished run was computed again")


def test_a_finished_run_is_taken_up(folder, tmp_path, capsys, monkeypatch):
    words = [str(folder / "validate.yaml"), *TWO_STARTS, f"output.dir={tmp_path}", "--json"]
    assert main(["validate", *words]) == 0
    first = json.loads(capsys.readouterr().out)
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 4
    assert (tmp_path / "runs.png").read_bytes()[:4] == b"\x89PNG"
    assert first["statistics"]["runs"] == 2
    monkeypatch.setattr("duetto.validate.dynamics._constant_energy", _not_again)
    assert main(["validate", *words]) == 0
    assert json.loads(capsys.readouterr().out) == first


def case_by(folder, words):
    config = load_validation(folder / "validate.yaml", words)
    return case_of(config, config.pair)


def cell_found(case):
    case.found.update(bulk_response.measure(case))
    return case
