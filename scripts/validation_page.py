"""Put the tables of the kept validations into docs/validation.md, with where they come from.

    python scripts/validation_page.py                    # from bench/results/validation_*.json
    duetto validate examples/ptco/validate.yaml KEY=VALUE …
    python scripts/validation_page.py --keep outputs/ptco-validation [--long outputs/long]
    python scripts/validation_page.py --keep outputs/nih-validation --case nih

Replaces what stands between the page's marks of each case, and draws the pictures beside it into
images/. `--keep` takes a new validation into bench/results first, `--long` the runs of a longer one
of the same pair: of the pair that the examples ship, and whole, or nothing is written. The page
says nothing that is not in these files.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.validate.config import load_validation
from duetto.validate.page import certificates, tables
from duetto.validate.pictures import draw_pictures
from duetto.validate.validation import REPORT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "validation.md"

EXAMPLES = {
    "ptco": "ptco/validate.yaml",
    "ptco_large": "ptco/validate_large.yaml",
    "nih": "nih/validate.yaml",
}
"""What is validated, in examples."""

CASES = tuple(EXAMPLES)
"""The pictures of the first have no name of their own."""

NOTHING: Mapping[Path, dict[str, Any]] = MappingProxyType({})

WANTED = "wanted is a whole validate.json of duetto validate"

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
    """Keep what the command line names, and write the page: all of it or nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="output.dir of a validation")
    parser.add_argument("--case", default=CASES[0], choices=CASES, help="whose; default ptco")
    parser.add_argument(
        "--long", type=Path, metavar="DIR", help="keep the runs of this validation of the pair"
    )
    parser.add_argument("--note", default="", help="a sentence on these runs, kept with them")
    args = parser.parse_args(words)
    new: dict[Path, dict[str, Any]] = {}
    try:
        if args.keep is not None:
            new[file_of(args.case)] = to_keep(args.case, args.keep)
        if args.long is not None:
            new[file_of(args.case, runs=True)] = runs_to_keep(args.case, args.long, new, args.note)
        page, pictures = made(new, {} if args.keep is None else {args.case: args.keep / REPORT})
    except OSError as error:
        parser.exit(2, f"{parser.prog}: error: {error.filename}: {error.strerror}\n")
    except (ValueError, InputError) as error:
        parser.exit(2, f"{parser.prog}: error: {' '.join(str(error).split())}\n")
    for path, report in new.items():
        atomic_write(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
    atomic_write(PAGE, page)
    images = PAGE.parent / "images"
    images.mkdir(exist_ok=True)
    for name, png in pictures.items():
        atomic_write(images / name, png)


def made(
    new: Mapping[Path, dict[str, Any]], origins: Mapping[str, Path]
) -> tuple[str, dict[str, bytes]]:
    """The page and its pictures by name, of the kept files and what goes in their place.

    Args:
        new: reports by the file in whose place they are.
        origins: where a case's new report comes from, for messages.

    Raises:
        ValueError: a report lacks what the page shows, or the page its marks.
        OSError: a kept file or the page cannot be read.
    """
    page, texts, pictures = PAGE.read_text(encoding="utf-8"), {}, {}
    for case in CASES:
        report, longer = kept(case, new)
        where = origins.get(case, file_of(case))
        of_case = "" if case == CASES[0] else f"{case}_"
        try:
            texts[case] = written(report, longer)
            for name, png in draw_pictures(report).items():
                pictures[f"validation_{of_case}{name}"] = png
        except KeyError as error:
            raise ValueError(f"{where}: no {error}; {WANTED}") from error
        except (TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"{where}: {error}; {WANTED}") from error
    try:
        return page_of(page, texts), pictures
    except ValueError as error:
        raise ValueError(f"{PAGE}: {error}") from error


def file_of(case: str, runs: bool = False) -> Path:
    """Where a validation is kept, or the runs of a longer one."""
    return RESULTS / f"validation_{case}{'_runs' if runs else ''}.json"


def to_keep(case: str, folder: Path) -> dict[str, Any]:
    """A validation as it is, of the case's own pair and twin.

    Raises:
        ValueError: there is none, or it is of others.
    """
    report = read_report(folder / REPORT)
    _require_keys(report, ABOUT, folder / REPORT)
    own = shipped(case)
    for key in ("pair", "independent"):
        found = report if key == "pair" else report.get(key)
        if found is None and key not in own:
            continue
        named, wanted = _name_of(found), own.get(key, ("none", ""))
        if named != wanted:
            raise ValueError(
                f"{folder / REPORT}: {key} is {named[0]} {named[1][:12]}, of the case {case} "
                f"{wanted[0]} {wanted[1][:12]}; validate {EXAMPLES[case]}, or name another --case"
            )
    return report


def shipped(case: str) -> dict[str, tuple[str, str]]:
    """Name and content hash of the case's pair and, where it has one, its twin."""
    config = load_validation(ROOT / "examples" / EXAMPLES[case])
    files = {"pair": config.pair, "independent": config.independent}
    return {
        key: (file.name, ExpertPair.load(file).content_hash)
        for key, file in files.items()
        if file is not None
    }


def _name_of(found: Any) -> tuple[str, str]:
    found = found if isinstance(found, dict) else {}
    return str(found.get("pair", "none")), str(found.get("content_hash", ""))


def runs_to_keep(
    case: str, folder: Path, new: Mapping[Path, dict[str, Any]], note: str = ""
) -> dict[str, Any]:
    """What a longer validation says of its runs, and a sentence on them.

    Raises:
        ValueError: there is none, it is of another pair, or lacks what is kept.
    """
    path = folder / REPORT
    report = read_report(path)
    try:
        _require_same(report_in(file_of(case), new), report)
    except ValueError as error:
        raise ValueError(f"{path}: {error} as {file_of(case)}; --long wants these") from error
    _require_keys(report, (*ABOUT, *OF_RUNS), path)
    found = {key: report[key] for key in (*ABOUT, *OF_RUNS)}
    if "independent" in report:
        of_twin = ("pair", "content_hash", *OF_RUNS)
        _require_keys(report["independent"], of_twin, path, "independent.")
        found["independent"] = {key: report["independent"][key] for key in of_twin}
    return found | ({"note": note} if note else {})


def _require_keys(report: Any, keys: Sequence[str], path: Path, at: str = "") -> None:
    for key in keys:
        if not isinstance(report, dict) or key not in report:
            raise ValueError(f"{path}: no {at}{key}; {WANTED}")


def read_report(path: Path) -> dict[str, Any]:
    """What a command found and wrote as JSON.

    Raises:
        ValueError: it is no JSON, or no mapping.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a report: JSON, but no mapping")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number there")


def report_in(path: Path, new: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """The kept report of a file, or the one that goes in its place."""
    return new[path] if path in new else read_report(path)


def kept(case: str, new: Mapping[Path, dict[str, Any]] = NOTHING) -> tuple[dict[str, Any], str]:
    """A kept report with the runs of the longer one, and a sentence on these, empty if none."""
    report, runs = report_in(file_of(case), new), file_of(case, runs=True)
    if runs not in new and not runs.is_file():
        return report, ""
    longer = report_in(runs, new)
    try:
        return with_runs(report, longer), told(report, longer)
    except ValueError as error:
        raise ValueError(f"{runs}: {error}; keep others by --long, or remove the file") from error
    except KeyError as error:
        raise ValueError(f"{runs}: no {error}; {WANTED}") from error


def with_runs(report: dict[str, Any], longer: dict[str, Any]) -> dict[str, Any]:
    """The report with the statistics, drifts and errors of another one's runs of the same pair.

    The twin's as well where the other has the same twin; else the twin keeps its own.

    Raises:
        ValueError: it is another pair, or it has no statistics.
    """
    _require_same(report, longer)
    found = report | {key: longer[key] for key in OF_RUNS}
    if _same_twin(report, longer):
        found["independent"] = with_runs(report["independent"], longer["independent"])
    return found


def _require_same(report: dict[str, Any], longer: dict[str, Any]) -> None:
    named = [one.get("content_hash") for one in (report, longer)]
    if named[0] is None or named[0] != named[1] or "statistics" not in longer:
        raise ValueError("no statistics of the same pair")


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
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the page lacks the lines {begin} and {end}, in this order, once each")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def page_of(text: str, cases: Mapping[str, str] | None = None) -> str:
    """The page with all that the kept files say, or with these words on the cases."""
    for case in CASES:
        words = written(*kept(case)) if cases is None else cases[case]
        text = between(text, f"tables of {case}", words)
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
