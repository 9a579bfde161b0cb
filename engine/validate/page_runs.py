"""The runs' numbers on the page: errors by region and depth, drifts, and the comparison of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from duetto.report.numbers import with_error
from duetto.validate.rows import PageRow

ROUNDING = 1e-9
"""meV/Å: sums of forces of some eV/Å in another order, in float64, differ by less."""

STRETCH_FROM, STRETCH_BAND = 1500.0, (1700.0, 2000.0)
"""cm⁻¹: above all modes of adsorbed CO but its stretch; where that is on bridges and in hollows."""

STRETCHED = ("C", "O")


def run_rows(found: Sequence[Mapping[str, Any]]) -> list[PageRow]:
    """Force errors by region, and drifts."""
    force, drift = "force_rmse{}_mev_per_angstrom", "nve_drift{}_mev_per_atom_per_ps"
    return [
        PageRow(
            name,
            [(x[key.format("")][of_it], x[key.format("_standard_error")][of_it]) for x in found],
        )
        for key, of_it, name in (
            (force, "complex", "force error, complex region, meV/Å"),
            (force, "simple", "force error, simple region, meV/Å"),
            (drift, "mixture", "drift at constant energy, mixture, meV/atom/ps"),
            (drift, "hf", "drift at constant energy, full HF, meV/atom/ps"),
        )
    ]


def depth_table(labels: Sequence[str], found: Sequence[Mapping[str, Any]]) -> str:
    """The runs' force errors by depth in the complex region; empty where no report has them."""
    told = [
        (label, x["force_error_by_depth"])
        for label, x in zip(labels, found, strict=True)
        if x.get("force_error_by_depth", {}).get("depth_angstrom")
    ]
    if not told:
        return ""
    heads = [f"atoms, {label} | error, {label}" for label, _ in told]
    lines = [f"| depth, Å | {' | '.join(heads)} |", "|---" * (2 * len(heads) + 1) + "|"]
    for depth in sorted({d for _, one in told for d in one["depth_angstrom"]}):
        cells = [_at_depth(one, depth) for _, one in told]
        lines.append(f"| {depth:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at_depth(errors: Mapping[str, Any], depth: float) -> str:
    """How many atoms a bin has, and their error."""
    if depth not in errors["depth_angstrom"]:
        return " | "
    n = errors["depth_angstrom"].index(depth)
    value = errors["error_mev_per_angstrom"][n]
    unsure = errors["standard_error_mev_per_angstrom"][n]
    said = f"< {ROUNDING:g}" if value < ROUNDING else with_error(value, unsure)
    return f"{errors['atoms'][n]} | {said}"


def statistics_table(found: Mapping[str, Any]) -> list[str]:
    """Temperature, curves and displacements of mixture and full HF, and what could be seen."""
    row = found["statistics"]
    length = row["length_ps"] / row["blocks"]
    lines = [
        f"| {row['runs']} × {row['length_ps']:.4g} ps, blocks of {length:.3g} ps | full HF "
        "| mixture | mixture − HF | points within two errors | correlation time, ps "
        "| scatter of starts over expected |",
        "|---|---|---|---|---|---|---|",
    ]
    warmth = row["temperature_k"]
    apart = with_error(warmth["mixture"] - warmth["hf"], warmth["standard_error"])
    lines.append(
        f"| temperature, K | {warmth['hf']:.1f} | {warmth['mixture']:.1f} | {apart} | "
        f"{_memory(warmth)}"
    )
    last = row["displacement"]["time_ps"][-1]
    for key, name in (
        ("pairs", "distances {}"),
        ("spectrum", "spectrum of {}"),
        ("displacement", f"displacement of {{}}; numbers: after {last:.3g} ps, Å²"),
    ):
        for kind, curve in row[key].items():
            if isinstance(curve, dict) and curve["within_two_errors"] is not None:
                share = f"{100 * curve['within_two_errors']:.0f} %"
                numbers = _last_point(curve) if key == "displacement" else "| |"
                lines.append(f"| {name.format(kind)} | {numbers} | {share} {_memory(curve)}")
    if forgetful(row):
        return [*lines, "", *line_table(row), "", *_to_be_seen(row)]
    return [
        *lines,
        "",
        "These blocks are no longer than twice the correlation time of a curve, or hold a single "
        "segment of a spectrum: such runs serve drifts and forces and tell nothing of statistics.",
    ]


def forgetful(statistics: Mapping[str, Any]) -> bool:
    """Whether blocks are longer than twice every memory, so that their errors mean something."""
    block = statistics["length_ps"] / statistics["blocks"]
    return all(
        2 * curve["correlation_time_ps"] < block * (1 - 1e-9) for curve in _curves(statistics)
    )


def _curves(statistics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        curve
        for key in ("pairs", "spectrum", "displacement")
        for curve in statistics[key].values()
        if isinstance(curve, dict)
    ]


def _memory(curve: Mapping[str, Any]) -> str:
    return f"| {curve['correlation_time_ps']:.2g} | {curve['between_starts']:.1f} |"


def _last_point(curve: Mapping[str, Any]) -> str:
    hf, mixture, error = (curve[key][-1] for key in ("hf", "mixture", "standard_error"))
    return f"{hf:.3g} | {mixture:.3g} | {with_error(mixture - hf, error)}"


class Band(NamedTuple):
    """Power of a spectrum between two frequencies.

    `error` is the standard error of the difference at most: the errors of all points summed, as if
    they had one cause; `largest`, the largest difference at a point over its own error.
    """

    hf: float
    mixture: float
    error: float
    largest: float


def band_of(points: Sequence[float], curve: Mapping[str, Any], low: float, high: float) -> Band:
    """The power of a spectrum on `points` between two frequencies, both within."""
    step = points[1] - points[0]
    inside = [n for n, x in enumerate(points) if low <= x <= high]
    hf, mixture, error = (
        [curve[key][n] for n in inside] for key in ("hf", "mixture", "standard_error")
    )
    scores = [abs(m - h) / e for h, m, e in zip(hf, mixture, error, strict=True) if e > 0]
    return Band(step * sum(hf), step * sum(mixture), step * sum(error), max(scores, default=0.0))


def line_table(statistics: Mapping[str, Any]) -> list[str]:
    """Where spectra are highest, and the power of a stretch of C and O where both are there."""
    spectrum = statistics["spectrum"]
    points = spectrum["frequency_per_cm"]
    kinds = [kind for kind in spectrum if kind != "frequency_per_cm"]
    lines = [
        f"| spectra, points {points[1] - points[0]:.0f} cm⁻¹ apart | full HF | mixture "
        "| mixture − HF, ± at most | largest difference at a point, standard errors |",
        "|---|---|---|---|---|",
    ]
    stretched = _stretched(spectrum)
    for kind in kinds:
        low = STRETCH_FROM if kind in stretched else 0.0
        above = f" above {low:g} cm⁻¹" if low else ""
        hf, mixture = (_highest(points, spectrum[kind][who], low) for who in ("hf", "mixture"))
        lines.append(f"| {kind}: highest point{above}, cm⁻¹ | {hf:.0f} | {mixture:.0f} | | |")
    for kind in stretched:
        for name, (low, high) in (
            (f"from {STRETCH_BAND[0]:g} to {STRETCH_BAND[1]:g} cm⁻¹", STRETCH_BAND),
            (f"above {STRETCH_FROM:g} cm⁻¹", (STRETCH_FROM, points[-1])),
        ):
            band = band_of(points, spectrum[kind], low, high)
            lines.append(
                f"| {kind}: share of power {name} | {band.hf:.3f} | {band.mixture:.3f} "
                f"| {with_error(band.mixture - band.hf, band.error)} | {band.largest:.1f} |"
            )
    return lines


def _stretched(spectrum: Mapping[str, Any]) -> tuple[str, ...]:
    """C and O where both are there and the stretch is within what was sampled."""
    seen = spectrum["frequency_per_cm"][-1] >= STRETCH_BAND[1]
    return STRETCHED if seen and set(STRETCHED) <= set(spectrum) else ()


def _highest(points: Sequence[float], power: Sequence[float], low: float) -> float:
    return max((p, x) for x, p in zip(points, power, strict=True) if x >= low)[1]


def _to_be_seen(statistics: Mapping[str, Any]) -> list[str]:
    """By how much the two would have to differ for these runs to show it; how a stretch differs."""
    spectrum, displacement = statistics["spectrum"], statistics["displacement"]
    said = []
    needed = [
        f"{200 * curve['standard_error'][-1] / curve['hf'][-1]:.0f} % of {kind}"
        for kind, curve in displacement.items()
        if kind != "time_ps" and curve["hf"][-1] > 0
    ]
    if needed:
        said.append(
            f"Of the displacements after {displacement['time_ps'][-1]:.3g} ps a difference of two "
            f"standard errors is {', '.join(needed)}: less than that these runs cannot see."
        )
    bands = {
        kind: band_of(spectrum["frequency_per_cm"], spectrum[kind], *STRETCH_BAND)
        for kind in _stretched(spectrum)
    }
    if bands and all(band.hf > 0 for band in bands.values()):
        differences = ", ".join(
            f"{100 * (band.mixture / band.hf - 1):+.0f} % of {kind} (up to {band.largest:.1f} "
            "standard errors at a point)"
            for kind, band in bands.items()
        )
        low, high = STRETCH_BAND
        said.append(
            f"Between {low:g} and {high:g} cm⁻¹ the mixture's power differs from full HF's by "
            f"{differences}."
        )
    return [" ".join(said)] if said else []
