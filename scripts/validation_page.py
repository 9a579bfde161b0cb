"""Put the tables of the kept validations into docs/validation.md, with where they come from.

    python scripts/validation_page.py                    # from bench/results/validation_*.json
    duetto validate examples/ptco/validate.yaml KEY=VALUE …
    python scripts/validation_page.py --keep outputs/ptco-validation [--long outputs/long]
    python scripts/validation_page.py --keep outputs/nih-validation --case nih

Replaces what stands between the page's marks of each case, and draws the pictures beside it into
images/. `--keep` takes a new validation into bench/results first, `--long` the runs of a longer one
of the same pair. The page says nothing that is not in these files.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duetto.files import atomic_write
from duetto.validate.page import certificates, tables
from duetto.validate.pictures import draw_pictures

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "validation.md"

CASES = ("ptco", "ptco_large", "nih")
"""Pairs of the examples; the pictures of the first have no name of their own."""

ABOUT = ("seed", "pair", "content_hash", "versions", "provenance")
"""What is kept of a longer validation besides its runs."""

OF_RUNS = (
    "statistics",
    "nve_drift_mev_per_atom_per_ps",
    "nve_drift_standard_error_mev_per_atom_per_ps",
    "force_rmse_mev_per_angstrom",
    "force_rmse_standard_error_mev_per_angstrom",
    "force_rmse_snapshots",
    "force_error_by_depth",
)
"""What a report says of its runs at constant energy."""


def main(words: Sequence[str] | None = None) -> None:
    """Keep what the command line names, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="output.dir of a validation")
    parser.add_argument("--case", default=CASES[0], choices=CASES, help="whose; default ptco")
    parser.add_argument(
        "--long", type=Path, metavar="DIR", help="keep the runs of this validation of the pair"
    )
    parser.add_argument("--note", default="", help="a sentence on these runs, kept with them")
    args = parser.parse_args(words)
    try:
        if args.keep is not None:
            keep(args.case, args.keep)
        if args.long is not None:
            keep_runs(args.case, args.long, args.note)
    except ValueError as error:
        parser.error(str(error))
    atomic_write(PAGE, page_of(PAGE.read_text(encoding="utf-8")))
    images = PAGE.parent / "images"
    images.mkdir(exist_ok=True)
    for case in CASES:
        of_case = "" if case == CASES[0] else f"{case}_"
        for name, png in draw_pictures(kept(case)[0]).items():
            atomic_write(images / f"validation_{of_case}{name}", png)


def file_of(case: str, runs: bool = False) -> Path:
    """Where a validation is kept, or the runs of a longer one."""
    return RESULTS / f"validation_{case}{'_runs' if runs else ''}.json"


def keep(case: str, folder: Path) -> None:
    """Take a validation as it is."""
    _write(file_of(case), read_report(folder / "validate.json"))


def keep_runs(case: str, folder: Path, note: str = "") -> None:
    """Take what a longer validation says of its runs, and a sentence on them.

    Raises:
        ValueError: it is of another pair, or has no statistics.
    """
    report = read_report(folder / "validate.json")
    with_runs(read_report(file_of(case)), report)
    found = {key: report[key] for key in (*ABOUT, *OF_RUNS)}
    if "independent" in report:
        found["independent"] = {
            key: report["independent"][key] for key in ("pair", "content_hash", *OF_RUNS)
        }
    _write(file_of(case, runs=True), found | ({"note": note} if note else {}))


def _write(path: Path, report: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def read_report(path: Path) -> dict[str, Any]:
    """What a command found and wrote as JSON."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def kept(case: str) -> tuple[dict[str, Any], str]:
    """A kept report with the runs of the longer one, and a sentence on these, empty if none."""
    report, runs = read_report(file_of(case)), file_of(case, runs=True)
    if not runs.is_file():
        return report, ""
    longer = read_report(runs)
    return with_runs(report, longer), told(report, longer)


def with_runs(report: dict[str, Any], longer: dict[str, Any]) -> dict[str, Any]:
    """The report with the statistics, drifts and errors of another one's runs of the same pair.

    The twin's as well where the other has the same twin; else the twin keeps its own.

    Raises:
        ValueError: it is another pair, or it has no statistics.
    """
    if longer["content_hash"] != report["content_hash"] or "statistics" not in longer:
        raise ValueError("--long: no statistics of the same pair")
    found = report | {key: longer[key] for key in OF_RUNS}
    if _same_twin(report, longer):
        found["independent"] = with_runs(report["independent"], longer["independent"])
    return found


def told(report: dict[str, Any], longer: dict[str, Any]) -> str:
    """A sentence on where the runs come from that `with_runs` takes."""
    row = longer["statistics"]
    of_twin = ", the twin's too" if _same_twin(report, longer) else ", not the twin's"
    return (
        f"The runs at constant energy (drifts, force errors by region, statistics{of_twin}) are "
        f"{row['runs']} of {row['length_ps']:.4g} ps each, seed {longer['seed']}, by "
        f"{_by(longer)}. {longer.get('note', '')}".strip()
    )


def _same_twin(report: dict[str, Any], longer: dict[str, Any]) -> bool:
    twins = [one.get("independent", {}).get("content_hash") for one in (report, longer)]
    return twins[0] is not None and twins[0] == twins[1]


def _by(report: dict[str, Any]) -> str:
    """The command, the commit and the processor; not where the results went."""
    made = report["provenance"]
    words = [w for w in shlex.split(made["command"]) if not w.startswith("output.dir=")]
    return f"`{shlex.join(words)}`, commit {made['commit']}, {made['processor']}"


def marks(name: str) -> tuple[str, str]:
    """The lines between which the script writes."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def between(text: str, name: str, new: str) -> str:
    """The page with this between the marks of that name.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = marks(name)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def page_of(text: str) -> str:
    """The page with all that the kept files say."""
    for case in CASES:
        text = between(text, f"tables of {case}", written(*kept(case)))
    return between(text, "reference by strain", by_strain())


def written(report: dict[str, Any], longer: str = "") -> str:
    """A case's tables, after where they come from and, in a sentence, its longer runs do."""
    versions = ", ".join(f"{name} {report['versions'][name]}" for name in ("torch", "numpy", "ase"))
    origin = (
        f"By {_by(report)}, seed {report['seed']}, {versions}; `{report['pair']}` has the hash "
        f"{report['content_hash'][:12]}."
    )
    parts = [f"{origin} {longer}".strip(), tables(report), certificates(report)]
    return "\n\n".join(parts)


def by_strain() -> str:
    """The reference's constants by the step of strain, from their rows."""
    with (RESULTS / "reference_strain.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    heads = ("strains, %", "cells", "C11, GPa", "C12, GPa", "C44, GPa", "(C11 + 2 C12)/3, GPa")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        step = 100 * float(row["strain"])
        c11, c12, c44 = (float(row[f"{key}_gpa"]) for key in ("c11", "c12", "c44"))
        lines.append(
            f"| ±{step:g} and ±{2 * step:g} | {int(row['cells']) ** 3} | {c11:.0f} | {c12:.0f} "
            f"| {c44:.0f} | {(c11 + 2 * c12) / 3:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
