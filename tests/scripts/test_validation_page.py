"""The page's tables are those of the report."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_says_where_its_tables_come_from() -> None:
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    assert re.search(r"By `duetto validate \S+`, seed \d+, commit [0-9a-f]{9}", page)
    for name in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (ROOT / "docs" / name).is_file(), name


@pytest.fixture
def script() -> ModuleType:
    path = ROOT / "scripts" / "validation_page.py"
    spec = importlib.util.spec_from_file_location("validation_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_may_come_from_a_longer_validation_of_the_same_pair(script: ModuleType) -> None:
    runs = dict.fromkeys(script.OF_RUNS, "long")
    report = {"content_hash": "a", "c44_gpa": 1.0} | dict.fromkeys(script.OF_RUNS, "short")
    longer = {"content_hash": "a", "c44_gpa": 2.0} | runs
    assert script.with_runs(report, longer) == {"content_hash": "a", "c44_gpa": 1.0} | runs
    for wrong in (longer | {"content_hash": "b"}, {"content_hash": "a"}):
        with pytest.raises(ValueError, match="no statistics of the same pair"):
            script.with_runs(report, wrong)


def test_the_command_line_takes_the_longer_runs(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of pair and twin, and the words say whose; another pair's are refused in a line."""
    monkeypatch.setattr(script, "tables", lambda report: str(report["force_error_by_depth"]))
    monkeypatch.setattr(script, "certificates", lambda r: r["independent"]["force_error_by_depth"])
    monkeypatch.setattr(script, "draw_pictures", lambda report: {"seam.png": b"png"})
    page = tmp_path / "page.md"
    for name, pair in (("short", "a" * 12), ("long", "a" * 12), ("other", "b" * 12)):
        runs = dict.fromkeys(script.OF_RUNS, name)
        runs["statistics"] = {"runs": 4, "length_ps": 100.0}
        twin = {"content_hash": "t", **runs}
        report = {"pair": "p.duetto", "content_hash": pair, "seed": 1, "independent": twin, **runs}
        report["versions"] = dict.fromkeys(("torch", "numpy", "ase"), "1")
        (tmp_path / name).mkdir()
        (tmp_path / name / "validate.json").write_text(json.dumps(report))
    page.write_text("\n".join(script.marks()))
    words = [str(tmp_path / "short"), str(page), "--commit", "abc", "--long"]
    script.main([*words, str(tmp_path / "long")])
    text = page.read_text()
    assert "\n\nlong\n\nlong\n\n" in text
    assert "the twin's too) are those of another validation of the same pair, seed 1: 4 of" in text
    assert (tmp_path / "images" / "validation_seam.png").read_bytes() == b"png"
    with pytest.raises(SystemExit, match="2"):
        script.main([*words, str(tmp_path / "other")])
    assert "no statistics of the same pair" in capsys.readouterr().err
    assert page.read_text() == text


def test_only_what_stands_between_the_marks_is_replaced(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "tables", lambda report: "new table")
    monkeypatch.setattr(script, "certificates", lambda report: "new sentence")
    report = {
        "seed": 3,
        "pair": "p.duetto",
        "content_hash": "0123456789abcdef",
        "versions": {"torch": "1", "numpy": "2", "ase": "3"},
    }
    mine, others = script.marks(), script.marks("nih")
    kept = f"{others[0]}\nkept\n{others[1]}\nafter\n"
    old = f"before\n{mine[0]}\nold\n{mine[1]}\n{kept}"
    new = script.with_tables(old, report, "abc")
    assert new.startswith("before\n")
    assert new.endswith(kept)
    assert "old" not in new
    assert "new table" in new
    assert "examples/ptco/validate.yaml`, seed 3, commit abc" in new
    told = script.with_tables(old, report, "abc", longer="Runs are longer.")
    assert "`p.duetto` has the hash 0123456789ab. Runs are longer.\n\nnew table" in told
    other = script.with_tables(old, report, "abc", case="nih")
    assert "kept" not in other
    assert "old" in other
    assert "examples/nih/validate.yaml`" in other
