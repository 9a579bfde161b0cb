"""Labels by HF, and how rough the labels are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.io import read, write

from duetto import DuettoCalculator
from tests.pairs import mismatched_pair

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "data"))

import bulk_by_hf  # noqa: E402
from label_roughness import POINTS, finer_than, left_of_cubics, line  # noqa: E402


def test_frames_get_energies_forces_and_stresses_of_hf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, path, made = mismatched_pair(), tmp_path / "pair.duetto", tmp_path / "by_hf.extxyz.gz"
    pair.save(path)
    rattled = bulk("Pt", a=3.97, cubic=True).repeat(2)
    rattled.rattle(0.1, seed=3)
    slab = fcc111("Pt", (2, 2, 3), a=3.97, vacuum=6.0, periodic=True)
    with_co = rattled.copy()
    with_co.symbols[0] = "C"
    for atoms, kind in ((rattled, "bulk_md"), (slab, "slab_111"), (with_co, "bulk_co")):
        atoms.info["config_type"] = kind
    write(tmp_path / "frames.extxyz", [rattled, slab, with_co])
    monkeypatch.setattr(
        sys,
        "argv",
        f"bulk_by_hf {path} {tmp_path}/frames.extxyz --crystal fcc:Pt:3.97 --families bulk* "
        f"--still 3 -o {made}".split(),
    )
    assert bulk_by_hf.main() == 0
    frames = read(made, ":")
    assert [f.info["config_type"] for f in frames] == ["bulk_still"] * 3 + ["bulk_md"]
    assert np.abs(frames[-1].positions - rattled.positions).max() < 1e-7  # eight digits in a file
    for frame in frames:
        expected = frame.copy()
        expected.calc = DuettoCalculator(pair, device="cpu", self_check=False)
        # The positions were rounded to 1e-8 Å; force constants of such pairs are below 1e3 eV/Å².
        assert frame.get_potential_energy() == pytest.approx(
            expected.get_potential_energy(), abs=1e-5
        )
        assert np.abs(frame.get_forces() - expected.get_forces()).max() < 1e-5
        assert np.abs(frame.get_stress() - expected.get_stress()).max() < 1e-6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("missing.duetto --crystal fcc:Pt:3.97", "missing.duetto: no such pair file"),
        ("{pair} --crystal fcc:Xx:3.97", "there is no element Xx"),
        ("{pair} nowhere.xyz --crystal fcc:Pt:3.97", "nowhere.xyz: no such file"),
        ("{pair} --crystal fcc:Au:4 --still 1", "it knows Pt, C, O"),
    ],
)
def test_what_cannot_be_labelled_is_said_in_a_line(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mismatched_pair().save(tmp_path / "pair.duetto")
    command = f"bulk_by_hf {words} -o {tmp_path}/made.xyz.gz".format(pair=tmp_path / "pair.duetto")
    monkeypatch.setattr(sys, "argv", command.split())
    assert bulk_by_hf.main() == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "made.xyz.gz").exists()


def test_cubics_are_smooth_and_noise_is_as_rough_in_every_window() -> None:
    x = np.linspace(-1, 1, POINTS)[:, None]
    assert left_of_cubics(2 * x**3 - x + 4, 41) < 1e-28  # of numbers of order one, squared
    noise = np.random.default_rng(0).normal(0.0, 0.3, (POINTS, 4000))
    for points in (9, 25, 81):
        # At least 8,000 squares of a mean of five or more: their scatter is below 1 %.
        assert left_of_cubics(noise, points) == pytest.approx(0.09, rel=0.03)


def test_the_errors_roughness_is_that_of_the_labels_where_hf_is_smooth() -> None:
    atoms = bulk("Pt", a=3.97, cubic=True)
    other = atoms.copy()
    other.positions[0] += (-0.3, 0.1, 0.0)  # across the cell's border, which find_mic knows
    other.positions[0] += other.cell[0]
    atoms.info["config_type"] = "bulk_md"
    positions = line(atoms, other)
    assert positions.shape == (POINTS, 4, 3)
    assert np.allclose(positions[POINTS // 2], atoms.positions)
    ends = positions[-1] - positions[0]
    assert np.sqrt((ends**2).mean()) == pytest.approx(0.2)
    assert ends[0, 0] < 0 < ends[1, 0]  # the middle of all atoms stays
    rough = np.random.default_rng(1).normal(0.0, 0.01, (POINTS, 4, 3))
    smooth = np.linspace(0, 1, POINTS)[:, None, None] ** 2 * np.ones((4, 3))
    rows = list(finer_than(atoms, {"labels": smooth + rough, "hf": smooth}))
    found = {(row["curve"], row["window_angstrom"]): row["square"] for row in rows}
    assert {row["atoms"] for row in rows} == {"Pt in bulk"}
    assert found["error", 0.02] == pytest.approx(found["labels", 0.02], rel=1e-9)
    assert found["hf", 0.02] < 1e-28
    assert rows[0]["total"] == pytest.approx((rough**2).mean())
