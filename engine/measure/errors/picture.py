"""The picture of an evaluation: forces against the labels, and errors by kind of frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duetto.measure.errors.frames import EvaluatedFrame
from duetto.report.style import HF, INK, LF, MUTED, draw_png

_ROLES = (("lf", "LF", LF), ("hf", "HF", HF))
_MOST_ROWS = 40


def draw_evaluation(result: dict[str, Any], frames: Sequence[EvaluatedFrame]) -> bytes:
    """Draw it; PNG.

    Args:
        result: what `summarize` makes of the frames.
        frames: the frames.
    """
    rows = dict(list(result["by_config_type"].items())[:_MOST_ROWS])

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.25])
        _against_labels(left, frames)
        _by_kind(right, rows)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)

    return draw_png(draw, width=8.0, height=max(3.2, 1.6 + 0.32 * len(rows)))


def _against_labels(axes: Axes, frames: Sequence[EvaluatedFrame]) -> None:
    axes.set_title("Forces against the labels")
    largest = 0.0
    for role, _, colour in _ROLES:
        known = [f for f in frames if f.labels is not None and role in f.computed]
        if known:
            labels = np.concatenate([f.labels.forces for f in known if f.labels]).ravel()
            found = np.concatenate([f.computed[role].forces for f in known]).ravel()
            axes.plot(labels, found, ".", color=colour, markersize=1.5, rasterized=True)
            largest = max(largest, float(np.abs(labels).max()))
    if largest == 0.0:
        axes.text(0.5, 0.5, "no labels", ha="center", color=MUTED, transform=axes.transAxes)
        return
    axes.plot([-largest, largest], [-largest, largest], color=INK, linewidth=0.7)
    axes.set_xlim(-1.05 * largest, 1.05 * largest)
    axes.set_ylim(-1.05 * largest, 1.05 * largest)
    axes.set_xlabel("label (eV/Å)")
    axes.set_ylabel("expert (eV/Å)")


def _by_kind(axes: Axes, rows: dict[str, Any]) -> None:
    axes.set_title("Force errors by config_type")
    bars = (*((role, f"{title} − labels", c) for role, title, c in _ROLES[::-1]),)
    bars += (("hf_minus_lf", "HF − LF", INK),)
    height = 0.8 / len(bars)
    for k, (key, label, colour) in enumerate(bars):
        values = [row.get(key, {}).get("forces_mev_per_angstrom", np.nan) for row in rows.values()]
        places = np.arange(len(rows)) + (k - 1) * height
        axes.barh(places, values, height=0.9 * height, color=colour, label=label)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("root mean square (meV/Å)")
    axes.grid(axis="x")
