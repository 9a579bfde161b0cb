"""The page is what its kept files say, word for word."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "validation_page", None)
    return _loaded("validation_page")


def test_the_page_is_made_of_the_kept_files(script: ModuleType) -> None:
    """Nothing is computed; whatever was written between the marks is as the reports have it."""
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    assert script.page_of(page) == page
    # Nor does the comparison hold for a page whose numbers were touched
    touched = page.replace("| bulk modulus, GPa | ", "| bulk modulus, GPa | 1", 1)
    assert touched != page
    assert script.page_of(touched) == page


@pytest.mark.parametrize("name", ["nickel_page", "dft_page"])
def test_the_page_on_labels_is_made_of_the_kept_files(
    name: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    page = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    assert _loaded(name).page_of(page) == page


def test_the_page_says_where_its_tables_come_from(script: ModuleType) -> None:
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    told = re.findall(r"By `duetto validate [^`]+`, commit [0-9a-f]{9,}, [^,]+, seed \d+", page)
    assert len(told) == len(script.CASES)
    for name in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (ROOT / "docs" / name).is_file(), name


def test_kept_files_are_small_and_name_no_folder_of_a_machine(script: ModuleType) -> None:
    files = [script.file_of(case) for case in script.CASES]
    files += [file for case in script.CASES if (file := script.file_of(case, runs=True)).is_file()]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert len(text) < 500_000, file
        made = json.loads(text)["provenance"]
        assert all(made[key] for key in ("command", "commit", "processor")), file
        assert not re.search(r"[= ]/", made["command"]), file
        assert not made["commit"].endswith("+"), file


def test_runs_may_come_from_a_longer_validation_of_the_same_pair(script: ModuleType) -> None:
    runs = dict.fromkeys(script.OF_RUNS, "long")
    report = {"content_hash": "a", "c44_gpa": 1.0} | dict.fromkeys(script.OF_RUNS, "short")
    longer = {"content_hash": "a", "c44_gpa": 2.0} | runs
    assert script.with_runs(report, longer) == {"content_hash": "a", "c44_gpa": 1.0} | runs
    for wrong in (longer | {"content_hash": "b"}, {"content_hash": "a"}):
        with pytest.raises(ValueError, match="no statistics of the same pair"):
            script.with_runs(report, wrong)


@pytest.fixture
def apart(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ModuleType, Path]:
    """The script on a page and results of their own, and three validations to keep."""
    monkeypatch.setattr(script, "tables", lambda report: str(report["force_error_by_depth"]))
    monkeypatch.setattr(script, "certificates", lambda r: r["independent"]["force_error_by_depth"])
    monkeypatch.setattr(script, "draw_pictures", lambda report: {"seam.png": b"png"})
    monkeypatch.setattr(script, "by_strain", lambda: "by strain")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(script, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(script, "CASES", ("ptco",))
    own = {"pair": ("p.duetto", "a" * 12), "independent": ("t.duetto", "t")}
    monkeypatch.setattr(script, "shipped", lambda case: own)
    for name, pair in (("short", "a" * 12), ("long", "a" * 12), ("other", "b" * 12)):
        runs = dict.fromkeys(script.OF_RUNS, name)
        runs["statistics"] = {"runs": 4, "length_ps": 100.0}
        twin = {"pair": "t.duetto", "content_hash": "t", **runs}
        report = {"pair": "p.duetto", "content_hash": pair, "seed": 1, "independent": twin, **runs}
        report["versions"] = dict.fromkeys(("torch", "numpy", "ase"), "1")
        command = f"duetto validate some.yaml 'a=[1, 2]' output.dir={name}"
        report["provenance"] = {"command": command, "commit": "abc", "processor": "one"}
        (tmp_path / name).mkdir()
        (tmp_path / name / "validate.json").write_text(json.dumps(report))
    return script, tmp_path


def with_marks(script: ModuleType) -> str:
    names = ("tables of ptco", "reference by strain")
    return "".join(f"{name}\n" + "\n".join(script.marks(name)) + "\n" for name in names)


def test_kept_reports_are_those_of_the_shipped_pairs(script: ModuleType, tmp_path: Path) -> None:
    for case in script.CASES:
        (tmp_path / "validate.json").write_bytes(script.file_of(case).read_bytes())
        assert script.to_keep(case, tmp_path)["pair"] == script.shipped(case)["pair"][0]
        for other in set(script.CASES) - {case}:
            with pytest.raises(ValueError, match=f"of the case {other} "):
                script.to_keep(other, tmp_path)


@pytest.mark.parametrize(
    ("option", "change", "said"),
    [
        ("--keep", "{", "{dir}/validate.json: not JSON: "),
        ("--keep", "[1]", "{dir}/validate.json: not a report"),
        ("--keep", None, "{dir}/validate.json: No such file"),
        ("--keep", {"seed": float("nan")}, "{dir}/validate.json: not JSON: NaN is no number"),
        ("--keep", '{"seed": 1}', "{dir}/validate.json: no pair; wanted is a whole validate.json"),
        ("--keep", {"content_hash": "b"}, "pair is p.duetto b, of the case ptco p.duetto aaaaaaa"),
        ("--keep", {"pair": "q.duetto"}, "pair is q.duetto aaaaaaaaaaaa, of the case ptco"),
        ("--keep", {"independent": None}, "independent is none , of the case ptco t.duetto t"),
        ("--keep", {"independent": {"pair": "t.duetto", "content_hash": "u"}}, "t.duetto u, of"),
        ("--keep", {"versions": {}}, "{dir}/validate.json: no 'torch'; wanted is a whole"),
        ("--keep", {"provenance": None}, "{dir}/validate.json: 'NoneType' object"),
        ("--keep", {"force_error_by_depth": ...}, "no 'force_error_by_depth'; wanted"),
        ("--long", "{", "{dir}/validate.json: not JSON: "),
        ("--long", None, "{dir}/validate.json: No such file"),
        ("--long", '{"seed": 1}', "no statistics of the same pair"),
        ("--long", {"content_hash": "b"}, "no statistics of the same pair"),
        ("--long", {"statistics": ...}, "no statistics of the same pair"),
        ("--long", {"provenance": ...}, "{dir}/validate.json: no provenance; wanted is a whole"),
        ("--long", {"independent": {"pair": "t"}}, "no independent.content_hash; wanted is"),
    ],
)
def test_what_cannot_be_kept_leaves_all_as_it_was(
    apart: tuple[ModuleType, Path],
    capsys: pytest.CaptureFixture[str],
    option: str,
    change: Any,
    said: str,
) -> None:
    """Text in the report's place, another value in it, a key less (...), or no report."""
    script, folder = apart
    (folder / "page.md").write_text(with_marks(script))
    script.main(["--keep", str(folder / "short")])
    report = folder / "long" / "validate.json"
    if isinstance(change, dict):
        changed = json.loads(report.read_text()) | change
        report.write_text(json.dumps({k: v for k, v in changed.items() if v is not ...}))
    elif change is None:
        report.unlink()
    else:
        report.write_text(change)
    refused(script, folder, capsys, [option, str(folder / "long")], said)


def refused(
    script: ModuleType,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        script.main(words)
    error = capsys.readouterr().err
    assert said.replace("{dir}", str(folder / "long")) in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_page_without_marks_and_missing_results_leave_all_as_it_was(
    apart: tuple[ModuleType, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    script, folder = apart
    words = ["--keep", str(folder / "short")]
    refused(script, folder, capsys, words, f"{folder / 'page.md'}: No such file")
    (folder / "page.md").write_text("no marks")
    refused(script, folder, capsys, words, "page.md: the page lacks the lines <!-- tables of ptco")
    (folder / "page.md").write_text(with_marks(script))
    refused(script, folder, capsys, [], "validation_ptco.json: No such file")
    script.main(words)
    (folder / "validation_ptco_runs.json").write_text('{"content_hash": "z"}')
    refused(script, folder, capsys, words, "validation_ptco_runs.json: no statistics of the same")


def test_the_command_line_keeps_a_validation_and_longer_runs(
    apart: tuple[ModuleType, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of pair and twin, and the words say whose; another pair's are refused in a line."""
    script, folder = apart
    page = folder / "page.md"
    page.write_text(with_marks(script))
    script.main(["--keep", str(folder / "short")])
    text = page.read_text()
    assert "By `duetto validate some.yaml 'a=[1, 2]'`, commit abc, one, seed 1, torch 1" in text
    assert "\n\nshort\n\nshort\n\n" in text
    assert "\n\nby strain\n\n" in text
    assert (folder / "images" / "validation_seam.png").read_bytes() == b"png"
    script.main(["--long", str(folder / "long")])
    text = page.read_text()
    assert "\n\nlong\n\nlong\n\n" in text
    assert "the twin's too) are 4 of 100 ps each, seed 1, by `duetto" in " ".join(text.split())
    script.main([])
    assert page.read_text() == text
    with pytest.raises(SystemExit, match="2"):
        script.main(["--long", str(folder / "other")])
    assert "no statistics of the same pair" in capsys.readouterr().err
    assert page.read_text() == text


def test_only_what_stands_between_the_marks_is_replaced(script: ModuleType) -> None:
    mine, others = script.marks("mine"), script.marks("others")
    kept = f"{others[0]}\nkept\n{others[1]}\nafter\n"
    old = f"before\n{mine[0]}\nold\n{mine[1]}\n{kept}"
    assert script.between(old, "mine", "new") == (f"before\n{mine[0]}\n\nnew\n\n{mine[1]}\n{kept}")
    for wrong, name in (
        (old, "nobody's"),
        (old + mine[0], "mine"),
        (f"{mine[1]}{mine[0]}", "mine"),
    ):
        with pytest.raises(ValueError, match="the page lacks the lines <!-- "):
            script.between(wrong, name, "new")
