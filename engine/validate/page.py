"""The validation as one Markdown page, from its report alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from duetto.report.numbers import with_error
from duetto.validate.pictures import RUNS, SEAM, STATE

_BULK = (
    ("lattice_constant_angstrom", "lattice constant, Å", ".4f"),
    ("bulk_modulus_gpa", "bulk modulus, GPa", ".1f"),
    ("c11_gpa", "C11, GPa", ".1f"),
    ("c12_gpa", "C12, GPa", ".1f"),
    ("c44_gpa", "C44, GPa", ".1f"),
    ("vacancy_formation_ev", "vacancy formation, eV", ".3f"),
)
_Rows = list[tuple[str, list[tuple[float | None, float | None]]]]
"""Rows by name, of values and errors, None where there is none."""

_TWINS = (("pair", "agreeing"), ("independent", "trained apart"))


def markdown(report: Mapping[str, Any]) -> str:
    """The page."""
    parts = [f"# Validation of {report['pair']}, {report['crystal']}", tables(report)]
    parts += [f"![Equation of state]({STATE})", f"![Force error by depth]({SEAM})"]
    if "statistics" in report:
        parts.append(f"![Distances, spectra and displacements]({RUNS})")
    parts += ["## Certificate", certificates(report)]
    return "\n\n".join(parts) + "\n"


def certificates(report: Mapping[str, Any]) -> str:
    """The sentences, for the pair and its twin."""
    subjects = [(label, report if key == "pair" else report.get(key)) for key, label in _TWINS]
    return "\n\n".join(
        f"**{label}** (`{found['pair']}`): {found['certificate']['sentence']}"
        for label, found in subjects
        if found is not None
    )


def tables(report: Mapping[str, Any]) -> str:
    """All numbers of the report but the curves."""
    found = [report] + ([report["independent"]] if "independent" in report else [])
    labels = [label for _, label in _TWINS][: len(found)]
    parts = []
    for label, one in zip(labels, found, strict=True):
        parts.append(f"Bulk, {label} (`{one['pair']}`, seed {report['seed']}):\n\n{_bulk(one)}")
    parts.append(f"Seams and dynamics:\n\n{_rows(labels, found)}")
    if snapshots := _snapshots(report):
        parts.append(snapshots)
    for key, title in (
        ("largest", "Largest force error of any layer, meV/Å"),
        ("largest_inside", "Largest force error of the layers that are all HF, meV/Å"),
    ):
        parts.append(f"{title}:\n\n{_blends(labels, found, key)}")
    for key, title, table in (
        ("phonon_thz", "Phonons, THz, and the largest |LF − HF|", _phonons),
        ("adsorption_energy_ev", "Adsorption by site: energy, eV, and lengths, Å", _adsorption),
        ("diffusion_barrier_ev", "Diffusion barrier, meV", _barrier),
        ("statistics", "Mixture and full HF at constant energy", _statistics),
    ):
        for label, one in zip(labels, found, strict=True):
            if key in one:
                parts.append(f"{title}, {label}:\n\n" + "\n".join(table(one)))
    if "reference_source" in report:
        parts.append(f"Reference: {report['reference_source']}.")
    return "\n\n".join(parts)


def _bulk(found: Mapping[str, Any]) -> str:
    lines = ["| property | HF | LF | LF − HF | mixture | reference |", "|---|---|---|---|---|---|"]
    percent = found["certificate"]["lf_minus_hf_percent"]
    for key, name, form in _BULK:
        row = found[key]
        reference = format(row["reference"], form) if "reference" in row else ""
        lines.append(
            f"| {name} | {row['hf']:{form}} | {row['lf']:{form}} | {percent[key]:+.3g} % "
            f"| {row['mixture']:{form}} | {reference} |"
        )
    return "\n".join(lines)


def _rows(labels: list[str], found: list[Mapping[str, Any]]) -> str:
    lines = [f"| quantity | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    rows: _Rows = [
        ("interface stress at rest, MPa", [(x["interface_stress_mpa"], None) for x in found])
    ]
    rows += _seam_rows(found) + _curved_rows(found) + _run_rows(found)
    for name, cells in rows:
        written = ["" if v is None else with_error(v, error) for v, error in cells]
        lines.append(f"| {name} | {' | '.join(written)} |")
    return "\n".join(lines)


def _seam_rows(found: list[Mapping[str, Any]]) -> _Rows:
    rows: _Rows = []
    for n, row in enumerate(found[0]["seam"]):
        at = f"at {row['temperature_k']:g} K"
        for key, name in (
            ("force_jump_mev_per_angstrom", "largest force error of a layer {at}, meV/Å"),
            ("stress_jump_mpa", "stress LF − HF {at}, MPa"),
            ("atom_energy_mean_mev", "E_HF − E_LF per atom {at}, mean, meV"),
            ("atom_energy_spread_mev", "E_HF − E_LF per atom {at}, spread, meV"),
        ):
            if key == "atom_energy_spread_mev" and row["temperature_k"] == 0:
                continue  # all atoms of a lattice are alike
            seams = [x["seam"][n] for x in found]
            cells = [(x[key], x.get("standard_error", {}).get(key)) for x in seams]
            rows.append((name.format(at=at), cells))
    return rows


def _curved_rows(found: list[Mapping[str, Any]]) -> _Rows:
    rows: _Rows = []
    for shape in found[0]["curved_seam"]:
        for key, name in (
            ("residual_force_mev_per_angstrom", "largest force on lattice sites, meV/Å"),
            ("relaxation_angstrom", "largest move to rest, Å"),
            ("interface_stress_mpa", "interface stress at rest, MPa"),
        ):
            radius = found[0]["curved_seam"][shape]["radius_angstrom"]
            cells: list[tuple[float | None, float | None]]
            cells = [(x["curved_seam"][shape][key], None) for x in found]
            rows.append((f"{shape} of {radius:g} Å: {name}", cells))
    return rows


def _run_rows(found: list[Mapping[str, Any]]) -> _Rows:
    rows: _Rows = []
    for region in ("complex", "simple"):
        cells = [
            (
                x["force_rmse_mev_per_angstrom"][region],
                x["force_rmse_standard_error_mev_per_angstrom"][region],
            )
            for x in found
        ]
        rows.append((f"force error, {region} region, meV/Å", cells))
    for who, name in (("mixture", "mixture"), ("hf", "full HF")):
        cells = [
            (
                x["nve_drift_mev_per_atom_per_ps"][who],
                x["nve_drift_standard_error_mev_per_atom_per_ps"][who],
            )
            for x in found
        ]
        rows.append((f"drift at constant energy, {name}, meV/atom/ps", cells))
    return rows


def _blends(labels: list[str], found: list[Mapping[str, Any]], key: str) -> str:
    """The largest force error by a blend's width and the temperature."""
    seams = [(label, row) for label, one in zip(labels, found, strict=True) for row in one["seam"]]
    heads = [f"{label}, {row['temperature_k']:g} K" for label, row in seams]
    lines = [f"| blend, Å | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for n, blend in enumerate(seams[0][1]["force_error"]):
        errors = [row["force_error"][n] for _, row in seams]
        cells = [
            with_error(
                e[f"{key}_mev_per_angstrom"], e.get(f"{key}_standard_error_mev_per_angstrom")
            )
            for e in errors
        ]
        lines.append(f"| {blend['blend_angstrom']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _snapshots(found: Mapping[str, Any]) -> str:
    """How many snapshots errors come from, and how long these remember each other."""
    hot = [row for row in found["seam"] if "standard_error" in row]
    if not hot:
        return ""
    first, twin = hot[0], found.get("independent", found)["force_rmse_snapshots"]
    of_twin = "" if twin == found["force_rmse_snapshots"] else f" ({twin} of the twin's)"
    times = [t for row in hot for t in row["correlation_fs"].values()]
    return (
        f"± is a standard error: of seams from {first['snapshots']} snapshots that are "
        f"{first['snapshots_apart_fs']:g} fs apart (integrated correlation times of "
        f"{min(times):.0f} to {max(times):.0f} fs, {first['snapshots_apart_fs'] / 2:g} where "
        "snapshots are independent), of force errors by region from "
        f"{found['force_rmse_snapshots']} snapshots of the runs{of_twin}, of drifts from how "
        "blocks lie about the straight line."
    )


def _phonons(found: Mapping[str, Any]) -> list[str]:
    lines = ["| point | HF | LF | difference |", "|---|---|---|---|"]
    for point, row in found["phonon_thz"].items():
        hf, lf = (", ".join(f"{x:.2f}" for x in row[who]) for who in ("hf", "lf"))
        lines.append(f"| {point} | {hf} | {lf} | {row['largest_difference']:.3f} |")
    return lines


def _adsorption(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| site | full HF | mixture | difference, meV | lengths, full HF | lengths, mixture |",
        "|---|---|---|---|---|---|",
    ]
    for site, row in found["adsorption_energy_ev"].items():
        lengths = found["adsorption_length_angstrom"][site]
        hf, mixture = (
            ", ".join(f"{name} {x:.4f}" for name, x in lengths[who].items())
            for who in ("hf", "mixture")
        )
        lines.append(
            f"| {site} | {row['hf']:.4f} | {row['mixture']:.4f} | {row['difference_mev']:+.2f} "
            f"| {hf} | {mixture} |"
        )
    return lines


def _barrier(found: Mapping[str, Any]) -> list[str]:
    """To the digits that the forces left at the saddle allow."""
    row = found["diffusion_barrier_ev"]
    open_mev = max(row["resolution_mev"].values())
    digits = max(0, math.floor(-math.log10(open_mev))) if open_mev > 0 else 3
    hf, mixture = 1e3 * row["hf"], 1e3 * row["mixture"]
    return [
        "| way | full HF | mixture | difference | what forces at the saddle leave open |",
        "|---|---|---|---|---|",
        f"| {' to '.join(row['path'])} | {hf:.{digits}f} | {mixture:.{digits}f} "
        f"| {with_error(row['difference_mev'], math.hypot(*row['resolution_mev'].values()))} "
        f"| {open_mev:.1g} |",
    ]


def _statistics(found: Mapping[str, Any]) -> list[str]:
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
    for key, name in (
        ("pairs", "distances {}"),
        ("spectrum", "spectrum of {}"),
        ("displacement", "displacement of {}"),
    ):
        for kind, curve in row[key].items():
            if isinstance(curve, dict) and curve["within_two_errors"] is not None:
                share = f"{100 * curve['within_two_errors']:.0f} %"
                lines.append(f"| {name.format(kind)} | | | | {share} {_memory(curve)}")
    return lines


def _memory(curve: Mapping[str, Any]) -> str:
    return f"| {curve['correlation_time_ps']:.2g} | {curve['between_starts']:.1f} |"
