"""Draw the learning curves of a co-training from its CSV logs.

    python scripts/plot_training.py outputs/ptco/joint -o docs/cotraining.png

Logs of a training that was resumed (`logs/version_0`, `version_1`, …) make one curve.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duetto.report.style import HF, LF, MIXTURE, MUTED, draw_png

TO_MILLI = 1e3
Curve = dict[int, float]


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("training", type=Path, metavar="DIR", help="output of a training")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    curves = read_logs(args.training)
    args.output.write_bytes(draw_png(lambda f: draw(f, curves), width=6.0, height=2.6))


def read_logs(training: Path) -> dict[str, Curve]:
    """Value of each validation column by epoch; the newest log that has an epoch counts."""
    folders = sorted((training / "logs").iterdir(), key=lambda f: int(f.name.split("_")[1]))
    curves: dict[str, Curve] = {}
    for folder in folders:
        with (folder / "metrics.csv").open() as stream:
            for row in csv.DictReader(stream):
                for name, text in row.items():
                    if name.startswith("val0_epoch/") and text:
                        column = curves.setdefault(name.removeprefix("val0_epoch/"), {})
                        column[int(row["epoch"]) + 1] = TO_MILLI * float(text)
    return curves


def draw(figure: Figure, curves: dict[str, Curve]) -> None:
    """Errors against the labels on the left, of the experts against each other on the right."""
    left, right = figure.subplots(1, 2, subplot_kw={"yscale": "log"})
    _draw(left, curves["hf_forces_rmse"], HF, "HF forces, all frames, meV/Å")
    _draw(left, curves["lf_forces_rmse"], LF, "LF forces, bulk, meV/Å")
    _draw(left, curves["hf_per_atom_energy_rmse"], HF, "HF energy, meV/atom", "--")
    _draw(left, curves["lf_per_atom_energy_rmse"], LF, "LF energy, meV/atom", "--")
    left.set_title("Errors on validation frames")
    _draw(right, curves["agreement_forces_rmse"], MIXTURE, "forces, meV/Å")
    _draw(right, curves["agreement_energy_rmse"], MIXTURE, "atoms' energies, meV", "--")
    right.set_title("HF − LF in bulk")
    left.set_ylim(top=5 * left.get_ylim()[1])  # room for the legend
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(True, color=MUTED, alpha=0.2, linewidth=0.5)
        axes.legend(fontsize=7.5)


def _draw(axes: Axes, curve: Curve, colour: str, label: str, line: str = "-") -> None:
    epochs = sorted(curve)
    axes.plot(epochs, [curve[e] for e in epochs], line, color=colour, label=label, linewidth=1.3)


if __name__ == "__main__":
    main()
