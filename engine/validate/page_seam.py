"""The seams' numbers on the page: planar ones cold and hot, by blend, and curved ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duetto.report.numbers import with_error
from duetto.validate.rows import PageRow

_PLANAR = (
    ("lattice_constant_angstrom", "lattice constant of the seam's crystal {at}, Å", ".4f"),
    ("pressure_gpa", "pressure {at}, GPa", ".3g"),
    ("force_jump_mev_per_angstrom", "largest force error of a layer {at}, meV/Å", ".3g"),
    ("stress_jump_mpa", "largest component of stress LF − HF {at}, MPa", ".3g"),
    ("stress_mpa", "largest component of stress mixture − HF {at}, MPa", ".3g"),
    ("atom_energy_mean_mev", "E_HF − E_LF per atom {at}, mean, meV", ".3g"),
    ("atom_energy_spread_mev", "E_HF − E_LF per atom {at}, spread, meV", ".3g"),
)
"""Keys, names and forms; of a temperature whose report has them."""


def rest_rows(found: Sequence[Mapping[str, Any]]) -> list[PageRow]:
    """The relaxed planar seam: the largest stress of a layer, and what all layers have in common.

    Layers have a volume each, all the same, so that their mean is the stress of the whole crystal.
    """
    largest = [(x["interface_stress_mpa"], None) for x in found]
    rows = [PageRow("interface stress at rest, MPa", largest)]
    for key in ("normal", "lateral"):
        name = f"interface stress at rest: mean over layers, {key}, MPa"
        layers = [x["layer_stress_mpa"][key] for x in found]
        rows.append(PageRow(name, [(sum(of_it) / len(of_it), None) for of_it in layers], ".1f"))
    return rows


def planar_rows(found: Sequence[Mapping[str, Any]]) -> list[PageRow]:
    """The planar seam by temperature, on lattice sites where there is none."""
    rows = []
    for n, first in enumerate(found[0]["seam"]):
        cold = first["temperature_k"] == 0
        at = "at 0 K, on lattice sites" if cold else f"at {first['temperature_k']:g} K"
        seams = [x["seam"][n] for x in found]
        for key, name, form in _PLANAR:
            if cold and key == "atom_energy_spread_mev":
                continue  # all atoms of a lattice are alike
            cells = [(x.get(key), x.get("standard_error", {}).get(key)) for x in seams]
            if any(value is not None for value, _ in cells):
                rows.append(PageRow(name.format(at=at), cells, form))
    return rows


def curved_rows(found: Sequence[Mapping[str, Any]]) -> list[PageRow]:
    """Crystals that are complex inside a sphere and inside a cylinder."""
    rows = []
    for shape, first in found[0]["curved_seam"].items():
        for key, name in (
            ("residual_force_mev_per_angstrom", "largest force on lattice sites, meV/Å"),
            ("relaxation_angstrom", "largest move to rest, Å"),
            ("interface_stress_mpa", "interface stress at rest, MPa"),
        ):
            cells = [(x["curved_seam"][shape][key], None) for x in found]
            rows.append(PageRow(f"{shape} of {first['radius_angstrom']:g} Å: {name}", cells))
    return rows


def blend_table(labels: Sequence[str], found: Sequence[Mapping[str, Any]], key: str) -> str:
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


def snapshots(found: Mapping[str, Any]) -> str:
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
