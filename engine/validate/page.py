"""The validation as one Markdown page, from its report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duetto.validate.page_bulk import bulk_table, phonon_table
from duetto.validate.page_runs import depth_table, run_rows, statistics_table
from duetto.validate.page_seam import blend_table, curved_rows, planar_rows, rest_rows, snapshots
from duetto.validate.page_surface import adsorption_table, barrier_table
from duetto.validate.pictures import RUNS, SEAM, STATE
from duetto.validate.rows import table_of

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
        parts.append(
            f"Bulk, {label} (`{one['pair']}`, seed {report['seed']}):\n\n{bulk_table(one)}"
        )
    rows = rest_rows(found) + planar_rows(found) + curved_rows(found) + run_rows(found)
    parts.append(f"Seams and dynamics:\n\n{table_of(labels, rows)}")
    if said := snapshots(report):
        parts.append(said)
    if by_depth := depth_table(labels, found):
        parts.append(
            f"Force error in the runs by depth in the complex region, meV/Å:\n\n{by_depth}"
        )
    for key, title in (
        ("largest", "Largest force error of any layer, meV/Å"),
        ("largest_inside", "Largest force error of the layers that are all HF, meV/Å"),
    ):
        parts.append(f"{title}:\n\n{blend_table(labels, found, key)}")
    for key, title, table in (
        ("phonon_thz", "Phonons, THz, and the largest |LF − HF|", phonon_table),
        (
            "adsorption_energy_ev",
            "Adsorption by site: energy, eV, and lengths, Å",
            adsorption_table,
        ),
        ("diffusion_barrier_ev", "Diffusion barrier, meV", barrier_table),
        ("statistics", "Mixture and full HF at constant energy", statistics_table),
    ):
        for label, one in zip(labels, found, strict=True):
            if key in one:
                parts.append(f"{title}, {label}:\n\n" + "\n".join(table(one)))
    if "reference_source" in report:
        parts.append(f"Reference: {report['reference_source']}.")
    return "\n\n".join(parts)
