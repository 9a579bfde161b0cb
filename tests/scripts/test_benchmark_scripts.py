"""Comparing benchmarks with their baseline, and drawing the recorded rows."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from duetto.measure.bench.rows import Row

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _write_run(path: Path, ratios: dict[str, float]) -> Path:
    benchmarks = [{"name": n, "extra_info": {"ratio": r}} for n, r in ratios.items()]
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    return path


def test_slowdown_is_flagged_as_a_ratio(tmp_path: Path, capsys) -> None:
    compare = _script("compare_benchmarks")
    baseline = tmp_path / "baseline.json"
    run = _write_run(tmp_path / "run.json", {"moments": 0.5, "scatter": 0.1})
    assert compare.main([str(run), "--baseline", str(baseline), "--update"]) == 0
    assert json.loads(baseline.read_text()) == {"moments": 0.5, "scatter": 0.1}
    assert compare.main([str(run), "--baseline", str(baseline)]) == 0
    assert "no slowdown" in capsys.readouterr().out
    slower = _write_run(tmp_path / "slow.json", {"moments": 0.76, "scatter": 0.14, "new": 1.0})
    assert compare.main([str(slower), "--baseline", str(baseline)]) == 1
    assert "moments: 1.52 times as slow" in capsys.readouterr().err
    assert compare.main([str(slower), "--baseline", str(baseline), "--limit", "1.6"]) == 0
    partial = _write_run(tmp_path / "partial.json", {"moments": 0.5})
    assert compare.main([str(partial), "--baseline", str(baseline)]) == 1
    assert "scatter: in the baseline, but was not run" in capsys.readouterr().err


def _row(**values: object) -> dict[str, object]:
    row: dict[str, object] = {field.name: "" for field in fields(Row)}
    provenance = ("commit", "date", "processor", "cores", "torch", "numba", "nequip", "python")
    row |= dict.fromkeys((*provenance, "nequip-allegro"), "x")
    row |= {"system": "pt", "architecture": "hf64", "r_max": 5.0, "dtype": "float32"}
    row |= {"interface": "model", "threads": 2, "complex_fraction": 1.0, "device": "cpu"}
    row |= {"allocator": "keep"}
    return row | values


def test_pictures_and_tables_come_from_the_last_rows(tmp_path: Path, monkeypatch) -> None:
    plot = _script("plot_benchmarks")
    rows = [
        _row(engine="nequip_eager", n_atoms=500, step_ms_median=1800.0),
        _row(engine="full_hf", n_atoms=500, step_ms_median=99.0, speedup_vs_nequip_best=1.0),
        _row(
            engine="full_hf",
            n_atoms=500,
            nequip_n_atoms=500,
            step_ms_median=30.5,
            speedup_vs_nequip_best=59.0,
        ),
        _row(engine="full_lf", n_atoms=1000, step_ms_median=2.0),
        _row(engine="full_lf", n_atoms=4000, step_ms_median=8.8, memory_bytes_per_atom=1234.0),
    ]
    for fraction in (0.1, 0.2):
        rows.append(
            _row(
                engine="mixture",
                n_atoms=8000,
                complex_fraction=fraction,
                step_ms_median=100.0,
                speedup_vs_full_hf=5.0,
                speedup_vs_nequip_best=250.0,
                speedup_ideal=6.0,
                share_of_ideal=5 / 6,
            )
        )
    path = tmp_path / "rows.csv"
    with path.open("w") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{plot.BEGIN}\nold\n{plot.END}\nafter\n")
    arguments = ["--rows", str(path), "--images", str(tmp_path / "images"), "--page", str(page)]
    monkeypatch.setattr("sys.argv", ["plot_benchmarks.py", *arguments])
    plot.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "30.500" in text
    assert "99.000" not in text
    assert "83.3%" in text
    assert text.count("](images/") == 3
    assert "over nequip's faster engine, freed memory kept: 59.0 times (conditions: 1)" in text
    assert "8,000 atoms, 10 % complex: 83% of the ideal" in text
    assert "full HF, 250 times nequip's best" in text
    assert "full LF, 1,000 to 4,000 atoms: 2.00 to 2.20 µs per atom, a spread of 10%" in text
    assert "full LF, 4,000 atoms: 1.23 kB of memory per atom" in text
    pictures = {file.name for file in (tmp_path / "images").iterdir()}
    assert pictures == {"speedup_vs_nequip.png", "time_per_atom.png", "mixture_speedup.png"}
    page.write_text("no markers")
    with pytest.raises(ValueError, match="rows"):
        plot.write_page(page, "text")
