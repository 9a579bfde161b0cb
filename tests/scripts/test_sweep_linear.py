"""The sweep of bases of linear experts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from duetto.distil.fit import distil
from duetto.distil.settings import read_settings
from duetto.experts.pair import ExpertPair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sweeping(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    sys.modules.pop("sweep_linear", None)
    import sweep_linear

    return sweep_linear


def rattled(seeds: range) -> list[Atoms]:
    frames = []
    for seed in seeds:
        atoms = bulk("Pt", "fcc", a=3.97, cubic=True) * (2, 2, 2)
        atoms.rattle(0.15, seed=seed)
        frames.append(atoms)
    return frames


def test_the_teachers_own_basis_is_found_to_be_the_best(
    sweeping: ModuleType, tmp_path: Path
) -> None:
    """The teacher is a linear expert of l = 2: what is fitted in its basis follows it exactly."""
    teacher = ExpertPair.load(ROOT / "examples" / "ptco" / "ptco_linear.duetto").experts["lf"]
    write(tmp_path / "data.extxyz", rattled(range(8)))
    write(tmp_path / "test.extxyz", rattled(range(100, 102)))
    rows = []
    for name in ("l = 0", "l = 2, four-body"):
        changes = [
            *sweeping.BASES[name].split(),
            f"data=[{tmp_path / 'data.extxyz'}]",
            f"test=[{tmp_path / 'test.extxyz'}]",
        ]
        fit = distil(teacher, read_settings(None, changes))
        rows.append(sweeping.row_of(name, 4.5, fit))
    poor, exact = rows
    assert exact["coefficients"] == 85
    # Float32 forces of teacher and pupil, some 1e-6 of 1 eV/Å each, through a ridge of 1e-12.
    assert exact["force_error_meV_per_A"] < 0.5
    assert poor["force_error_meV_per_A"] > 20 * exact["force_error_meV_per_A"]
    assert all(row["ns_per_edge_and_core"] > 0 for row in rows)
    assert sweeping.draw(rows).startswith(b"\x89PNG")
