"""What docs/cotraining.md says of the larger pair's HF."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from duetto.experts.pair import ExpertPair

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "bench/results/larger_hf.json").read_text(encoding="utf-8"))["experts"]
ROWS = {
    "CO-covered, all": ["co_*"],
    "CO-covered, without `co_approach`": ["co_* without co_approach"],
    "bulk": ["bulk*"],
    "bulk at 300 K": ["bulk_300K*"],
    "further set: crowded, hotter, steps": ["crowded", "hotter", "steps"],
    "further set: molecules near each other, scattered": ["near", "scattered"],
    "further set: stretched, thrown": ["stretched", "thrown"],
}


@pytest.mark.parametrize("name", ["ptco", "ptco_large"])
def test_rows_are_of_the_pairs_that_ship(name: str) -> None:
    row = next(found for key, found in KEPT.items() if f"({name}.duetto)" in key)
    pair = ExpertPair.load(ROOT / "examples" / "ptco" / f"{name}.duetto")
    assert row["content_hash"] == pair.content_hash


def test_the_table_is_that_of_the_rows() -> None:
    page = (ROOT / "docs" / "cotraining.md").read_text(encoding="utf-8")
    table = page.split("| frames | shipped, 32/16 | 64/32, agreeing | 64/32, alone |", 1)[1]
    lines = {
        cells[0]: cells[1:]
        for line in table.split("\n\n")[0].splitlines()[2:]
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    assert set(lines) == set(ROWS)
    for name, groups in ROWS.items():
        for cell, found in zip(lines[name], KEPT.values(), strict=True):
            shown = re.findall(r"[\d.]+", cell)
            for number, group in zip(shown, groups, strict=True):
                errors = found["hf"]
                key = group if group in errors else f"more_co co_{group}"
                digits = len(number.partition(".")[2])
                value = errors[key]["forces_mev_per_angstrom"]
                assert f"{value:.{digits}f}" == number, (name, group)
