"""Long runs that are compared, made short."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def statistics_of_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "bench")
    sys.modules.pop("time_statistics", None)
    import time_statistics

    monkeypatch.setattr(time_statistics, "WARM_UP_STEPS", 20)
    return time_statistics


def test_runs_of_several_starts_are_compared_by_how_they_scatter(
    statistics_of_runs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def call(*arguments: str) -> None:
        fixed = ["--timestep", "0.9", "--layers", "2", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["time_statistics.py", *arguments, *fixed])
        statistics_of_runs.main()

    for seed in ("1", "2"):
        for way in (["--sample", "4"], ["--every", "4"], ["--every", "4", "--mixture"]):
            call("run", *way, "--seed", seed, "--ps", "0.06")
    table = tmp_path / "table.json"
    call("compare", "--every", "4", "--blocks", "2", "--json", str(table))
    found = json.loads(table.read_text())
    kinds = ["hf", "hf, k = 4", "mixture, k = 4"]
    assert list(found["runs"]) == kinds
    assert [run["file"] for run in found["runs"]["hf, k = 4"]] == [
        "hf_4_of_0.9_fs",
        "hf_4_of_0.9_fs_seed_2",
    ]
    bond = found["over_runs"]["C–O bond, Å"]
    for kind in kinds:
        assert bond[kind]["pieces"] == 2
        assert bond[kind]["standard_error"] > 0.0
        # On top is where the molecules were put; blocks are other instants, and the bond swings by
        # sqrt(kT/k) = 0.02 Å at 300 K with its stiffness of 102 eV/Å².
        there = found["at_a_site"]["C–O bond, Å, on top"][kind]
        assert there["pieces"] == 4
        assert there["mean"] == pytest.approx(bond[kind]["mean"], abs=0.02)
        assert found["at_a_site"]["C–O bond, Å, in hollows"][kind]["mean"] is None
    call("rows", "--csv", str(tmp_path / "rows.csv"))
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert "drift_mev_per_atom_per_ps" in lines[0]
    # From one start and over 60 fs all ways go nearly the same way: within a tenth of that.
    assert bond["hf"]["mean"] == pytest.approx(bond["hf, k = 4"]["mean"], abs=2e-3)


def test_standard_errors_are_those_of_independent_pieces(statistics_of_runs: ModuleType) -> None:
    values = iter([1.0, 2.0, 4.0, float("nan")])
    found = statistics_of_runs.with_errors(
        {"hf": [None] * 4}, None, lambda piece, atoms: {"x": next(values)}
    )
    assert found["x"]["hf"]["pieces"] == 3
    assert found["x"]["hf"]["mean"] == pytest.approx(7 / 3)
    # Variance of 1, 2, 4 is 7/3.
    assert found["x"]["hf"]["standard_error"] == pytest.approx((7 / 9) ** 0.5)
