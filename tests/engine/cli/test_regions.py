"""`duetto regions`: what a user sees before a run."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from matplotlib.image import imread

from duetto.cli.main import main
from duetto.run.config import load_config
from tests.pairs import mismatched_pair

CONFIG = """
structure: slab.xyz
pair: pair.duetto
regions:
  complex: {within: {distance: 3.0, of: {species: [C, O]}}}
  blend: {width: 3.0}
timestep_fs: 1
initial_temperature_K: 300
stages: [{ensemble: nve, steps: 10}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    slab = fcc111("Pt", (3, 3, 3), a=3.97, vacuum=6.0)
    add_adsorbate(slab, "C", 1.85, "ontop")
    add_adsorbate(slab, "O", 3.0, "ontop")
    slab.pbc = (True, True, False)
    slab.positions[0] += 7 * slab.cell[0]  # far from home, to be drawn at home
    slab.info.clear()
    ase.io.write(tmp_path / "slab.xyz", slab)
    mismatched_pair(zbl=True).save(tmp_path / "pair.duetto")
    (tmp_path / "run.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look(capsys, *arguments):
    assert main(["regions", "run.yaml", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_weights_and_picture(folder, capsys):
    seen = look(capsys, "--no-timing")
    atoms = ase.io.read(folder / "slab.xyz")
    weights = load_config(folder / "run.yaml").regions.weights(atoms)
    symbols = np.array(atoms.get_chemical_symbols())
    inside = weights == 1
    assert seen["n_atoms"] == 29
    assert seen["counts"]["complex"] == {
        kind: int((inside & (symbols == kind)).sum()) for kind in ("Pt", "C", "O")
    }
    assert sum(sum(kinds.values()) for kinds in seen["counts"].values()) == 29
    assert seen["counts"]["blend"]["Pt"] == int(((weights > 0) & (weights < 1)).sum()) > 0
    written = ase.io.read(folder / seen["files"]["weights"])
    np.testing.assert_allclose(written.arrays["w"], weights, atol=1e-8)  # 8 digits are written
    np.testing.assert_allclose(written.positions, atoms.positions, atol=1e-7)
    picture = imread(folder / seen["files"]["picture"])
    assert picture.std() > 0.05
    assert seen["warnings"] == []
    assert seen["step_ms"] is None
    assert not (folder / "output").exists()


def test_step_times_and_speed_up(folder, capsys):
    seen = look(capsys)
    assert set(seen["step_ms"]) == {"mixture", "full_hf", "full_lf"}
    ratio = seen["step_ms"]["full_hf"] / seen["step_ms"]["mixture"]
    assert seen["speedup_vs_full_hf"] == pytest.approx(ratio)
    assert seen["computed_with"]["device"] == "cpu"


def test_the_guard_is_asked_about_the_start(folder, capsys):
    """CO alone is complex: metal that LF alone computes is nearer than LF's cutoff to it."""
    pair = mismatched_pair(zbl=True)
    pair.provenance["lf"] = {"seen_pairs": [["Pt", "Pt"]]}
    pair.save(folder / "pair.duetto")
    seen = look(capsys, "--no-timing", "regions={complex: {species: [C, O]}}")
    assert any("inside LF's cutoff" in line for line in seen["guard"])
    assert look(capsys, "--no-timing", "regions={complex: all}")["guard"] == []


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("{slab: {axis: z, min: 90}}", "regions.complex selects 0 atoms of 29"),
        ("{slab: {axis: z, min: -90}}", "regions.complex selects all 29 atoms"),
        (
            "{any: [{species: [C]}, {sphere: {center: [0, 0, 90], radius: 1}}]}",
            "regions.complex.any[1] selects 0 atoms",
        ),
        (
            "{within: {distance: 3, of: {slab: {axis: z, min: 90}}}}",
            "regions.complex.within.of selects 0 atoms",
        ),
        ("all", None),
        ("none", None),
    ],
)
def test_words_that_select_nothing_or_everything(folder, capsys, regions, message):
    lines = look(capsys, "--no-timing", f"regions={{complex: {regions}}}")["warnings"]
    assert any(message in line for line in lines) if message else lines == []


@pytest.mark.parametrize(
    ("timestep", "hydrogen", "message"),
    [
        ("0.001", False, "0.001 is read in femtoseconds (1 fs = 0.001 ps = 1e-15 s); below 0.05"),
        ("20", False, "above 10 fs energy"),
        ("2.5", True, "above 2 fs with H"),
        ("2.5", False, None),
        ("2", True, None),
    ],
)
def test_timesteps_hardly_meant(folder, timestep, hydrogen, message):
    from duetto.run.doubts import doubts

    atoms = ase.io.read(folder / "slab.xyz")
    if hydrogen:
        atoms.symbols[5] = "H"
    lines = doubts(load_config(folder / "run.yaml", [f"timestep_fs={timestep}"]), atoms)
    assert any(message in line for line in lines) if message else lines == []
    if hydrogen and message:  # deuterium is not hydrogen to a timestep
        masses = atoms.get_masses()
        masses[5] = 2.014
        atoms.set_masses(masses)
        assert not doubts(load_config(folder / "run.yaml", [f"timestep_fs={timestep}"]), atoms)


def test_the_table_for_a_person(folder, capsys):
    assert main(["regions", "run.yaml", "--no-timing", "timestep_fs=0.001", "--out", "x"]) == 0
    out = capsys.readouterr().out
    assert "complex" in out
    assert "femtoseconds" in out
    assert str(Path("x") / "regions.png") in out


def test_bad_input_is_one_line(folder, capsys):
    assert main(["regions", "run.yaml", "--out", "run.yaml"]) == 2
    assert main(["regions", "run.yaml", "structure=none.xyz"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) >= 2
