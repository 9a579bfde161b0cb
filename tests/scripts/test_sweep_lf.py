"""The sweep of low-fidelity experts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from duetto.cotrain.train import train
from tests.engine.cotrain.training import CONFIG, overrides, write_frames

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def sweeping(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    sys.modules.pop("sweep_lf", None)
    import sweep_lf

    return sweep_lf


def test_candidates_are_read(sweeping) -> None:
    candidate = sweeping.Candidate.parse("32/16@4.5")
    assert (candidate.scalar, candidate.tensor, candidate.cutoff) == (32, 16, 4.5)
    assert candidate.name == "32/16@4.5"
    for wrong in ("32@4.5", "32/16", "a/b@c"):
        with pytest.raises(argparse.ArgumentTypeError, match="write it as"):
            sweeping.Candidate.parse(wrong)


def test_every_candidate_gets_a_row(sweeping, tmp_path: Path) -> None:
    data = write_frames(tmp_path / "frames")
    train(CONFIG, overrides(data, tmp_path / "teacher", "epochs=1"))
    candidates = [sweeping.Candidate.parse(text) for text in ("8/4@3.2", "16/8@3.6")]
    changes = [f"data_folder={data}", "hf_cutoff=4.2", "largest_cutoff=4.2"]
    rows = sweeping.sweep(tmp_path / "teacher" / "last.ckpt", candidates, 1, changes)

    assert [row["lf"] for row in rows] == ["8/4@3.2", "16/8@3.6"]
    # Twelve neighbours of the small expert against twelve of twice the width.
    assert 0 < rows[0]["us_per_atom"] < rows[1]["us_per_atom"]
    assert sweeping.from_csv(sweeping.as_csv(rows)) == rows
    image = sweeping.draw_png(lambda f: sweeping.draw(f, rows), width=6.0, height=2.8)
    assert image.startswith(b"\x89PNG")
