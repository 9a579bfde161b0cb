"""The validation as one Markdown page, from its report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duetto.validate.pictures import RUNS, SEAM, STATE

_BULK = (
    ("lattice_constant_angstrom", "lattice constant, Å", ".4f"),
    ("bulk_modulus_gpa", "bulk modulus, GPa", ".1f"),
    ("c11_gpa", "C11, GPa", ".1f"),
    ("c12_gpa", "C12, GPa", ".1f"),
    ("c44_gpa", "C44, GPa", ".1f"),
    ("vacancy_formation_ev", "vacancy formation, eV", ".3f"),
)
_TWINS = (("pair", "co-trained"), ("independent", "trained apart"))


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
    parts.append(
        f"Force error of layers that are all HF, the largest, meV/Å:\n\n{_blends(labels, found)}"
    )
    for key, title, table in (
        ("phonon_thz", "Phonons, THz, and the largest |LF − HF|", _phonons),
        ("adsorption_energy_ev", "Adsorption by site: energy, eV, and lengths, Å", _adsorption),
        ("diffusion_barrier_ev", "Diffusion barrier, eV", _barrier),
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
    def line(name: str, values: list[float | None], form: str = ".3g") -> str:
        cells = ["" if v is None else format(v, form) for v in values]
        return f"| {name} | " + " | ".join(cells) + " |"

    lines = [f"| quantity | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    lines.append(line("interface stress at rest, MPa", [x["interface_stress_mpa"] for x in found]))
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
            lines.append(line(name.format(at=at), [x["seam"][n][key] for x in found]))
    for shape in found[0]["curved_seam"]:
        for key, name in (
            ("residual_force_mev_per_angstrom", "largest force on lattice sites, meV/Å"),
            ("relaxation_angstrom", "largest move to rest, Å"),
            ("interface_stress_mpa", "interface stress at rest, MPa"),
        ):
            values = [x["curved_seam"][shape][key] for x in found]
            radius = found[0]["curved_seam"][shape]["radius_angstrom"]
            lines.append(line(f"{shape} of {radius:g} Å: {name}", values))
    for region in ("complex", "simple"):
        values = [x["force_rmse_mev_per_angstrom"][region] for x in found]
        lines.append(line(f"force error, {region} region, meV/Å", values))
    for who, name in (("mixture", "mixture"), ("hf", "full HF")):
        values = [x["nve_drift_mev_per_atom_per_ps"][who] for x in found]
        lines.append(line(f"drift at constant energy, {name}, meV/atom/ps", values, ".1e"))
    return "\n".join(lines)


def _blends(labels: list[str], found: list[Mapping[str, Any]]) -> str:
    """What a blend does for the atoms behind it, by its width and the temperature."""
    seams = [(label, row) for label, one in zip(labels, found, strict=True) for row in one["seam"]]
    heads = [f"{label}, {row['temperature_k']:g} K" for label, row in seams]
    lines = [f"| blend, Å | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for n, blend in enumerate(seams[0][1]["force_error"]):
        cells = [f"{_inside(row['force_error'][n]):.3g}" for _, row in seams]
        lines.append(f"| {blend['blend_angstrom']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _inside(errors: Mapping[str, Any]) -> float:
    pairs = zip(errors["depth_angstrom"], errors["error_mev_per_angstrom"], strict=True)
    return max(error for depth, error in pairs if depth > 0)


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
    row = found["diffusion_barrier_ev"]
    lines = ["| way | full HF | mixture | difference, meV |", "|---|---|---|---|"]
    lines.append(
        f"| {' to '.join(row['path'])} | {row['hf']:.4f} | {row['mixture']:.4f} "
        f"| {row['difference_mev']:+.2f} |"
    )
    return lines


def _statistics(found: Mapping[str, Any]) -> list[str]:
    row = found["statistics"]
    lines = [
        f"| {row['runs']} × {row['length_ps']:.4g} ps, {row['blocks']} blocks each | full HF "
        "| mixture | standard error | points within two errors |",
        "|---|---|---|---|---|",
    ]
    warmth = row["temperature_k"]
    lines.append(
        f"| temperature, K | {warmth['hf']:.1f} | {warmth['mixture']:.1f} "
        f"| {warmth['standard_error']:.1f} | |"
    )
    for key, name in (
        ("pairs", "distances {}"),
        ("spectrum", "spectrum of {}"),
        ("displacement", "displacement of {}"),
    ):
        for kind, curve in row[key].items():
            if isinstance(curve, dict) and curve["within_two_errors"] is not None:
                share = f"{100 * curve['within_two_errors']:.0f} %"
                lines.append(f"| {name.format(kind)} | | | | {share} |")
    return lines
