"""Put the errors of the larger HFs into docs/cotraining.md, from bench/results/larger_hf.json.

    python scripts/larger_hf.py                              # from the rows that are kept
    python scripts/larger_hf.py --measure alone=pair.duetto … # these anew: two minutes each
    python scripts/larger_hf.py --curves alone=outputs/ptco/hf_large:1786:0 …

A column is an HF of one training; which there are, and how each was made, is in COLUMNS. Errors
are root mean squares of force components on the test frames of the three sets in
examples/ptco/data, in the last rows on a share of the training frames. A curve is what the log of a
training in DIR says of its validation frames, with the number of frames in an epoch and of those
that its HF had seen before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from plot_training import read_logs
from validation_page import RESULTS, ROOT, between, read_report

from duetto import ExpertPair
from duetto.atoms.labels import read_frames
from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance
from duetto.measure.errors.frames import Evaluator
from duetto.report.style import HF, LF, MIXTURE, MUTED, draw_png

PAGE, ROWS = ROOT / "docs" / "cotraining.md", RESULTS / "larger_hf.json"
PICTURE = ROOT / "docs" / "images" / "larger_hf.png"
DATA = ROOT / "examples" / "ptco" / "data"

COLUMNS = {
    "shipped": "shipped, 32/16",
    "scratch": "64/32, from scratch, agreeing",
    "alone": "64/32, alone",
    "agreeing": "going on, agreeing",
    "apart": "going on, apart",
}
"""Names of the columns: cotrain.yaml, cotrain_large.yaml, hf_large.yaml, agree_large.yaml and
apart_large.yaml of examples/ptco."""

SETS = {"first": DATA, "more": DATA / "more_co", "close": DATA / "close_co"}
EVERY = 4
"""Of the training frames every fourth is looked at."""

GROUPS: dict[str, tuple[str, ...]] = {
    "CO-covered, all": ("test first co_*",),
    "CO-covered, without `co_approach`": ("test first co_* but co_approach",),
    "`co_approach`": ("test first co_approach",),
    "bulk": ("test first bulk*",),
    "bulk at 300 K": ("test first bulk_300K*",),
    "more_co: crowded, hotter, steps": tuple(
        f"test more co_{name}" for name in ("crowded", "hotter", "steps")
    ),
    "more_co: stretched, thrown": ("test more co_stretched", "test more co_thrown"),
    "more_co: near each other, scattered": ("test more co_near", "test more co_scattered"),
    "close_co: approach, near": ("test close co_approach", "test close co_near"),
    "C, O and Pt of the first row": tuple(f"test first co_* of {s}" for s in ("C", "O", "Pt")),
    "training frames: CO-covered, bulk": ("train first co_*", "train first bulk*"),
    "training frames of more_co": ("train more co_*",),
    "training frames of close_co": ("train close co_*",),
}
"""Rows of the table: share of frames, set, config_types, of these all but one or one element."""


@dataclass(frozen=True)
class Errors:
    """What HF is off by on a frame.

    Attributes:
        kind: its config_type.
        symbols: (A,) of the atoms.
        forces: (A, 3) meV/Å.
    """

    kind: str
    symbols: npt.NDArray[np.str_]
    forces: npt.NDArray[np.float64]


def main(words: Sequence[str] | None = None) -> None:
    """Measure what the command line names, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measure", nargs="+", default=[], metavar="COLUMN=PAIR", help=f"of {', '.join(COLUMNS)}"
    )
    parser.add_argument(
        "--curves", nargs="+", default=[], metavar="COLUMN=DIR:FRAMES:BEFORE", help="from logs"
    )
    args = parser.parse_args(words)
    rows = read_report(ROWS)
    for text in args.measure:
        column, _, path = text.partition("=")
        if column not in COLUMNS or not Path(path).is_file():
            parser.error(f"--measure {text}: not COLUMN=PAIR, a column and a file that exists")
        rows["experts"][column] = measured(ExpertPair.load(path))
        rows["provenance"] = provenance()
    for text in args.curves:
        column, _, rest = text.partition("=")
        folder, frames, before = rest.rsplit(":", 2)
        curve = read_logs(Path(folder))["hf_forces_rmse"]
        rows["learning"][column] = {
            "frames_per_epoch": int(frames),
            "frames_before": int(before),
            "hf_forces_mev_per_angstrom": [curve[epoch] for epoch in sorted(curve)],
        }
    rows["experts"] = {name: rows["experts"][name] for name in COLUMNS if name in rows["experts"]}
    atomic_write(ROWS, json.dumps(rows, indent=1) + "\n")
    atomic_write(PAGE, between(PAGE.read_text(encoding="utf-8"), "larger HFs", written(rows)))
    atomic_write(
        PICTURE, draw_png(lambda figure: draw(figure, rows["learning"]), width=6, height=2.8)
    )


def measured(pair: ExpertPair) -> dict[str, Any]:
    """Errors of its HF by group, meV/Å, and what it is."""
    found = {
        f"{share} {name}": errors(pair, folder, share)
        for name, folder in SETS.items()
        for share in ("test", "train")
    }
    groups = {group: of_group(found, group) for row in GROUPS.values() for group in row}
    return {"content_hash": pair.content_hash, "forces_mev_per_angstrom": groups}


def errors(pair: ExpertPair, folder: Path, share: str) -> list[Errors]:
    """Of the frames of a set that are held out, or of a share of those that are not."""
    frames = read_frames(folder / f"ptco_chgnet_{share}.extxyz.gz")
    if share == "train":
        frames = frames[::EVERY]
    elif folder == DATA:
        frames += read_frames(folder / "bulk_agreement_test.extxyz.gz")
    evaluator = Evaluator(pair)
    return [
        Errors(
            atoms.info["config_type"],
            np.array(atoms.get_chemical_symbols()),
            1000 * (evaluator.expert("hf", atoms).forces - atoms.get_forces()),
        )
        for atoms in frames
    ]


def of_group(found: Mapping[str, Sequence[Errors]], group: str) -> float:
    """Root mean square of a component, meV/Å; groups are described at GROUPS."""
    share, name, kinds, *rest = group.split()
    but = rest[1] if rest[:1] == ["but"] else None
    element = rest[1] if rest[:1] == ["of"] else None
    chosen = [
        frame.forces if element is None else frame.forces[frame.symbols == element]
        for frame in found[f"{share} {name}"]
        if fnmatch(frame.kind, kinds) and frame.kind != but
    ]
    return float(np.sqrt(np.mean(np.concatenate(chosen) ** 2)))


def written(rows: Mapping[str, Any]) -> str:
    """The table, as Markdown."""
    columns = rows["experts"]
    lines = [f"| frames | {' | '.join(COLUMNS[name] for name in columns)} |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for row, groups in GROUPS.items():
        cells = [
            ", ".join(
                f"{found['forces_mev_per_angstrom'][group]:.{1 if len(groups) == 1 else 0}f}"
                for group in groups
            )
            for found in columns.values()
        ]
        lines.append(f"| {' | '.join([row, *cells])} |")
    return "\n".join(lines)


def draw(figure: Figure, learning: Mapping[str, Any]) -> None:
    """HF's errors on the validation frames against the frames that it has seen."""
    axes = figure.subplots()
    for (column, found), colour in zip(learning.items(), (LF, MIXTURE, HF), strict=True):
        errors = found["hf_forces_mev_per_angstrom"]
        seen = found["frames_before"] + found["frames_per_epoch"] * np.arange(1, len(errors) + 1)
        axes.plot(seen / 1000, errors, color=colour, label=COLUMNS[column], linewidth=1.3)
        axes.annotate(
            f"{errors[-1]:.1f}",
            (seen[-1] / 1000, errors[-1]),
            xytext=(-20, -8) if column == "alone" else (3, 4),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
        )
    axes.margins(x=0.08)
    axes.set_yscale("log")
    axes.set_yticks([40, 50, 60, 70, 80, 100], ["40", "50", "60", "70", "80", "100"])
    axes.minorticks_off()
    axes.set_xlabel("frames seen, thousands")
    axes.set_ylabel("HF forces, meV/Å")
    axes.set_title("Errors on the validation frames, 64/32")
    axes.grid(True, color=MUTED, alpha=0.2, linewidth=0.5)
    axes.legend(fontsize=7.5)


if __name__ == "__main__":
    main()
