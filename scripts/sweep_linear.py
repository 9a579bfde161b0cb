"""What a linear LF's basis buys: force error on unseen structures against the cost of an edge.

    python scripts/sweep_linear.py examples/ptco/ptco.duetto --config examples/ptco/distil.yaml \
        --every 8 --cutoffs 4.5 --rows bench/results/linear_sweep.csv \
        --plot docs/images/linear_sweep.png

Every basis is fitted as `duetto distil` does it, with the same structures, constraints and its own
ridge by cross-validation. The cost is processor time of one core, the least of several evaluations.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from duetto.distil.fit import Fit, cost_per_edge, distil
from duetto.distil.gathered import evaluate
from duetto.distil.settings import read_settings
from duetto.experts.linear.basis import basis_of
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.report.style import HF, INK, LF, MIXTURE, MUTED, draw_png

BASES: dict[str, str] = {
    "l = 0": "radials=[5] three_body=[5] four_body=[]",
    "l = 0, four-body": "radials=[5] three_body=[5] four_body=[[0,0,0,5]]",
    "l = 1": "radials=[5,5] three_body=[5,5] four_body=[[0,0,0,5]]",
    "l = 2": "radials=[5,5,5] three_body=[5,5,5] four_body=[]",
    "l = 2, four-body": "radials=[5,5,5] three_body=[5,5,5] four_body=[[0,0,0,5]]",
    "l = 2, three radials": "radials=[5,3,3] three_body=[5,3,3] four_body=[[0,0,0,3]]",
    "l = 2, coupled": "radials=[5,5,5] three_body=[5,5,5] "
    "four_body=[[0,0,0,5],[0,1,1,2],[0,2,2,2],[1,1,2,2]]",
    "l = 3": "radials=[5,5,5,3] three_body=[5,5,5,3] four_body=[[0,0,0,5]]",
}
"""Settings of `duetto distil` by name."""

COLOURS = (HF, LF, MIXTURE, MUTED, INK)


def main() -> None:
    """Fit every basis, write rows, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", help="pair file whose HF is fitted to")
    parser.add_argument("--config", help="settings of duetto distil: data, test, crystal")
    parser.add_argument("--every", type=int, default=1, help="only every so many structures")
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4.5, 5.0])
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    hf = ExpertPair.load(args.pair).whole_hf()
    rows = []
    for cutoff in args.cutoffs:
        for name in args.bases:
            changes = [*BASES[name].split(), f"cutoff={cutoff}", f"every={args.every}"]
            fit = distil(hf, read_settings(args.config, changes))
            rows.append(row_of(name, cutoff, fit))
            print(rows[-1], flush=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(args.rows, text.getvalue())
    if args.plot is not None:
        atomic_write(args.plot, draw(rows))


def row_of(name: str, cutoff: float, fit: Fit) -> dict[str, Any]:
    """Cost and errors of one fit; `fit.test` holds HF's own evaluation of unseen structures."""
    errors: dict[str, list[np.ndarray]] = defaultdict(list)
    for structure, labels in fit.test:
        mine = evaluate(fit.expert, structure)
        errors["forces"].append((mine.forces - labels.forces).numpy().ravel())
        errors["sites"].append((mine.energies - labels.energies).numpy().ravel())
    cost = cost_per_edge(fit.expert, fit.test[0][0])
    rms = {k: 1e3 * float(np.sqrt(np.mean(np.concatenate(v) ** 2))) for k, v in errors.items()}
    ns = cost["ns_per_edge_and_core"]
    return {
        "basis": name,
        "cutoff_A": cutoff,
        "coefficients": basis_of(fit.expert.description).size,
        "ridge": f"{fit.ridge:.0e}",
        "force_error_meV_per_A": round(rms["forces"], 2),
        "site_error_meV": round(rms["sites"], 3),
        "ns_per_edge_and_core": round(ns, 2),
        "ns_per_atom_and_core": round(ns * cost["edges_per_atom"], 1),
    }


def draw(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Force error over the cost of an atom, one point a basis; PNG."""

    def plot(figure: Figure) -> None:
        ax = figure.subplots()
        cutoffs = sorted({row["cutoff_A"] for row in rows})
        for cutoff, colour in zip(cutoffs, COLOURS, strict=False):
            chosen = [row for row in rows if row["cutoff_A"] == cutoff]
            x = [row["ns_per_atom_and_core"] for row in chosen]
            y = [row["force_error_meV_per_A"] for row in chosen]
            ax.plot(x, y, "o", color=colour, label=f"{cutoff:g} Å")
            for row, a, b in zip(chosen, x, y, strict=True):
                ax.annotate(
                    row["basis"],
                    (a, b),
                    xytext=(3, 4),
                    textcoords="offset points",
                    fontsize=7,
                    rotation=35,  # neighbours of almost the same error stay apart
                    rotation_mode="anchor",
                )
        ax.set_xlabel("an atom, on one core (ns)")
        ax.set_ylabel("force error from HF, unseen (meV/Å)")
        ax.set_xlim(left=0.0, right=1.25 * max(row["ns_per_atom_and_core"] for row in rows))
        ax.set_ylim(bottom=0.0)
        ax.grid(axis="y")
        ax.legend(title="cutoff")

    return draw_png(plot, width=6.5, height=4.0)


if __name__ == "__main__":
    main()
