"""Put the tables of a validation into its page, with where they come from.

    duetto validate examples/ptco/validate.yaml KEY=VALUE …
    python scripts/validation_page.py outputs/ptco-validation docs/validation.md
    python scripts/validation_page.py outputs/nih-validation docs/validation.md --case nih
    python scripts/validation_page.py outputs/ptco-validation docs/validation.md --long outputs/long

Replaces what stands between the page's two marks of the case, and draws the pictures beside it
into images/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duetto.files import atomic_write
from duetto.validate.page import certificates, tables
from duetto.validate.pictures import draw_pictures

CASE = "ptco"
"""Whose marks have no name and whose pictures none either."""

OF_RUNS = (
    "statistics",
    "nve_drift_mev_per_atom_per_ps",
    "force_rmse_mev_per_angstrom",
    "force_error_by_depth",
)
"""What a report says of its runs at constant energy."""


def main(words: Sequence[str] | None = None) -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="DIR", help="output.dir of the validation")
    parser.add_argument("page", type=Path, metavar="PAGE", help="the Markdown page")
    parser.add_argument("--case", default=CASE, help="folder of examples; default ptco")
    parser.add_argument("--commit", help="that computed it; default: that of the checkout")
    parser.add_argument("--words", default="", help="KEY=VALUE … behind the configuration")
    parser.add_argument(
        "--long", type=Path, metavar="DIR", help="take the runs from this validation of the pair"
    )
    args = parser.parse_args(words)
    report, longer = read_report(args.results), ""
    if args.long is not None:
        other = read_report(args.long)
        try:
            report, longer = with_runs(report, other), told(report, other)
        except ValueError as error:
            parser.error(str(error))
    text = args.page.read_text(encoding="utf-8")
    commit = args.commit or _commit()
    atomic_write(args.page, with_tables(text, report, commit, args.words, args.case, longer))
    images = args.page.parent / "images"
    images.mkdir(exist_ok=True)
    of_case = "" if args.case == CASE else f"{args.case}_"
    for name, png in draw_pictures(report).items():
        atomic_write(images / f"validation_{of_case}{name}", png)


def read_report(folder: Path) -> dict[str, Any]:
    """What a validation found."""
    found: dict[str, Any] = json.loads((folder / "validate.json").read_text(encoding="utf-8"))
    return found


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
        f"Its runs at constant energy (drifts, force errors by region, statistics{of_twin}) are "
        f"those of another validation of the same pair, seed {longer['seed']}: {row['runs']} of "
        f"{row['length_ps']:.4g} ps."
    )


def _same_twin(report: dict[str, Any], longer: dict[str, Any]) -> bool:
    twins = [one.get("independent", {}).get("content_hash") for one in (report, longer)]
    return twins[0] is not None and twins[0] == twins[1]


def marks(case: str = CASE) -> tuple[str, str]:
    """The lines between which a case has its tables."""
    name = "tables" if case == CASE else f"tables of {case}"
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def with_tables(
    text: str,
    report: dict[str, Any],
    commit: str,
    words: str = "",
    case: str = CASE,
    longer: str = "",
) -> str:
    """The page with the report's tables between the marks of its case.

    Args:
        text: the page.
        report: of the validation.
        commit: that computed it.
        words: behind the configuration.
        case: folder of examples.
        longer: a sentence on where its runs at constant energy come from, if from elsewhere.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = marks(case)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    versions = ", ".join(f"{name} {report['versions'][name]}" for name in ("torch", "numpy", "ase"))
    command = f"duetto validate examples/{case}/validate.yaml"
    origin = (
        f"By `{command}`, seed {report['seed']}, commit {commit}, {versions}; "
        f"`{report['pair']}` has the hash {report['content_hash'][:12]}."
    )
    if words:
        origin += f" Behind the configuration: `{words}`."
    if longer:
        origin += f" {longer}"
    parts = [origin, tables(report), certificates(report)]
    return f"{before}{begin}\n\n" + "\n\n".join(parts) + f"\n\n{end}{after}"


def _commit() -> str:
    command = ["git", "rev-parse", "--short=9", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
