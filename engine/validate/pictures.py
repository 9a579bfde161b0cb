"""The validation's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duetto.report.style import HF, INK, LF, MIXTURE, MUTED, draw_png

STATE, SEAM, RUNS = "equation_of_state.png", "seam.png", "runs.png"

_TWINS = (("pair", "agreeing", "-"), ("independent", "trained apart", "--"))
_HEAT = (MUTED, LF, HF, INK)

LATTICE, STRETCHES, NO_POWER = 400.0, 2400.0, 0.01
"""cm⁻¹ within which a metal's modes are, and a molecule's; the share of power that is none."""


def draw_pictures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG of every picture by file name."""
    subjects = {"pair": report}
    if "independent" in report:
        subjects["independent"] = report["independent"]
    pictures = {STATE: _equations(subjects), SEAM: _errors(subjects)}
    if "statistics" in report:
        pictures[RUNS] = _runs(report["statistics"])
    return pictures


def _equations(subjects: Mapping[str, Any]) -> bytes:
    """Energies over volume, and how far LF and the mixture are from HF."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, 0.8])
        curves = subjects["pair"]["equation_of_state"]
        looks = (
            ("hf", "HF", HF, "-"),
            ("lf", "LF", LF, "--"),
            ("mixture", "mixture", MIXTURE, ":"),
        )
        for who, label, colour, line in looks:
            curve = curves[who]
            energies = [1e3 * e for e in curve["energy_ev"]]
            above.plot(curve["volume_angstrom3"], energies, line, color=colour, label=label)
        above.set_ylabel("energy (meV/atom)")
        above.legend()
        for key, label, line in _TWINS:
            if key in subjects:
                _difference(below, subjects[key]["equation_of_state"], f"LF − HF, {label}", line)
        below.axhline(0.0, color=MUTED, linewidth=0.6)
        below.set_xlabel("volume (Å³/atom)")
        below.set_ylabel("difference (meV/atom)")
        below.legend()
        above.grid(axis="y")
        below.grid(axis="y")

    return draw_png(draw, width=6.0, height=4.6)


def _difference(axes: Axes, curves: Mapping[str, Any], label: str, line: str) -> None:
    """LF − HF at HF's volumes, energies since each one's minimum."""
    import numpy as np

    hf, lf = curves["hf"], curves["lf"]
    # Cubic in V^(-2/3) as the fit is; exact at LF's own points to well below the difference.
    x, y = np.array(lf["volume_angstrom3"]) ** (-2 / 3), np.array(lf["energy_ev"])
    fit = np.polynomial.Polynomial.fit(x, y, 6)
    apart = fit(np.array(hf["volume_angstrom3"]) ** (-2 / 3)) - np.array(hf["energy_ev"])
    axes.plot(hf["volume_angstrom3"], 1e3 * apart, line, color=LF, label=label)


def _errors(subjects: Mapping[str, Any]) -> bytes:
    """Force error, with two standard errors, against the depth from the seam, no blend."""
    names = [(key, label) for key, label, _ in _TWINS if key in subjects]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, (key, label) in zip(panels, names, strict=True):
            report = subjects[key]
            for n, row in enumerate(report["seam"]):
                error = row["force_error"][0]
                unsure = error.get("standard_error_mev_per_angstrom")
                axes.errorbar(
                    error["depth_angstrom"],
                    error["error_mev_per_angstrom"],
                    None if unsure is None else [2 * s for s in unsure],
                    fmt="o-",
                    capsize=2,
                    color=_HEAT[n % len(_HEAT)],
                    markersize=3,
                    linewidth=1.0,
                    label=f"{row['temperature_k']:g} K",
                )
            tolerance = report["certificate"]["tolerance_mev_per_angstrom"]
            axes.axhline(tolerance, color=MUTED, linewidth=0.8, linestyle=":", label="tolerance")
            axes.axvline(0.0, color=MUTED, linewidth=0.6)
            axes.set_title(label)
            axes.set_xlabel("depth in the complex region (Å)\nnegative: outside it")
            axes.grid(axis="y")
        panels[0].set_ylabel("force error, mixture − HF (meV/Å)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))

    return draw_png(draw, width=4.0 + 3.0 * (len(names) - 1), height=3.2)


def _runs(found: Mapping[str, Any]) -> bytes:
    """Distances, spectra and displacements of mixture and full HF, one row for each."""
    rows = (
        ("pairs", "distance_angstrom", "distance (Å)", "neighbors (1/Å)"),
        ("spectrum", "frequency_per_cm", "frequency (cm⁻¹)", "power of velocities (cm)"),
        ("displacement", "time_ps", "time (ps)", "mean square\ndisplacement (Å²)"),
    )
    columns = max(len(found[key]) - 1 for key, *_ in rows)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes_row, (key, axis, xlabel, ylabel) in zip(grid, rows, strict=True):
            kinds = [kind for kind in found[key] if kind != axis]
            for axes, kind in zip(axes_row, kinds, strict=False):
                _both(axes, found[key][axis], found[key][kind])
                axes.set_title(kind)
                axes.set_xlabel(xlabel)
            for axes in axes_row[len(kinds) :]:
                axes.set_axis_off()
            axes_row[0].set_ylabel(ylabel)
        spectrum = found["spectrum"]
        kinds = [kind for kind in spectrum if kind != "frequency_per_cm"]
        for axes, kind in zip(grid[1], kinds, strict=False):
            axes.set_xlim(0.0, farthest(spectrum["frequency_per_cm"], spectrum[kind]["hf"]))
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))

    return draw_png(draw, width=2.2 * columns, height=6.4)


def farthest(points: list[float], power: list[float]) -> float:
    """cm⁻¹ up to which a species' spectrum is drawn: a metal's is all at its left end."""
    beyond = sum(p for x, p in zip(points, power, strict=True) if x > LATTICE)
    return LATTICE if beyond < NO_POWER * sum(power) else STRETCHES


def _both(axes: Axes, points: list[float], curve: Mapping[str, Any]) -> None:
    import numpy as np

    mixture, error = np.array(curve["mixture"]), np.array(curve["standard_error"])
    axes.fill_between(
        points,
        np.maximum(mixture - 2 * error, 0.0),  # neighbors, powers and squares are not below it
        mixture + 2 * error,
        color=MIXTURE,
        alpha=0.2,
        linewidth=0.0,
        label="two errors of the difference",
    )
    axes.plot(points, curve["hf"], color=HF, linewidth=1.6, label="full HF")
    axes.plot(points, mixture, color=MIXTURE, linewidth=0.9, linestyle="--", label="mixture")
    axes.grid(axis="y")
