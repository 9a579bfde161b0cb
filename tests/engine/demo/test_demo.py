"""`duetto demo`: its numbers against independent ones, its files, its answers to bad input."""

import json
import os
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from duetto import DuettoCalculator, ExpertPair
from duetto.atoms.structure import read_structure
from duetto.cli.main import main
from duetto.demo.comparison import compare, layers
from duetto.demo.demonstration import DemoSettings, run_demo
from duetto.demo.dynamics import NVERecord, Snapshot
from duetto.demo.example import example_folder
from duetto.demo.summary import closing_lines
from duetto.demo.timing import NAMES, Speed
from duetto.errors import InputError
from duetto.measure.turns import StepTimes, Timing
from duetto.partition.regions import RegionCounts, Regions, count_regions
from duetto.run.config import load_config
from duetto.run.folder import CHECKPOINT
from duetto.run.thermo import read_thermo
from tests.linear_experts import random_expert
from tests.pairs import SPECIES, high_fidelity, low_fidelity

KEYS = {
    "n_atoms", "n_complex", "n_blend", "n_simple", "backend", "device", "dtype", "timestep_fs",
    "steps", "nve_drift_mev_per_atom_per_ps", "momentum_max",
    "force_rmse_vs_full_hf_mev_per_angstrom", "energy_error_vs_full_hf_mev_per_atom", "step_ms",
    "speedup_vs_full_hf", "speedup_ideal",
}  # fmt: skip

CONFIG = """
structure: slab.xyz
pair: pair.duetto
regions: {complex: {layers: {axis: z, top: 2}}, blend: {width: 3.0}}
device: cpu
dtype: float64
timestep_fs: 0.5
initial_temperature_K: 100
stages:
  - {ensemble: langevin, steps: 4, temperature_K: 100}
  - {ensemble: nve, steps: 20}
output: {dir: run, thermo_every: 1, trajectory_every: 10}
limits: {temperature_K: null, energy_drift_meV_per_atom: null}
"""


def slab() -> Atoms:
    """Five layers of a square lattice with an adsorbate, periodic in the plane."""
    sites = np.stack(np.meshgrid(range(3), range(3), range(5), indexing="ij"), -1).reshape(-1, 3)
    atoms = Atoms("Pt45", 2.6 * sites, cell=[7.8, 7.8, 30.0], pbc=(True, True, False))
    return atoms + Atoms("CO", [[0.0, 0.0, 12.2], [0.0, 0.0, 13.4]])


def write_example(folder: Path, pair: ExpertPair) -> DemoSettings:
    ase.io.write(folder / "slab.xyz", slab(), format="extxyz")
    pair.save(folder / "pair.duetto")
    (folder / "demo.yaml").write_text(CONFIG)
    (folder / "large.yaml").write_text(CONFIG)
    return DemoSettings(folder / "out", folder=folder, timing_rounds=2)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A demonstration with random experts: its settings and its report."""
    pair = ExpertPair(high_fidelity(), low_fidelity())
    settings = write_example(tmp_path_factory.mktemp("demo"), pair)
    return settings, run_demo(settings, say=lambda line: None)


def test_the_report_has_every_key_and_only_numbers_that_json_knows(shown):
    settings, report = shown
    assert set(report) >= KEYS
    assert set(report["force_rmse_vs_full_hf_mev_per_angstrom"]) >= {"complex", "simple", "all"}
    assert set(report["step_ms"]) == {"mixture", "full_hf", "full_lf"}
    text = (settings.output / "report.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == report
    assert report["steps"] == 20
    assert report["provenance"]["versions"]["torch"] == str(torch.__version__)


def test_the_regions_are_those_of_the_configuration(shown):
    _, report = shown
    weights = Regions.from_dict(
        {"complex": {"layers": {"axis": "z", "top": 2}}, "blend": {"width": 3.0}}
    ).weights(slab())
    expected = count_regions(weights)
    assert expected.n_blend > 0
    assert (report["n_atoms"], report["n_complex"]) == (47, expected.n_complex)
    assert (report["n_blend"], report["n_simple"]) == (expected.n_blend, expected.n_simple)


def test_the_mixtures_run_is_what_duetto_run_computes(shown):
    settings, _ = shown
    assert main(["run", str(settings.folder / "demo.yaml")]) == 0
    run = (settings.folder / "run" / "thermo.csv").read_bytes()
    assert (settings.output / "thermo.csv").read_bytes() == run


def test_full_hf_starts_where_the_mixture_left_the_bath(shown):
    settings, _ = shown
    mixture = read_thermo(settings.output / "thermo.csv")
    full_hf = read_thermo(settings.output / "full_hf" / "thermo.csv")
    start = np.flatnonzero(mixture["step"] == 4)[0]
    assert full_hf["step"][0] == 4
    assert full_hf["kinetic_energy_eV"][0] == mixture["kinetic_energy_eV"][start]
    assert full_hf["potential_energy_eV"][0] != mixture["potential_energy_eV"][start]
    assert full_hf["step"][-1] == mixture["step"][-1] == 24


def test_drift_and_momentum_are_those_of_the_written_run(shown):
    settings, report = shown
    table = read_thermo(settings.output / "thermo.csv")
    nve = table["step"] >= 4
    slope = np.polyfit(table["time_fs"][nve] / 1e3, table["conserved_eV"][nve] * 1e3 / 47, 1)[0]
    assert report["nve_drift_mev_per_atom_per_ps"] == pytest.approx(slope, rel=1e-6)
    # 47 atoms of some 1e2 amu Å/fs × 1e-3, each rounded to 1e-16 of itself a few times a step.
    assert report["momentum_max"] < 1e-12


def test_errors_are_those_of_independent_single_point_calculations(tmp_path):
    """Force and energy errors against the ASE calculator, on positions of the trajectory."""
    pair = ExpertPair(high_fidelity(), low_fidelity())
    settings = write_example(tmp_path, pair)
    text = CONFIG.replace("trajectory_every: 10", "trajectory_every: 1")
    (tmp_path / "demo.yaml").write_text(text)
    report = run_demo(settings, say=lambda line: None)  # 20 snapshots of 20 steps: all of them
    frames = ase.io.read(settings.output / "trajectory.xyz", index="5:")
    assert len(frames) == report["snapshots"] == 20
    regions = load_config(tmp_path / "demo.yaml").regions
    forces, energies = [], []
    for partition in (regions, Regions.from_dict({"complex": "all"})):
        atoms = slab()
        atoms.calc = DuettoCalculator(pair, partition, dtype="float64")
        atoms.get_potential_energy()  # the partition is that of the initial structure
        for frame in frames:
            atoms.positions = frame.positions
            forces.append(atoms.get_forces())
            energies.append(atoms.get_potential_energy())
    difference = np.array(forces[:20]) - np.array(forces[20:])
    simple = regions.weights(slab()) == 0
    found = report["force_rmse_vs_full_hf_mev_per_angstrom"]
    # The trajectory has nine decimals.
    assert found["all"] == pytest.approx(1e3 * np.sqrt((difference**2).mean()), rel=1e-6)
    assert found["simple"] == pytest.approx(
        1e3 * np.sqrt((difference[:, simple] ** 2).mean()), rel=1e-6
    )
    error = 1e3 * (np.array(energies[:20]) - np.array(energies[20:])) / 47
    assert report["energy_error_vs_full_hf_mev_per_atom"] == pytest.approx(
        np.sqrt((error**2).mean()), rel=1e-6
    )


def test_one_expert_in_both_roles_has_no_error_and_the_same_run(tmp_path):
    expert = high_fidelity()
    report = run_demo(write_example(tmp_path, ExpertPair(expert, expert)), say=lambda line: None)
    # Sums in another order: roundings of forces of a few eV/Å, in meV/Å.
    assert report["force_rmse_vs_full_hf_mev_per_angstrom"]["all"] < 1e-9
    assert report["energy_error_vs_full_hf_mev_per_atom"] < 1e-9
    assert report["nve_drift_mev_per_atom_per_ps"] == pytest.approx(
        report["nve_drift_full_hf_mev_per_atom_per_ps"], rel=1e-6
    )


def test_files_and_a_page_that_needs_nothing_else(shown):
    settings, report = shown
    written = {str(path.relative_to(settings.output)) for path in settings.output.rglob("*")}
    pictures = {"slab.png", "energy.png", "step_times.png", "forces.png"}
    assert written >= pictures | {"index.html", "trajectory.xyz", "full_hf/thermo.csv"}
    for name in pictures:
        assert (settings.output / name).read_bytes().startswith(b"\x89PNG")
    page = (settings.output / "index.html").read_text()
    assert page.count('src="data:image/png;base64,') == page.count("<img") == len(pictures)
    assert "http" not in page
    assert f"{report['speedup_vs_full_hf']:.1f}× faster" in page
    assert len(ase.io.read(settings.output / "trajectory.xyz", index=":")) == 3


def test_a_second_demo_replaces_the_first(shown, tmp_path):
    settings, _ = shown
    again = DemoSettings(settings.output, folder=settings.folder, steps=3, timing_rounds=1)
    report = run_demo(again, say=lambda line: None)
    assert report["steps"] == 3
    assert read_thermo(settings.output / "thermo.csv")["step"][-1] == 7


def speed(**step_ms: float) -> Speed:
    times = StepTimes(
        {name: Timing([step_ms[name]]) for name in NAMES},
        {name: Timing([10.0]) for name in NAMES},
    )
    return Speed(RegionCounts(10, 0, 90), times, steps_per_rebuild=10.0)


def test_speedup_and_ideal_count_the_list_for_all_alike():
    measured = speed(mixture=24.0, full_hf=99.0, full_lf=9.0)
    assert measured.step_ms() == {"mixture": 25.0, "full_hf": 100.0, "full_lf": 10.0}
    assert measured.speedup == 4.0
    assert measured.cost_ratio == 0.1
    assert measured.ideal_speedup == pytest.approx(1 / (0.1 + 0.9 * 0.1))


def test_blended_atoms_cost_both_experts():
    measured = Speed(
        RegionCounts(10, 20, 70), speed(mixture=24.0, full_hf=99.0, full_lf=9.0).times, 10.0
    )
    assert measured.ideal_speedup == pytest.approx(1 / (0.3 + 0.9 * 0.1))


def test_without_full_lf_there_is_no_ideal():
    times = speed(mixture=24.0, full_hf=99.0, full_lf=9.0).times
    del times.step["full_lf"], times.rebuild["full_lf"]
    measured = Speed(RegionCounts(10, 0, 90), times, steps_per_rebuild=10.0)
    assert measured.step_ms() == {"mixture": 25.0, "full_hf": 100.0}
    assert measured.speedup == 4.0
    assert measured.cost_ratio is measured.ideal_speedup is measured.share_of_ideal is None


def test_lf_that_knows_only_its_own_region_is_shown(tmp_path):
    pair = ExpertPair(high_fidelity(), random_expert("one species, l_max 2"))
    settings = write_example(tmp_path, pair)
    report = run_demo(settings, say=lambda line: None)
    assert set(report["step_ms"]) == {"mixture", "full_hf"}
    assert report["speedup_ideal"] is report["cost_ratio"] is None
    page = (settings.output / "index.html").read_text()
    assert "step: mixture, full HF<" in page
    assert page.count("LF does not know every species") == 2
    assert not any("ideal" in line for line in closing_lines(report))


def test_another_lf_under_the_same_hf_is_shown_beside(tmp_path):
    pair = ExpertPair(high_fidelity(), low_fidelity())
    settings = replace(write_example(tmp_path, pair), steps=4)
    errors = "force_rmse_vs_full_hf_mev_per_angstrom"
    same = run_demo(replace(settings, beside=tmp_path / "pair.duetto"), say=lambda line: None)
    # The trajectory's forces were of those very positions.
    assert same["other"][errors] == pytest.approx(same[errors], rel=1e-9)
    linear = ExpertPair(high_fidelity(), random_expert("one species, l_max 2"))
    linear.save(tmp_path / "linear.duetto")
    report = run_demo(replace(settings, beside=tmp_path / "linear.duetto"), say=lambda line: None)
    assert report[errors] == same[errors]
    assert report["other"]["lf_kind"] == "linear"
    assert report["other"][errors]["complex"] != report[errors]["complex"]
    assert report["other"]["speedup_vs_full_hf"] > 0
    assert any(line.startswith("beside   mixture, linear LF") for line in closing_lines(report))
    assert "mixture, linear LF: step, speedup" in (settings.output / "index.html").read_text()


def test_another_hf_is_no_comparison(tmp_path):
    settings = write_example(tmp_path, ExpertPair(high_fidelity(), low_fidelity()))
    ExpertPair(low_fidelity(), low_fidelity()).save(tmp_path / "other.duetto")
    with pytest.raises(InputError, match=r"other\.duetto: its HF is not that of pair\.duetto"):
        run_demo(replace(settings, beside=tmp_path / "other.duetto"), say=lambda line: None)
    assert not settings.output.exists()


def test_comparison_of_known_errors():
    class Exact:
        def evaluate(self, positions, cell):
            return Snapshot(positions, torch.zeros(2, 3, dtype=torch.float64), 1.0)

    wrong = torch.tensor([[3e-3, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    snapshots = [Snapshot(torch.zeros(2, 3), sign * wrong, 1.0 + sign * 0.004) for sign in (1, -1)]
    found = compare(snapshots, Exact(), torch.eye(3))
    first = np.array([True, False])
    assert found.force_rmse(first) == pytest.approx(3 / np.sqrt(3))
    assert found.force_rmse(~first) == 0.0
    assert found.force_rmse(first & False) is None
    assert found.energy_rmse_meV_per_atom == pytest.approx(2.0)
    assert found.energy_spread_meV_per_atom == pytest.approx(2.0)


def test_drift_of_a_known_line():
    record = NVERecord(10, time_fs=[100.0, 101.0, 102.0], conserved_eV=[5.0, 5.001, 5.002])
    assert record.drift_meV_per_atom_per_ps == pytest.approx(100.0)
    assert record.deviation_meV_per_atom.tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert record.elapsed_ps.tolist() == pytest.approx([0.0, 0.001, 0.002])


def test_layers_by_gaps():
    assert layers(np.array([2.1, 0.0, 0.3, 4.0, 2.0])).tolist() == [1, 0, 0, 2, 1]


@pytest.mark.parametrize("name", ["demo.yaml", "large.yaml"])
def test_in_the_shipped_example_lf_sees_bulk_platinum_alone(name):
    """What the example's comment says: 18 platinum neighbours within 4.5 Å, as in the crystal."""
    config = load_config(example_folder() / name)
    structure = config.structure
    atoms = read_structure(structure.file, repeat=structure.repeat, species=SPECIES)
    weights = config.regions.weights(atoms)
    counts = count_regions(weights)
    assert (len(atoms), counts.n_complex) == {
        "demo.yaml": (800, 288),
        "large.yaml": (4368, 432),
    }[name]
    centre, neighbor = neighbor_list("ij", atoms, 4.5)
    simple = np.flatnonzero(weights == 0)
    assert (np.bincount(centre, minlength=len(atoms))[simple] == 18).all()
    seen = set(atoms.symbols[neighbor[np.isin(centre, simple)]])
    assert seen == {"Pt"}


def test_the_shipped_overlayer_is_a_quarter_monolayer_in_p2x2():
    atoms = ase.io.read(example_folder() / "slab.extxyz")
    carbon = atoms[atoms.symbols == "C"]
    centre, distance = neighbor_list("id", carbon, 6.0)
    assert (np.bincount(centre) == 6).all()
    assert distance == pytest.approx(2 * 3.974 / np.sqrt(2), abs=1e-6)
    assert len(carbon) == 64 // 4


def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    missing = tmp_path / "no.duetto"
    assert main(["demo", "--out", str(out), "--pair", str(missing)]) == 2
    assert main(["demo", "--out", str(out), "--beside", str(missing)]) == 2
    assert main(["demo", "--out", str(out), "--steps", "1"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"duetto: error: {missing}: no such pair file"
    assert errors[1] == errors[0]
    assert errors[2] == "duetto: error: --steps: got 1, allowed: 2 or more"
    assert len(errors) == 3
    assert not out.exists()


def test_a_file_or_somebody_elses_run_is_left_alone(shown, tmp_path):
    settings, _ = shown
    file = tmp_path / "file"
    file.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / CHECKPOINT).write_text("mine")
    for output, said in ((file, "is a file"), (run, "holds a run of `duetto run`")):
        with pytest.raises(InputError, match=said):
            run_demo(DemoSettings(output, folder=settings.folder), say=lambda line: None)
    assert os.listdir(run) == [CHECKPOINT]
    assert file.read_text() == "mine"


def test_the_last_stage_must_be_at_constant_energy(tmp_path):
    settings = write_example(tmp_path, ExpertPair(high_fidelity(), low_fidelity()))
    text = CONFIG.replace("  - {ensemble: nve, steps: 20}\n", "")
    (tmp_path / "demo.yaml").write_text(text)
    with pytest.raises(InputError, match="stages: the last must be nve, to be compared"):
        run_demo(settings, say=lambda line: None)
    assert not settings.output.exists()
