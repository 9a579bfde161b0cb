"""Curves and bars: energy over time, step times, force errors over height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duetto.report.style import HF, INK, LF, MIXTURE, MUTED, draw_png

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EnergyCurve:
    """The conserved energy of one run.

    Attributes:
        label: what it is called.
        colour: of its line.
        time_ps: (n,) ps.
        deviation_meV_per_atom: (n,) meV/atom, since the start.
        drift: slope of a straight line through it, meV/atom/ps.
    """

    label: str
    colour: str
    time_ps: Array
    deviation_meV_per_atom: Array
    drift: float


def draw_energy(curves: Sequence[EnergyCurve]) -> bytes:
    """Draw how well energy is conserved, one panel per run, with the fitted drifts; PNG."""
    span = max(float(np.abs(curve.deviation_meV_per_atom).max()) for curve in curves)
    exponent = 0 if span > 0.3 else 3
    unit = "µeV/atom" if exponent else "meV/atom"

    def draw(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(len(curves), 1, sharex=True, sharey=True))
        for ax, curve in zip(axes, curves, strict=True):
            values = curve.deviation_meV_per_atom * 10**exponent
            ax.axhline(0.0, color=MUTED, linewidth=0.6)
            ax.plot(curve.time_ps, values, color=curve.colour, linewidth=0.6, alpha=0.75)
            slope = curve.drift * 10**exponent
            middle = float(curve.time_ps.mean())
            line = float(values.mean()) + slope * (curve.time_ps - middle)
            ax.plot(curve.time_ps, line, color=INK, linewidth=1.6, linestyle=(0, (5, 2)))
            ax.set_title(f"{curve.label}: drift {_signed(curve.drift)} meV/atom/ps", fontsize=9)
            ax.grid(axis="y")
        axes[-1].set_xlabel("time at constant energy (ps)")
        axes[-1].set_xlim(0.0, max(float(curve.time_ps[-1]) for curve in curves))
        figure.supylabel(f"change of the total energy ({unit})", fontsize=9, color=INK)

    return draw_png(draw, width=6.0, height=1.0 + 1.45 * len(curves))


def _signed(value: float) -> str:
    if abs(value) >= 0.01:
        return f"{value:+.2g}".replace("-", "−")
    mantissa, exponent = f"{value:+.1e}".split("e")
    return f"{mantissa} × 10$^{{{int(exponent)}}}$".replace("-", "−")


def milliseconds(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100.0 else f"{value:.3g}"


def _mark_ideal(ax: Axes, best: float, text: str) -> None:
    """A dashed line across the mixture's bar, and what it says."""
    ax.plot([best, best], [0.64, 1.36], color="white", linewidth=2.6)
    ax.plot([best, best], [0.64, 1.36], color=INK, linewidth=1.2, linestyle=(0, (2, 1.4)))
    ax.annotate(
        text,
        (best, 1.36),
        xytext=(0, -4),
        textcoords="offset points",
        fontsize=8,
        color=MUTED,
        va="top",
    )


def draw_step_times(
    step_ms: Mapping[str, float],
    speedup: float,
    ideal: float | None,
    others: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Draw the time of one step of full HF, mixture and full LF; PNG.

    Args:
        step_ms: ms, with keys `full_hf`, `mixture` and, where it was timed, `full_lf`.
        speedup: of the mixture over full HF.
        ideal: the speedup that the experts' costs allow; None where it is unknown.
        others: further mixtures, what they are called by their keys.
    """
    bars = (
        ("full HF", "full_hf", HF),
        ("mixture", "mixture", MIXTURE),
        *((label, key, MIXTURE) for key, label in others.items()),
        ("full LF", "full_lf", LF),
    )
    rows = [bar for bar in bars if bar[1] in step_ms]

    def draw(figure: Figure) -> None:
        ax: Axes = figure.subplots()
        longest = max(step_ms[key] for _, key, _ in rows)
        best = 0.0 if ideal is None else step_ms["full_hf"] / ideal
        for place, (_, key, colour) in enumerate(rows):
            value = step_ms[key]
            ax.barh(place, value, height=0.56, color=colour)
            text = f"{milliseconds(value)} ms"
            if key != "full_hf":
                text += f"   {step_ms['full_hf'] / value:.1f}× faster"
            end = max(value, best) if key == "mixture" else value
            weight = "bold" if colour == MIXTURE else "normal"
            ax.text(end + 0.015 * longest, place, text, va="center", fontweight=weight)
        if ideal is not None:
            text = f"ideal: {ideal:.1f}×, {100 * speedup / ideal:.0f} % of it reached"
            _mark_ideal(ax, best, text)
        ax.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.set_xlim(0.0, 1.12 * longest)
        ax.set_xlabel("time per step (ms)")
        ax.grid(axis="x")
        ax.spines["left"].set_visible(False)

    return draw_png(draw, width=6.0, height=1.0 + 0.5 * len(rows))


def draw_force_errors(height: Array, error: Array, weight: Array, force: float) -> bytes:
    """Draw the force error of each atomic layer over its height; PNG.

    Args:
        height: (layers,) Å.
        error: (layers,) root-mean-square error of a force component, meV/Å.
        weight: (layers,) mean weight of the HF expert.
        force: root mean square of a force component over all atoms, meV/Å, for comparison.
    """

    def draw(figure: Figure) -> None:
        ax: Axes = figure.subplots()
        edges = np.concatenate(
            [[height[0] - 1.0], (height[1:] + height[:-1]) / 2, [height[-1] + 1]]
        )
        for low, high, w in zip(edges[:-1], edges[1:], weight, strict=True):
            ax.axhspan(low, high, color=HF, alpha=0.16 * w, linewidth=0)
            ax.axhspan(low, high, color=LF, alpha=0.16 * (1 - w), linewidth=0)
        ax.plot(error, height, color=MUTED, linewidth=0.8)
        for chosen, colour, label in (
            (weight == 1, HF, "complex"),
            ((weight > 0) & (weight < 1), MIXTURE, "both"),
            (weight == 0, LF, "simple"),
        ):
            if chosen.any():
                ax.plot(
                    error[chosen],
                    height[chosen],
                    "o",
                    color=colour,
                    label=label,
                    markersize=5,
                    clip_on=False,
                    zorder=3,
                )
        ax.set_xlim(0.0, 1.08 * float(error.max()) or 1.0)
        ax.set_ylim(edges[0], edges[-1])
        ax.set_xlabel(f"force error (meV/Å), of {force:.0f} meV/Å r.m.s.")
        ax.set_ylabel("height z (Å)")
        figure.legend(loc="outside upper center", ncols=3, handletextpad=0.1)

    return draw_png(draw, width=3.6, height=7.7)
