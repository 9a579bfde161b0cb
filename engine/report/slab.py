"""The atoms, coloured by the expert that computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers, covalent_radii
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from duetto.report.spheres import render_spheres, view_rotation
from duetto.report.style import HF, INK, LF, MUTED, draw_png

Array = npt.NDArray[np.float64]
Bounds = tuple[float, float, float, float]

ADSORBATES = {"C": "#2b2b2b", "O": "#d7263d", "H": "#f2f2f2", "N": "#3f51b5"}
"""Elements in their own colours; every other is coloured by its weight."""

_PIXELS_PER_A = 22.0
_MOST_PIXELS = 1600
_MOST_ATOMS = 20_000
_SMALL = 0.3


def atom_colours(species: Sequence[str], weights: Array) -> Array:
    """Red, green, blue of every atom, (A, 3): adsorbates by element, others from LF's to HF's."""
    lf, hf = np.array(to_rgb(LF)), np.array(to_rgb(HF))
    colours = lf + weights[:, None] * (hf - lf)
    for atom, symbol in enumerate(species):
        if symbol in ADSORBATES:
            colours[atom] = to_rgb(ADSORBATES[symbol])
    return colours


def draw_slab(positions: Array, species: Sequence[str], weights: Array) -> bytes:
    """Draw a slab in three views: at an angle, from the side and from above.

    Args:
        positions: (A, 3) Å, the surface's normal along z.
        species: (A,) chemical symbols.
        weights: (A,) weight of the HF expert.

    Returns:
        PNG.
    """
    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in species])
    radii = np.where(radii > 1.2, 1.02 * radii, 0.92 * radii)
    return _draw_views(positions, radii, atom_colours(species, weights), _legend(species, weights))


def draw_weights(
    positions: Array, species: Sequence[str], weights: Array, *, see_through: bool = False
) -> bytes:
    """Draw any structure in the same views, every atom coloured by its weight alone.

    Args:
        positions: (A, 3) Å.
        species: (A,) chemical symbols.
        weights: (A,) weight of the HF expert.
        see_through: whether atoms are the smaller the less of HF they have, so that a region in
            the midst of others is seen.

    Returns:
        PNG.
    """
    shown = np.arange(len(positions))
    if len(positions) > _MOST_ATOMS:  # each is drawn on its own
        shown = np.random.default_rng(0).choice(shown, _MOST_ATOMS, replace=False)
    radii = np.array([covalent_radii[atomic_numbers[species[int(atom)]]] for atom in shown])
    if see_through and (weights > 0.0).any():
        radii = radii * (_SMALL + (1.0 - _SMALL) * weights[shown])
    lf, hf = np.array(to_rgb(LF)), np.array(to_rgb(HF))
    colours = lf + weights[shown, None] * (hf - lf)
    return _draw_views(positions[shown], radii, colours, _weight_legend(weights))


def _draw_views(positions: Array, radii: Array, colours: Array, legend: list[Line2D]) -> bytes:
    centred = positions - np.append(positions[:, :2].mean(axis=0), positions[:, 2].min())
    views = {
        "At an angle": view_rotation(24.0, 22.0),
        "From the side": view_rotation(0.0, 0.0),
        "From above": view_rotation(0.0, 90.0),
    }
    projected = {name: centred @ rotation.T for name, rotation in views.items()}
    frames = {name: _frame(view, radii) for name, view in projected.items()}
    tallest = max(top - bottom for _, _, bottom, top in frames.values())
    widths = [right - left for left, right, _, _ in frames.values()]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 3, width_ratios=widths)
        for ax, (name, view) in zip(axes, projected.items(), strict=True):
            left, right, bottom, _ = frames[name]
            bounds = (left, right, bottom, bottom + tallest)  # one scale for all three
            _show(ax, view, radii, colours, bounds)
            ax.set_title(name, color=MUTED, fontweight="normal", fontsize=9)
        _height_axis(axes[1], frames["From the side"][3])
        left, _, _, top = frames["From above"]
        _scale_bar(axes[2], left + 1.0, top + 1.2)
        figure.legend(
            handles=legend,
            loc="outside lower center",
            ncols=6,
            handletextpad=0.2,
            columnspacing=1.6,
        )

    return draw_png(draw, width=9.0, height=4.4)


def _frame(view: Array, radii: Array) -> Bounds:
    """Left, right, bottom and top of what is seen, Å."""
    margin = 0.4
    low = (view[:, :2] - radii[:, None]).min(axis=0) - margin
    high = (view[:, :2] + radii[:, None]).max(axis=0) + margin
    return (float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def _show(ax: Axes, view: Array, radii: Array, colours: Array, bounds: Bounds) -> None:
    left, right, bottom, top = bounds
    pixels = min(_PIXELS_PER_A, _MOST_PIXELS / max(right - left, top - bottom))
    picture = render_spheres(view, radii, colours, bounds, pixels_per_unit=pixels)
    ax.imshow(picture, extent=bounds, interpolation="lanczos")
    ax.set_anchor("S")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _height_axis(ax: Axes, top: float) -> None:
    low, high = ax.get_ylim()
    ax.set_yticks(np.arange(0, top, _length(top)))
    ax.set_ylim(low, high)
    ax.tick_params(length=3, labelsize=8)
    ax.spines["left"].set_visible(True)
    ax.spines["left"].set_bounds(low, top)
    ax.set_ylabel("height z (Å)")


def _length(extent: float) -> float:
    """A round length, Å, that goes at most ten times into `extent`: 5, 10, 20, 50, …"""
    return next(
        step * 10.0**power
        for power in range(9)
        for step in (5, 10, 20)
        if step * 10.0**power * 10 > extent
    )


def _scale_bar(ax: Axes, left: float, y: float) -> None:
    first, last = ax.get_xlim()
    length = _length(last - first)
    ax.plot([left, left + length], [y, y], color=INK, linewidth=2, clip_on=False)
    ax.text(left + length + 0.6, y, f"{length:g} Å", va="center", fontsize=8)


def _weight_legend(weights: Array) -> list[Line2D]:
    middle = tuple((np.array(to_rgb(HF)) + np.array(to_rgb(LF))) / 2)
    return _dots(
        [
            ("HF expert (w = 1)", HF, weights == 1, 9.0),
            ("both (blend)", middle, (weights > 0) & (weights < 1), 9.0),
            ("LF expert (w = 0)", LF, weights == 0, 9.0),
        ]
    )


def _legend(species: Sequence[str], weights: Array) -> list[Line2D]:
    symbols = np.array(species)
    metal = ~np.isin(symbols, list(ADSORBATES))
    blend = (weights > 0) & (weights < 1)
    middle = tuple((np.array(to_rgb(HF)) + np.array(to_rgb(LF))) / 2)
    names = "/".join(dict.fromkeys(symbols[metal].tolist()))
    entries = [
        (f"{names}, HF expert", HF, metal & (weights == 1), 9.0),
        (f"{names}, both (blend)", middle, metal & blend, 9.0),
        (f"{names}, LF expert", LF, metal & (weights == 0), 9.0),
    ]
    for symbol, colour in ADSORBATES.items():
        chosen = symbols == symbol
        expert = "HF expert" if (weights[chosen] == 1).all() else "coloured by element"
        entries.append((f"{symbol}, {expert}", colour, chosen, 6.0))
    return _dots(entries)


def _dots(entries: Sequence[tuple[str, Any, npt.NDArray[np.bool_], float]]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="none",
            markersize=size,
            markerfacecolor=colour,
            markeredgecolor="none",
            label=f"{label}: {int(chosen.sum())}",
        )
        for label, colour, chosen, size in entries
        if chosen.any()
    ]
