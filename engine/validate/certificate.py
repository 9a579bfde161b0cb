"""The seam certificate: how far the experts are apart, and where a seam may lie."""

from __future__ import annotations

from typing import Any

from duetto.experts.base import max_cutoff
from duetto.report.numbers import with_error
from duetto.validate.case import Case

COMPARED = (
    "lattice_constant_angstrom",
    "bulk_modulus_gpa",
    "c11_gpa",
    "c12_gpa",
    "c44_gpa",
    "vacancy_formation_ev",
)


def measure(case: Case) -> dict[str, Any]:
    """LF − HF of the bulk's numbers, and the smallest region for the tolerance.

    Returns:
        `certificate`: `lf_minus_hf` and `lf_minus_hf_percent` by property, `tolerance_…`,
        `temperature_k` of the hottest seam, `within_angstrom` and `blend_angstrom`, None where no
        depth is good enough, and `sentence`.
    """
    apart = {key: case.found[key]["lf"] - case.found[key]["hf"] for key in COMPARED}
    percent = {key: 100 * apart[key] / abs(case.found[key]["hf"]) for key in COMPARED}
    tolerance = case.config.seam.tolerance_mev_per_angstrom
    hottest = case.found["seam"][-1]
    cutoff = max_cutoff(case.subject.pair.experts["lf"])
    choice = smallest_region(hottest["force_error"], tolerance, cutoff)
    certificate = {
        "lf_minus_hf": apart,
        "lf_minus_hf_percent": percent,
        "tolerance_mev_per_angstrom": tolerance,
        "temperature_k": hottest["temperature_k"],
        "lf_cutoff_angstrom": cutoff,
        "within_angstrom": None if choice is None else choice[0],
        "blend_angstrom": None if choice is None else choice[1],
    }
    return {"certificate": {**certificate, "sentence": _sentence(certificate, hottest)}}


def smallest_region(
    errors: list[dict[str, Any]], tolerance: float, lf_cutoff: float
) -> tuple[float, float] | None:
    """The distance of `within` and the blend's width that compute the fewest atoms by HF.

    An atom at that distance from all atoms that are not all HF has a force error that is, with two
    standard errors, below the tolerance, and so have all deeper ones. No LF centre sees it: LF need
    not know its species.

    Args:
        errors: for each blend `blend_angstrom`, `depth_angstrom`, `error_mev_per_angstrom` and,
            where there are several snapshots, `standard_error_mev_per_angstrom`.
        tolerance: meV/Å.
        lf_cutoff: Å.

    Returns:
        Two lengths in Å, the first rounded up to a tenth; None if no depth will do.
    """
    found = []
    for row in errors:
        errors_of_it = row["error_mev_per_angstrom"]
        unsure = row.get("standard_error_mev_per_angstrom", [0.0] * len(errors_of_it))
        deep = sorted(
            (d, e + 2 * s)
            for d, e, s in zip(row["depth_angstrom"], errors_of_it, unsure, strict=True)
            if d > 0
        )
        good = None
        for depth, error in reversed(deep):
            if error > tolerance:
                break
            good = depth
        if good is not None:
            within = -(-round(max(good, lf_cutoff), 4) * 10 // 1) / 10
            found.append((within + row["blend_angstrom"], within, row["blend_angstrom"]))
    return min(found)[1:] if found else None


def _sentence(certificate: dict[str, Any], hottest: dict[str, Any]) -> str:
    tolerance, kelvin = certificate["tolerance_mev_per_angstrom"], certificate["temperature_k"]
    within, blend = certificate["within_angstrom"], certificate["blend_angstrom"]
    if within is None:
        least = min(row["error_mev_per_angstrom"][-1] for row in hottest["force_error"])
        return (
            f"No seam in this crystal keeps the force error at {kelvin:g} K below {tolerance:g} "
            f"meV/Å: at the greatest depth it is {least:.2g}; use a longer cell (seam.repeat) or "
            "co-train the pair further."
        )
    key = "force_jump_mev_per_angstrom"
    largest = with_error(hottest[key], hottest.get("standard_error", {}).get(key))
    layer = f"and a blend of {blend:g} Å" if blend else "and no blend"
    if within == -(-round(certificate["lf_cutoff_angstrom"], 4) * 10 // 1) / 10:
        layer += f" ({within:.1f} Å is LF's cutoff: no LF atom sees it then)"
    return (
        f"To keep the force error below {tolerance:g} meV/Å at {kelvin:g} K, write within: "
        f"{{distance: {within:.1f}}} around what has to be accurate {layer}; the largest "
        f"error of any layer is {largest} meV/Å."
    )
