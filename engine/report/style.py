"""Colours, type and sizes that all pictures share.

The colours are told apart with any kind of colour vision: blue and orange differ in hue, and
every pair of them in lightness.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

HF = "#e08214"
LF = "#4a7fb5"
MIXTURE = "#1f2a44"
INK = "#1f2a44"
MUTED = "#66708a"
GRID = "#e3e7ee"
PAPER = "#ffffff"

RESOLUTION_DPI = 200

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "lines.solid_capstyle": "round",
}


def draw_png(draw: Callable[[Figure], None], *, width: float, height: float) -> bytes:
    """Draw on an empty figure of `width` × `height` inches and return it as PNG.

    Nothing global is touched: no display is needed, and the caller's own figures stay.
    """
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, height), dpi=RESOLUTION_DPI, layout="constrained")
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
