"""The page's rows from reports alone: what they must equal, and what may be absent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duetto.validate.page import tables
from duetto.validate.page_bulk import modulus_of_stresses
from duetto.validate.page_runs import band_of, depth_table, forgetful, line_table, statistics_table
from duetto.validate.page_seam import planar_rows, rest_rows
from duetto.validate.page_surface import barrier_table, path_in_words
from duetto.validate.pictures import LATTICE, STRETCHES, farthest

RESULTS = Path(__file__).parents[3] / "bench" / "results"


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """The shipped pair's report with the statistics of its long runs."""
    report = json.loads((RESULTS / "validation_ptco.json").read_text(encoding="utf-8"))
    runs = json.loads((RESULTS / "validation_ptco_runs.json").read_text(encoding="utf-8"))
    return {**report, "statistics": runs["statistics"]}


@pytest.fixture
def report(kept: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(kept)


def cells(table: str, name: str) -> list[str]:
    """What stands beside a name."""
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    (row,) = [row[1:] for row in rows if row[0].strip() == name]
    return [cell.strip() for cell in row]


def test_the_modulus_of_stresses_is_that_of_the_constants() -> None:
    """Under equal strains of all axes each normal stress is C11 + 2 C12 times one, 3 B times it."""
    matrix = np.diag([7.0] * 3) + 5.0 * (1 - np.eye(3))
    pressure = (matrix @ np.full(3, 1e-3)).mean()
    found = modulus_of_stresses(
        {"c11_gpa": {"hf": 7.0, "lf": 1.0}, "c12_gpa": {"hf": 5.0, "lf": 2.0, "reference": 3.0}}
    )
    assert found == {"hf": pytest.approx(pressure / 3e-3), "lf": pytest.approx(5 / 3)}


def test_optional_parts_may_be_absent(report: dict[str, Any]) -> None:
    """And nothing else changes with them."""
    whole = tables(report)
    for key, title in (
        ("phonon_thz", "Phonons"),
        ("adsorption_energy_ev", "Adsorption"),
        ("diffusion_barrier_ev", "Diffusion barrier"),
        ("statistics", "Mixture and full HF"),
        ("force_error_by_depth", "by depth"),
    ):
        for one in (report, report["independent"]):
            del one[key]
        assert title in whole
        assert title not in tables(report)
    assert set(tables(report).splitlines()) < set(whole.splitlines())
    del report["independent"]
    assert "trained apart" in whole
    assert "trained apart" not in tables(report)


def test_a_seam_of_a_temperature_has_its_crystal_where_it_is_told(report: dict[str, Any]) -> None:
    twin = report["independent"]
    for row in (*report["seam"], *twin["seam"]):  # as reports were that did not tell
        for told in (row, row.get("standard_error", {})):
            told.pop("lattice_constant_angstrom", None)
            told.pop("pressure_gpa", None)
    assert not [row for row in planar_rows([report]) if "pressure" in row.name]
    report["seam"][1] |= {"lattice_constant_angstrom": 3.98766, "pressure_gpa": 0.02}
    report["seam"][1]["standard_error"]["pressure_gpa"] = 0.004
    rows = {row.name: row for row in planar_rows([report, twin])}
    assert rows["pressure at 300 K, GPa"].cells == [(0.02, 0.004), (None, None)]
    page = tables(report)
    assert cells(page, "lattice constant of the seam's crystal at 300 K, Å") == ["3.9877", ""]
    assert cells(page, "pressure at 300 K, GPa") == ["0.0200 ± 0.0040", ""]
    assert "pressure at 900 K" not in page


def test_layers_of_a_crystal_at_rest_have_its_stress_on_average(report: dict[str, Any]) -> None:
    """A relaxed seam of linear experts has half of the stress that LF alone has, HF's being nil."""
    rows = {row.name: row.cells for row in rest_rows([report, report["independent"]])}
    for n, one in enumerate((report, report["independent"])):
        half = one["seam"][0]["stress_jump_mpa"] / 2
        for way in ("normal", "lateral"):
            mean, _ = rows[f"interface stress at rest: mean over layers, {way}, MPa"][n]
            assert mean == pytest.approx(half, rel=0.02)  # what relaxation and anharmonicity do
            assert mean < 0.5 * one["interface_stress_mpa"]


def test_depths_of_pair_and_twin_stand_beside_each_other() -> None:
    pair = {"depth_angstrom": [-0.5, 4.5], "atoms": [3, 2]}
    pair |= {"error_mev_per_angstrom": [2.0, 2e-13], "standard_error_mev_per_angstrom": [None, 1.0]}
    twin = {"depth_angstrom": [-0.5, 1.5], "atoms": [3, 1]}
    twin |= {"error_mev_per_angstrom": [8.0, 4.0], "standard_error_mev_per_angstrom": [0.5, None]}
    found = [{"force_error_by_depth": one} for one in (pair, twin)]
    table = depth_table(["one", "other"], found)
    assert cells(table, "-0.5") == ["3", "2", "3", "8.00 ± 0.50"]
    assert cells(table, "1.5") == ["", "", "1", "4"]
    assert cells(table, "4.5") == ["2", "< 1e-09", "", ""]
    assert "other" not in depth_table(["one", "other"], [found[0], {}])
    assert depth_table(["one"], [{}]) == ""


def barrier(images: list[float], open_mev: float) -> dict[str, Any]:
    mixture = [x * 1.0001 for x in images]
    return {
        "diffusion_barrier_ev": {
            "path": ["fcc", "hcp"],
            "images": {"hf": images, "mixture": mixture},
            "resolution_mev": {"hf": open_mev, "mixture": open_mev},
            "hf": max(images),
            "mixture": max(mixture),
            "difference_mev": 1e3 * (max(mixture) - max(images)),
        }
    }


@pytest.mark.parametrize(
    ("open_mev", "shown"),
    [
        (0.2, ("30", "30", "0")),
        (0.03, ("30.2", "30.2", "0.0")),
        (0.003, ("30.21", "30.22", "0.00")),
    ],
)
def test_no_digit_of_a_barrier_is_left_open(open_mev: float, shown: tuple[str, ...]) -> None:
    lines = barrier_table(barrier([0.0, 0.0302149, -0.01, -0.002, -0.02], open_mev))
    assert tuple(cells("\n".join(lines), "fcc to hcp")) == (*shown, f"{open_mev:.1g}")
    assert "±" not in "".join(lines)
    assert cells("\n".join(lines), "image") == ["fcc", "1", "2", "3", "hcp"]


@pytest.mark.parametrize(
    ("energies", "said", "unsaid"),
    [
        ([0, 5, 9, 4, 1], "image, 2, is 9.0 meV above fcc; no image between", "minimum"),
        (
            [0, 31, -28, -11, -27],
            "from fcc to it: the second hill, of which image 3 at -11.0",
            "no im",
        ),
        ([0, 3, -28, 12, -27], "from it to hcp: the second hill, of which image 1 at 3.0", "no im"),
        ([0, 31, -28, -28, -27.5], "image, 1, is 31.0 meV above fcc; no image between", "hill"),
        ([0, 31, -10, -28, -27.5], "way from fcc to it.", "hill"),
    ],
)
def test_words_tell_which_hill_was_climbed(energies: list[float], said: str, unsaid: str) -> None:
    words = path_in_words(["fcc", "hcp"], energies)
    assert said in words
    assert unsaid not in words.replace("no image climbs", "")


def test_a_bands_power_and_the_most_its_error_can_be() -> None:
    """Errors of points with one cause add up: here every point is off by the same factor."""
    rng, points = np.random.default_rng(1), [0.0, 10.0, 20.0, 30.0, 40.0]
    line = np.array([0.0, 1.0, 3.0, 2.0, 9.0])
    runs = line * (1 + 0.1 * rng.normal(size=(4000, 1)))
    curve = {
        "hf": list(line),
        "mixture": list(1.2 * line),
        "standard_error": list(runs.std(axis=0)),
    }
    band = band_of(points, curve, 10.0, 30.0)
    assert band.hf == pytest.approx(60.0)
    assert band.mixture == pytest.approx(72.0)
    assert band.error == pytest.approx(10 * runs[:, 1:4].sum(axis=1).std())
    assert band.largest == pytest.approx(2.0, rel=0.05)  # one factor's error of 0.1, to 1 %


def test_lines_of_a_stretch_only_where_it_was_sampled(report: dict[str, Any]) -> None:
    statistics = report["statistics"]
    spectrum = statistics["spectrum"]
    points = np.array(spectrum["frequency_per_cm"])
    table = "\n".join(line_table(statistics))
    high = points > 1500
    for who, shown in zip(
        ("hf", "mixture"), cells(table, "C: highest point above 1500 cm⁻¹, cm⁻¹"), strict=False
    ):
        highest = points[high][np.array(spectrum["C"][who])[high].argmax()]
        assert shown == f"{highest:.0f}"
    assert "from 1700 to 2000" in table
    assert "differs from full HF's by" in "\n".join(statistics_table(report))
    del spectrum["O"]
    assert "1500" not in "\n".join(line_table(statistics))
    spectrum["O"] = spectrum["C"]
    spectrum["frequency_per_cm"] = list(points / 3)
    assert "1500" not in "\n".join(line_table(statistics))
    assert "differs from full HF's by" not in "\n".join(statistics_table(report))


def test_short_runs_are_not_said_to_tell_of_statistics(report: dict[str, Any]) -> None:
    assert forgetful(report["statistics"])
    assert not forgetful(report["independent"]["statistics"])
    long, short = statistics_table(report), statistics_table(report["independent"])
    assert "tell nothing of statistics" in short[-1]
    assert "tell nothing of statistics" not in "".join(long)
    displacement = report["statistics"]["displacement"]
    row = cells("\n".join(long), "displacement of C; numbers: after 5 ps, Å²")
    assert [float(x) for x in row[:2]] == pytest.approx(
        [displacement["C"][who][-1] for who in ("hf", "mixture")], rel=5e-3
    )
    needed = 200 * displacement["C"]["standard_error"][-1] / displacement["C"]["hf"][-1]
    assert f"{needed:.0f} % of C" in long[-1]


def test_a_metals_spectrum_has_an_axis_of_its_own(report: dict[str, Any]) -> None:
    spectrum = report["statistics"]["spectrum"]
    points = spectrum["frequency_per_cm"]
    assert farthest(points, spectrum["Pt"]["hf"]) == LATTICE
    assert farthest(points, spectrum["C"]["hf"]) == STRETCHES
