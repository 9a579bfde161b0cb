"""Where a molecule of CO has been on Pt(111), from the folders of runs of `examples/ptco/hop.yaml`.

    python scripts/hopping.py outputs/ptco-hop outputs/ptco-hop-static --plot hopping.png

For each run: the share of the time that C sits on top of an atom, on a bridge and in a hollow, the
mean square displacement along the surface, and how many atoms HF computed. Errors are standard
errors of the means of blocks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from duetto.report.style import HF, LF, MUTED, draw_png

SITES = ("top", "bridge", "hollow")
BLOCKS = 5
LAYER_A = 1.2
"""Å below the highest platinum atoms that still belong to the top layer, warm as it is."""


@dataclass(frozen=True)
class Visit:
    """One run.

    Attributes:
        path: (F, 2) Å, C along the surface, not wrapped, less the mean of the top layer.
        sites: (F,) place in SITES.
        time_ps: (F,).
        n_hf: (F,) atoms with a weight of HF.
        lattice: (N, 2) Å, sites of the top layer at the start.
    """

    path: Any
    sites: Any
    time_ps: Any
    n_hf: Any
    lattice: Any


def site_of(atoms: Atoms, carbon: int, top: Any) -> int:
    """Which site C is closest to: on an atom, between two, or between three, along the surface."""
    vectors = atoms.get_distances(carbon, top, mic=True, vector=True)[:, :2]
    near = vectors[np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")[:3]]
    centres = [near[:1].mean(axis=0), near[:2].mean(axis=0), near.mean(axis=0)]
    return int(np.argmin([np.linalg.norm(centre) for centre in centres]))


def visit(folder: Path, skip_ps: float) -> Visit:
    """Read a run's trajectory, without its first `skip_ps`."""
    frames = ase.io.read(folder / "trajectory.xyz", ":")
    first = frames[0]
    carbon = int(np.flatnonzero(first.numbers == 6)[0])
    platinum = np.flatnonzero(first.numbers == 78)
    heights = first.positions[platinum, 2]
    top = platinum[heights > heights.max() - LAYER_A]
    time_ps = np.array([frame.info["time_fs"] for frame in frames]) / 1000.0
    kept = [frame for frame, t in zip(frames, time_ps, strict=True) if t >= skip_ps]
    path = np.array([f.positions[carbon, :2] - f.positions[top, :2].mean(axis=0) for f in kept])
    return Visit(
        path=path,
        sites=np.array([site_of(frame, carbon, top) for frame in kept]),
        time_ps=time_ps[time_ps >= skip_ps],
        n_hf=np.array([(frame.arrays["w"] > 0.0).sum() for frame in kept]),
        lattice=first.positions[top, :2] - first.positions[top, :2].mean(axis=0),
    )


def occupancy(run: Visit) -> tuple[Any, Any]:
    """Share of the time at each of SITES, and its standard error, (3,) each."""
    at = run.sites[:, None] == np.arange(len(SITES))
    blocks = np.array([part.mean(axis=0) for part in np.array_split(at, BLOCKS)])
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def displacement(run: Visit, lag_ps: float) -> tuple[float, float]:
    """Mean square displacement along the surface after `lag_ps`, Å², and its standard error."""
    lag = round(lag_ps / (run.time_ps[1] - run.time_ps[0]))
    square = ((run.path[lag:] - run.path[:-lag]) ** 2).sum(axis=1)
    blocks = np.array([part.mean() for part in np.array_split(square, BLOCKS)])
    return float(square.mean()), float(blocks.std(ddof=1) / np.sqrt(BLOCKS))


def draw(figure: Figure, runs: dict[str, Visit], lags: Any) -> None:
    """Paths over the surface, and the displacement over time."""
    panels = figure.subplots(1, len(runs) + 1)
    colours = dict(zip(runs, (HF, LF, MUTED, "#7a4fa3"), strict=False))
    for axes, (name, run) in zip(panels[:-1], runs.items(), strict=True):
        axes.plot(*run.lattice.T, "o", color="#d9dde4", markersize=9, zorder=0)
        axes.plot(*run.path.T, "-", color=colours[name], linewidth=0.7)
        axes.plot(*run.path[0], "o", color="black", markersize=4)
        axes.set_aspect("equal")
        axes.set_title(f"{name}: HF on {run.n_hf.mean():.0f} atoms", fontsize=9)
        axes.set_xlabel("x, Å")
    panels[0].set_ylabel("y, Å")
    for name, run in runs.items():
        values = np.array([displacement(run, lag) for lag in lags])
        panels[-1].errorbar(
            lags, values[:, 0], values[:, 1], color=colours[name], marker="o", markersize=3,
            capsize=2, label=name,
        )  # fmt: skip
    panels[-1].set_title("displacement", fontsize=9)
    panels[-1].set_xlabel("time, ps")
    panels[-1].set_ylabel("mean square, Å²")
    panels[-1].legend()


def main() -> int:
    """Print a row per run, in Markdown, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="outputs of the runs")
    parser.add_argument("--skip", type=float, default=1.0, metavar="PS", help="of warming up")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw paths and displacements")
    args = parser.parse_args()
    runs = {folder.name: visit(folder, args.skip) for folder in args.runs}
    shortest = min(run.time_ps[-1] - run.time_ps[0] for run in runs.values())
    lags = shortest * np.array([0.01, 0.02, 0.03, 0.05, 0.07, 0.1])
    print(f"| run | HF atoms | {' | '.join(SITES)} | displacement in {lags[-1]:.2g} ps, Å² |")
    print("|---|---|---|---|---|---|")
    for name, run in runs.items():
        shares = (f"{m:.2f} ± {e:.2f}" for m, e in zip(*occupancy(run), strict=True))
        square, error = displacement(run, lags[-1])
        numbers = " | ".join(shares)
        print(f"| {name} | {run.n_hf.mean():.0f} | {numbers} | {square:.2f} ± {error:.2f} |")
    if args.plot is not None:
        picture = draw_png(
            lambda figure: draw(figure, runs, lags), width=2.8 * (len(runs) + 1), height=3.0
        )
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        args.plot.write_bytes(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
