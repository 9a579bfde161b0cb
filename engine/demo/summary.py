"""What the demonstration says: `report.json`, the page, the last lines on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duetto.demo.comparison import Comparison
from duetto.demo.pictures import ENERGY, FORCE_ERRORS, SLAB, STEP_TIMES
from duetto.demo.result import Demonstration
from duetto.demo.timing import OTHER
from duetto.environment import describe_machine, device_name, package_versions
from duetto.report.charts import milliseconds
from duetto.report.page import Fact, Picture, Table, render_page

LF_LACKS_SPECIES = "Full LF is not timed, since LF does not know every species of the slab."

UNITS = {
    "timestep_fs": "fs",
    "nve_drift_mev_per_atom_per_ps": "meV/atom/ps, slope of a straight line through every step",
    "momentum_max": "amu Å/fs, largest total momentum of the mixture's NVE run",
    "force_rmse_vs_full_hf_mev_per_angstrom": "meV/Å, per component, on the mixture's snapshots",
    "energy_error_vs_full_hf_mev_per_atom": "meV/atom, root mean square over the snapshots",
    "step_ms": (
        "ms, median velocity Verlet step plus its share of the neighbour list, measured in turns "
        "in one process on the large slab (timing.n_atoms)"
    ),
    "speedup_ideal": "1 / (f + (1 - f) c), f share of complex atoms, c = full LF / full HF",
    "share_of_ideal": (
        "speedup_vs_full_hf / speedup_ideal; f counts atoms, and those of a surface have fewer "
        "neighbours, so it may exceed 1"
    ),
}


def build_report(demo: Demonstration) -> dict[str, Any]:
    """The report as plain data."""
    speed = demo.speed
    described = demo.model.describe()
    return {
        **demo_counts(demo),
        "backend": described["backend"],
        "device": described["device"],
        "dtype": described["dtype"],
        "precision": described["precision"],
        "timestep_fs": demo.config.timestep_fs,
        "steps": demo.mixture.steps,
        "temperature_K": float(np.mean(demo.mixture.temperature_K)),
        "nve_drift_mev_per_atom_per_ps": demo.mixture.drift_meV_per_atom_per_ps,
        "nve_drift_full_hf_mev_per_atom_per_ps": demo.full_hf.drift_meV_per_atom_per_ps,
        "momentum_max": max(demo.mixture.momentum),
        "e_repartition_ev": demo.final.e_repartition,
        **_errors(demo.weights, demo.comparison),
        "step_ms": speed.step_ms(),
        "speedup_vs_full_hf": speed.speedup,
        "speedup_ideal": speed.ideal_speedup,
        "share_of_ideal": speed.share_of_ideal,
        "cost_ratio": speed.cost_ratio,
        "other": _other(demo),
        "timing": speed.to_dict(),
        "self_check": demo.self_checks,
        "units": UNITS,
        "provenance": _provenance(demo),
    }


def demo_counts(demo: Demonstration) -> dict[str, int]:
    """Atoms in all and per region."""
    return {"n_atoms": len(demo.atoms), **demo.counts._asdict()}


def _other(demo: Demonstration) -> dict[str, Any] | None:
    """The mixture with the other LF, in the same words."""
    if demo.other is None:
        return None
    model, step = demo.other.model, demo.speed.step_ms()
    return {
        "label": demo.other.label,
        "pair": model.config.pair_name,
        "pair_content_hash": model.content_hash,
        "lf_kind": model.pair.experts["lf"].kind,
        "step_ms": step[OTHER],
        "speedup_vs_full_hf": demo.speed.other_speedup,
        **_errors(demo.weights, demo.other.comparison),
    }


def _errors(weights: NDArray[np.float64], comparison: Comparison) -> dict[str, Any]:
    regions = {
        "complex": weights == 1,
        "blend": (weights > 0) & (weights < 1),
        "simple": weights == 0,
        "all": np.ones(len(weights), dtype=bool),
    }
    return {
        "force_rmse_vs_full_hf_mev_per_angstrom": {
            name: comparison.force_rmse(chosen) for name, chosen in regions.items()
        },
        "force_rms_full_hf_mev_per_angstrom": {
            name: comparison.force_rms(chosen) for name, chosen in regions.items()
        },
        "energy_error_vs_full_hf_mev_per_atom": comparison.energy_rmse_meV_per_atom,
        "energy_error_spread_mev_per_atom": comparison.energy_spread_meV_per_atom,
        "snapshots": len(comparison.energy_error_eV),
    }


def _provenance(demo: Demonstration) -> dict[str, Any]:
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(demo.seconds, 1),
        "structure": demo.config.structure.file.name,
        "pair": demo.config.pair_name,
        "pair_content_hash": demo.model.content_hash,
        "pair_provenance": demo.model.pair.provenance,
        "regions": demo.config.regions.to_dict(),
        "seed": demo.config.seed,
        "device_name": device_name(demo.model.device),
        "machine": describe_machine(),
        "versions": package_versions(),
    }


def closing_lines(report: Mapping[str, Any]) -> list[str]:
    """The result in a few lines for the terminal."""
    force, step = report["force_rmse_vs_full_hf_mev_per_angstrom"], report["step_ms"]
    return [
        f"speed    {report['speedup_vs_full_hf']:.2f} times full HF "
        f"({milliseconds(step['mixture'])} against {milliseconds(step['full_hf'])} ms per step of "
        f"{report['timing']['n_atoms']} atoms)" + _of_ideal(report),
        f"energy   drift {report['nve_drift_mev_per_atom_per_ps']:+.1e} meV/atom/ps, "
        f"full HF {report['nve_drift_full_hf_mev_per_atom_per_ps']:+.1e}",
        f"forces   within {_number(force['complex'])} meV/Å of full HF in the complex region, "
        f"{_number(force['simple'])} in the simple one (r.m.s.)",
        *_other_line(report),
    ]


def _other_line(report: Mapping[str, Any]) -> list[str]:
    other = report["other"]
    if other is None:
        return []
    force = other["force_rmse_vs_full_hf_mev_per_angstrom"]
    return [
        f"beside   {other['label']}: {other['speedup_vs_full_hf']:.2f} times full HF "
        f"({milliseconds(other['step_ms'])} ms), forces within {_number(force['complex'])} and "
        f"{_number(force['simple'])} meV/Å"
    ]


def render_summary(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page, as HTML."""
    return render_page(
        "Two experts, one energy",
        f"{report['n_atoms']} atoms of CO-covered Pt(111): a high-fidelity (HF) expert computes "
        f"the {report['n_complex']} atoms where chemistry happens, a low-fidelity (LF) one the "
        f"other {report['n_simple']}. Beside it, the same run with the HF expert on every atom.",
        _facts(report),
        _captioned(report, pictures),
        _tables(report),
    )


def _facts(report: Mapping[str, Any]) -> list[Fact]:
    force = report["force_rmse_vs_full_hf_mev_per_angstrom"]
    timing = report["timing"]
    share = 100.0 * timing["n_complex"] / timing["n_atoms"]
    return [
        Fact(
            f"{report['speedup_vs_full_hf']:.1f}× faster",
            f"than full HF, {timing['n_atoms']:,} atoms, {share:.0f} % of them complex"
            + _of_ideal(report),
        ),
        Fact(
            _scientific(report["nve_drift_mev_per_atom_per_ps"]),
            "meV/atom/ps energy drift of the mixture; full HF from the same start: "
            + _scientific(report["nve_drift_full_hf_mev_per_atom_per_ps"]),
        ),
        Fact(
            f"{_number(force['complex'])} meV/Å",
            "force difference to full HF in the complex region, r.m.s.; in the simple region "
            f"{_number(force['simple'])} meV/Å",
        ),
        Fact(
            f"{_number(report['energy_error_vs_full_hf_mev_per_atom'])} meV",
            "per atom, energy difference to full HF, r.m.s. over snapshots",
        ),
    ]


def _captioned(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> list[Picture]:
    time_ps = report["steps"] * report["timestep_fs"] / 1000.0
    timing = report["timing"]
    return [
        Picture(
            pictures[SLAB],
            "Who computes whom",
            "The slab at the end of the run at constant energy. Orange atoms and the molecules are "
            "computed by HF, blue ones by LF; what counts is the centre, its neighbours may lie in "
            "any region.",
        ),
        Picture(
            pictures[ENERGY],
            "Energy is conserved",
            f"Total energy over {time_ps:g} ps at {report['temperature_K']:.0f} K in steps of "
            f"{report['timestep_fs']:g} fs, same start. The mixture's forces are the gradient of "
            "one energy, so it keeps it as well as one potential does. Dashed: straight line "
            "through all steps.",
            "wide",
        ),
        Picture(
            pictures[FORCE_ERRORS],
            "Forces, layer by layer",
            f"Difference to full HF on {report['snapshots']} snapshots, root mean square per "
            "component. Orange background: complex, blue: simple.",
            "tall",
        ),
        Picture(
            pictures[STEP_TIMES],
            "Time per step",
            f"{timing['n_atoms']:,} atoms of the same surface on a thicker slab, "
            f"{timing['n_complex']:,} of them complex. Median of steps measured in turns in one "
            "process, the neighbour list's share included in all. "
            + (
                LF_LACKS_SPECIES
                if report["cost_ratio"] is None
                else "Ideal: what the experts' own costs allow, 1 / (f + (1 − f) c)."
            ),
            "wide",
        ),
    ]


def _tables(report: Mapping[str, Any]) -> list[Table]:
    origin, step = report["provenance"], report["step_ms"]
    machine, versions = origin["machine"], origin["versions"]
    timing = report["timing"]
    lists = timing["neighbor_list_ms"]
    return [
        Table(
            "In numbers",
            [
                ("atoms", _regions_in_words(report)),
                ("atoms on the large slab", _regions_in_words(timing)),
                (f"step: {_names(step)}", _times(step)),
                (
                    f"neighbour list: {_names(step)}",
                    _times({name: lists[name]["median"] for name in step})
                    + f", once in {timing['steps_per_neighbor_list']:.0f} steps",
                ),
                ("cost of LF over cost of HF, c", _cost_ratio(report["cost_ratio"])),
                ("speedup over full HF", f"{report['speedup_vs_full_hf']:.2f}" + _of_ideal(report)),
                *_other_rows(report),
                ("largest total momentum", f"{report['momentum_max']:.1e} amu Å/fs"),
                (
                    "backend against the reference",
                    f"{max(report['self_check'].values()):.1e} of the largest force",
                ),
            ],
        ),
        Table(
            "Computed with",
            [
                ("backend", f"{report['backend']} on {origin['device_name']}, {report['dtype']}"),
                ("machine", f"{machine['system']}, {machine['threads']} threads"),
                ("pair", f"{origin['pair']} ({origin['pair_content_hash'][:12]})"),
                ("structure", origin["structure"]),
                ("versions", ", ".join(f"{k} {v}" for k, v in versions.items() if v)),
                ("finished", f"{origin['finished']}, after {origin['seconds']:.0f} s"),
            ],
        ),
    ]


def _other_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other LF under the same HF, on the same snapshots and in the same turns."""
    other = report["other"]
    if other is None:
        return []
    force = other["force_rmse_vs_full_hf_mev_per_angstrom"]
    return [
        (
            f"{other['label']}: step, speedup",
            f"{milliseconds(other['step_ms'])} ms, {other['speedup_vs_full_hf']:.2f}",
        ),
        (
            f"{other['label']}: force difference to full HF",
            f"{_number(force['complex'])} meV/Å in the complex region, "
            f"{_number(force['simple'])} in the simple one",
        ),
    ]


def _regions_in_words(counts: Mapping[str, Any]) -> str:
    blend = f"{counts['n_blend']:,} blend, " if counts["n_blend"] else ""
    return (
        f"{counts['n_atoms']:,}: {counts['n_complex']:,} complex, {blend}"
        f"{counts['n_simple']:,} simple"
    )


def _names(times_ms: Mapping[str, float]) -> str:
    words = {"mixture": "mixture", "full_hf": "full HF", "full_lf": "full LF"}
    words[OTHER] = "mixture with the other LF"
    return ", ".join(words[name] for name in times_ms)


def _times(times_ms: Mapping[str, float]) -> str:
    return ", ".join(milliseconds(value) for value in times_ms.values()) + " ms"


def _cost_ratio(value: float | None) -> str:
    return LF_LACKS_SPECIES if value is None else f"{value:.3f}"


def _of_ideal(report: Mapping[str, Any]) -> str:
    """What part of the ideal speedup was reached, after what stands before it; or nothing."""
    if report["speedup_ideal"] is None:
        return ""
    return f", {100 * report['share_of_ideal']:.0f} % of the ideal {report['speedup_ideal']:.2f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def _scientific(value: float) -> str:
    """1.2 × 10⁻⁴, with a true minus sign."""
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}".replace("-", "−")
