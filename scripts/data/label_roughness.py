"""How rough the labels' forces are between the frames, and what that leaves of HF's error.

    python scripts/data/label_roughness.py --pair PAIR.duetto \
        --rows bench/results/label_roughness.csv --plot docs/images/label_roughness.png
    python scripts/data/label_roughness.py --rows ROWS --plot PNG --draw

Along straight lines through test frames of examples/ptco, in the direction in which another frame
of the same run lies, some three minutes for CHGNet on one core. In windows of a length the forces
are compared with the cubic polynomials nearest to them: what is left is structure that is finer
than the window. `--draw` draws again what the rows hold. What it means is in docs/cotraining.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from label_locality import (
    EXAMPLE,
    PLATINUM,
    Array,
    as_csv,
    parser_of,
    read_frames,
    root_of,
    rows_and_picture,
    runs_of,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ptco.calculators import load_calculator

from duetto import DuettoCalculator, ExpertPair
from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance
from duetto.report.style import HF, LF, MUTED

FILES = ("bulk_agreement_test.extxyz.gz", "ptco_chgnet_test.extxyz.gz")
FAMILIES = ("bulk_300K_32", "bulk_900K_32", "bulk_md", "co_100", "co_111", "co_211", "co_hot")

LENGTH_A, POINTS = 0.2, 81
"""Of a line, as the root mean square displacement of a component from one end to the other."""

WINDOWS = (9, 17, 25, 33, 41, 61, 81)
"""Points of a window; a cubic has four coefficients, so that the shortest leaves five free."""

DEGREE = 3
BULK, METAL, MOLECULE = "Pt in bulk", "Pt of slabs with CO", "C and O"
CURVES = {"labels": ("labels", "-"), "hf": ("HF", ":"), "error": ("HF − labels", "--")}


def main() -> int:
    """Measure, write and draw; return the exit code."""
    return rows_and_picture(parser_of(__doc__), measure, draw, size=(6.4, 3.2))


def measure(args: argparse.Namespace) -> None:
    """Write the rows; again after every frame."""
    labels = load_calculator(args.calculator)
    pair = ExpertPair.load(args.pair)
    hf = DuettoCalculator(pair, device="cpu", self_check=False)
    origin = {"pair_hash": pair.content_hash[:12]} | provenance()
    squares: list[dict[str, Any]] = []
    for frame, other in chosen():
        positions = line(frame, other)
        forces = {"labels": along(frame, positions, labels), "hf": along(frame, positions, hf)}
        squares += finer_than(frame, forces)
        atomic_write(args.rows, as_csv([row | origin for row in rows_of(squares)]))
        print(frame.info["config_type"], file=sys.stderr, flush=True)


def chosen() -> Iterator[tuple[Atoms, Atoms]]:
    """The first two test frames of the smallest run of each family."""
    frames = [frame for name in FILES for frame in read_frames(EXAMPLE / "data" / name)]
    for family in FAMILIES:
        runs = runs_of([frame for frame in frames if frame.info["config_type"] == family])
        run = min((run for run in runs if len(run) > 1), key=lambda run: len(run[0]))
        yield run[0], run[1]


def line(frame: Atoms, other: Atoms) -> Array:
    """(POINTS, A, 3) Å, towards another frame and away from it; the frame is in the middle."""
    move = other.positions - frame.positions
    direction = find_mic(move, frame.cell, frame.pbc)[0]
    direction -= direction.mean(axis=0)
    direction /= np.sqrt((direction**2).mean())
    steps = np.linspace(-LENGTH_A / 2, LENGTH_A / 2, POINTS)
    return np.asarray(frame.positions + steps[:, None, None] * direction)


def along(frame: Atoms, positions: Array, calculator: Any) -> Array:
    """(POINTS, A, 3) forces, eV/Å."""
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.calc = calculator
    found = []
    for place in positions:
        atoms.positions = place
        found.append(atoms.get_forces().copy())
    return np.array(found)


def finer_than(frame: Atoms, forces: dict[str, Array]) -> Iterator[dict[str, Any]]:
    """Mean squares of what is left of each curve beside cubics, (eV/Å)², by window and atoms."""
    forces = forces | {"error": forces["hf"] - forces["labels"]}
    bulk = str(frame.info["config_type"]).startswith("bulk")
    metal = frame.numbers == PLATINUM
    for kind, atoms in ((BULK if bulk else METAL, metal), (MOLECULE, ~metal)):
        if not atoms.any():
            continue
        total = float((forces["error"][:, atoms] ** 2).mean())
        for name, curve in forces.items():
            values = curve[:, atoms].reshape(POINTS, -1)
            for points in WINDOWS:
                yield {
                    "curve": name,
                    "atoms": kind,
                    "window_angstrom": round(LENGTH_A * (points - 1) / (POINTS - 1), 4),
                    "square": left_of_cubics(values, points),
                    "total": total,
                }


def left_of_cubics(values: Array, points: int) -> float:
    """Mean square of (n, components) beside the nearest cubics, for each degree left free.

    Windows of `points` points that overlap by half. The sum of squares is divided by what the fit
    leaves free, points − 4, so that noise from one point to the next has its own variance in every
    window.
    """
    x = np.linspace(-1.0, 1.0, points)
    basis = np.linalg.qr(np.polynomial.chebyshev.chebvander(x, DEGREE))[0]
    squares = []
    for start in range(0, len(values) - points + 1, max((points - 1) // 2, 1)):
        window = values[start : start + points]
        rest = window - basis @ (basis.T @ window)
        squares.append((rest**2).sum(axis=0) / (points - DEGREE - 1))
    return float(np.mean(squares))


def rows_of(squares: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Root mean squares of a component, meV/Å, over the frames."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in squares:
        groups.setdefault((row["curve"], row["atoms"], row["window_angstrom"]), []).append(row)
    return [
        {
            "curve": curve,
            "atoms": kind,
            "window_angstrom": window,
            "finer_mev_per_angstrom": round(root_of([row["square"] for row in group]), 2),
            "hf_error_mev_per_angstrom": round(root_of([row["total"] for row in group]), 2),
            "frames": len(group),
        }
        for (curve, kind, window), group in sorted(groups.items())
    ]


def draw(figure: Figure, rows: Sequence[dict[str, str]]) -> None:
    """What is finer than a window, in labels, HF and HF's error."""
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for axes, kind, colour in zip(panels, (BULK, MOLECULE), (LF, HF), strict=True):
        found = [row for row in rows if row["atoms"] == kind]
        for curve, (name, style) in CURVES.items():
            points = sorted(
                (float(r["window_angstrom"]), float(r["finer_mev_per_angstrom"]))
                for r in found
                if r["curve"] == curve
            )
            axes.plot(*np.transpose(points), style, color=colour, linewidth=1.6, label=name)
        total = float(found[0]["hf_error_mev_per_angstrom"])
        axes.axhline(total, color=MUTED, linewidth=1.0, label="HF's error, all of it")
        axes.set(xscale="log", yscale="log", xlabel="window, Å", title=kind)
        axes.set_xticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
        axes.minorticks_off()
        axes.grid(axis="y")
    panels[0].set_ylabel("finer than the window, meV/Å")
    panels[1].legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
