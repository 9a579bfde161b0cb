"""What docs/cotraining.md says of the larger pair's HF."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from duetto.experts.pair import ExpertPair

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import larger_hf  # noqa: E402

KEPT = json.loads(larger_hf.ROWS.read_text(encoding="utf-8"))["experts"]


@pytest.mark.parametrize(
    ("column", "file"),
    [("shipped", "ptco"), ("agreeing", "ptco_large"), ("apart", "ptco_large_independent")],
)
def test_rows_are_of_the_pairs_that_ship(column: str, file: str) -> None:
    pair = ExpertPair.load(ROOT / "examples" / "ptco" / f"{file}.duetto")
    assert KEPT[column]["content_hash"] == pair.content_hash


def test_the_table_is_that_of_the_rows() -> None:
    page = larger_hf.PAGE.read_text(encoding="utf-8")
    table = page.split("<!-- larger HFs: begin -->")[1].split("<!-- larger HFs: end -->")[0]
    assert table.strip() == larger_hf.written({"experts": KEPT})


def test_groups_are_means_over_their_components() -> None:
    def of(kind: str, symbols: list[str], error: float) -> larger_hf.Errors:
        return larger_hf.Errors(kind, np.array(symbols), np.full((len(symbols), 3), error))

    found = {"test first": [of("co_111", ["Pt", "C"], 3.0), of("co_approach", ["Pt"], 9.0)]}
    of_group = larger_hf.of_group
    assert of_group(found, "test first co_*") == pytest.approx(((2 * 9 + 81) / 3) ** 0.5)
    assert of_group(found, "test first co_* but co_approach") == pytest.approx(3.0)
    assert of_group(found, "test first co_* of C") == pytest.approx(3.0)


def test_a_row_is_what_the_shipped_pair_says() -> None:
    pair = ExpertPair.load(ROOT / "examples" / "ptco" / "ptco.duetto")
    frames = {"test first": larger_hf.errors(pair, larger_hf.DATA, "test")}
    group = "test first bulk_300K*"
    kept = KEPT["shipped"]["forces_mev_per_angstrom"][group]
    # float64, other processors sum in another order: 1e-9 of a force of 1 eV/Å.
    assert larger_hf.of_group(frames, group) == pytest.approx(kept, abs=1e-6)
