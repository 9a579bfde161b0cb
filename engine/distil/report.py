"""What a fit is worth, as numbers and as a page: errors, constants, learning curve, cost."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from duetto.distil.elastic import Elasticity, elasticity
from duetto.distil.equations import solve
from duetto.distil.fit import Fit, _shifts, cost_per_edge, provenance_of
from duetto.distil.gathered import evaluate
from duetto.distil.settings import Crystal, DistilSettings
from duetto.distil.structures import Structure
from duetto.errors import InputError
from duetto.experts.base import Expert
from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.expert import LinearExpert
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.potential.base import Evaluation
from duetto.report.page import Fact, Picture, Table, render_page
from duetto.report.style import HF, INK, LF, MUTED, draw_png

CONSTANTS = ("a", "energy", "B", "C11", "C12", "C44")


def report_of(fit: Fit, settings: DistilSettings) -> dict[str, Any]:
    """The numbers, plain JSON."""
    description = fit.expert.description
    report: dict[str, Any] = {
        "expert": description.to_json(),
        "coefficients": basis_of(description).size * len(description.species),
        "structures": fit.n_structures,
        "closest_A": fit.closest if math.isfinite(fit.closest) else None,
        "dropped": fit.dropped,
        "too_close": fit.too_close,
        "atoms": fit.n_atoms,
        "rows": fit.n_rows,
        "ridge": fit.ridge,
        "cross_validation": {f"{ridge:.0e}": value for ridge, value in fit.misfits.items()},
        "fit_rmse": fit_errors(fit),
        "hf_force_rms": _force_rms(fit),
        "learning_curve": learning_curve(fit),
    }
    if fit.crystal is not None and settings.crystal is not None:
        report["crystal"] = {
            "hf": _constants(fit.crystal),
            "distilled": _constants(elasticity(fit.expert, settings.crystal)),
            "unconstrained": _constants_if_any(fit.unconstrained, settings.crystal),
        }
    if fit.test:
        report["test"] = _test_errors(fit)
        report["cost"] = cost_per_edge(fit.expert, fit.test[0][0])
    return report


def write_pair(
    hf: Expert,
    fit: Fit,
    settings: DistilSettings,
    target: Path,
    source: str,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Write HF and the new LF as a pair, and the report beside it as .json and .html; return it.

    Args:
        hf: the expensive expert.
        fit: what was fitted to it, under `settings`.
        target: the pair file.
        source: hash of where HF comes from.
        provenance: what is known of HF.
    """
    known = {key: value for key, value in provenance.items() if key != "lf"}
    pair = ExpertPair(hf, fit.expert, known | {"lf": provenance_of(fit, settings, source)})
    report = {"pair": str(target), "content_hash": pair.content_hash, **report_of(fit, settings)}
    pair.save(target)
    atomic_write(target.with_suffix(".json"), json.dumps(report, indent=2) + "\n")
    atomic_write(target.with_suffix(".html"), page_of(report))
    return report


def _constants(crystal: Elasticity) -> dict[str, float]:
    return {name: float(getattr(crystal, name)) for name in CONSTANTS}


def _constants_if_any(expert: LinearExpert, crystal: Crystal) -> dict[str, float | None]:
    """None each where few data without constraints have made no stable crystal."""
    try:
        return dict(_constants(elasticity(expert, crystal)))
    except InputError:
        return dict.fromkeys(CONSTANTS)


def shown(value: float | None) -> str:
    """A constant for people."""
    return "   none  " if value is None else f"{value:9.4f}"


def fit_errors(fit: Fit) -> dict[str, float]:
    """Root mean squares over the data: meV, meV/Å, meV per atom."""
    equations = fit.equations
    table = np.concatenate([fit.expert.coefficients, fit.expert.shift[:, None]], axis=1)
    c = equations.sums(equations.folds)[1].new_tensor(table.ravel())
    return {name: 1e3 * equations.error(c, equations.folds, name) for name in equations.quantities}


def _force_rms(fit: Fit) -> float:
    """Root mean square of HF's forces in the data, meV/Å: what their errors are errors of."""
    parts = [part for (_, name), part in fit.equations.parts.items() if name == "forces"]
    mean = sum(part.yy for part in parts) / sum(part.rows for part in parts)
    return 1e3 * float(mean**0.5)


def learning_curve(fit: Fit) -> list[dict[str, float]]:
    """Errors on the last quarter of the folds by fits to more and more of the others."""
    equations = fit.equations
    folds = equations.folds
    held = folds[-max(1, len(folds) // 4) :]
    rest = [fold for fold in folds if fold not in held]
    free, curve = _shifts(fit.expert.description), []
    for count in sorted({max(1, len(rest) // share) for share in (8, 4, 2, 1)} if rest else ()):
        XX, Xy = equations.sums(rest[:count])
        c = solve(XX, Xy, fit.ridge, free, fit.constraints)
        atoms = sum(equations.parts[fold, "sites"].rows for fold in rest[:count])
        curve.append(
            {"atoms": atoms}
            | {name: 1e3 * equations.error(c, held, name) for name in equations.noise}
        )
    return curve


def _test_errors(fit: Fit) -> dict[str, Any]:
    """By family: errors against HF and, where there are labels, of both against them."""
    families: dict[str, list[tuple[Structure, Evaluation]]] = defaultdict(list)
    for structure, labels in fit.test:
        families[structure.family].append((structure, labels))
    return {
        family: {
            "hf_force_rms": _rms([labels.forces.numpy() for _, labels in members]),
            "distilled": _errors(fit.expert, members),
            "unconstrained": _errors(fit.unconstrained, members),
            "hf_vs_labels": _against_labels([labels for _, labels in members], members),
        }
        for family, members in sorted(families.items())
    }


def _errors(
    expert: LinearExpert, members: Sequence[tuple[Structure, Evaluation]]
) -> dict[str, float | None]:
    found = [evaluate(expert, structure) for structure, _ in members]
    pairs = list(zip(found, (labels for _, labels in members), strict=True))
    return {
        "sites_meV": _rms([(mine.energies - hf.energies).numpy() for mine, hf in pairs]),
        "forces_meV_per_A": _rms([(mine.forces - hf.forces).numpy() for mine, hf in pairs]),
        "forces_vs_labels_meV_per_A": _against_labels(found, members),
    }


def _against_labels(
    found: Sequence[Evaluation], members: Sequence[tuple[Structure, Evaluation]]
) -> float | None:
    errors = [
        mine.forces.numpy() - structure.atoms.calc.results["forces"]
        for mine, (structure, _) in zip(found, members, strict=True)
        if structure.atoms.calc is not None and "forces" in structure.atoms.calc.results
    ]
    return _rms(errors) if errors else None


def _rms(parts: Sequence[np.ndarray]) -> float:
    """Root mean square of all numbers, in thousandths."""
    flat = np.concatenate([part.ravel() for part in parts])
    return 1e3 * float(np.sqrt(np.mean(flat**2)))


def page_of(report: dict[str, Any]) -> str:
    """The report as one HTML page."""
    pictures = []
    if len(report["learning_curve"]) > 1 or report["cross_validation"]:
        pictures.append(
            Picture(
                _draw_curves(report),
                "Is there enough data, and how much is it smoothed?",
                "Left: error on structures that were held back, by fits to more and more of the "
                "others. Right: misfit on folds that were left out, by the strength of the "
                "regularisation; the least is taken.",
            )
        )
    tables = []
    if "crystal" in report:
        found = report["crystal"]
        rows = [
            (name, "   ".join(f"{who} {shown(found[who][name]).strip()}" for who in found))
            for name in CONSTANTS
        ]
        tables.append(Table("Crystal: Å, eV per atom, GPa", rows))
    if "test" in report:
        tables.append(Table("Unseen structures: force error, meV/Å", _test_rows(report["test"])))
    return render_page(
        "A linear expert, distilled",
        f"{report['coefficients']} coefficients fitted to {report['atoms']} atoms in "
        f"{report['structures']} structures, {report['rows']} rows.",
        _facts(report),
        pictures,
        tables,
    )


def _facts(report: dict[str, Any]) -> list[Fact]:
    fit = report["fit_rmse"]
    facts = [
        Fact(f"{fit['forces']:.1f} meV/Å", "force error from HF on the data"),
        Fact(f"{fit['sites']:.2f} meV", "error of an atom's energy from HF"),
    ]
    if "cost" in report:
        cost = report["cost"]
        facts.append(Fact(f"{cost['ns_per_edge_and_core']:.0f} ns", "an edge, on one core"))
    return facts


def _test_rows(test: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for family, found in test.items():
        mine, plain = found["distilled"], found["unconstrained"]
        text = (
            f"from HF {mine['forces_meV_per_A']:.1f} (without constraints "
            f"{plain['forces_meV_per_A']:.1f}) of {found['hf_force_rms']:.0f}"
        )
        if mine["forces_vs_labels_meV_per_A"] is not None:
            text += (
                f"; from the labels {mine['forces_vs_labels_meV_per_A']:.1f}, "
                f"HF {found['hf_vs_labels']:.1f}"
            )
        rows.append((family, text))
    return rows


def _draw_curves(report: dict[str, Any]) -> bytes:
    curve, misfits = report["learning_curve"], report["cross_validation"]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        atoms = [point["atoms"] for point in curve]
        left.plot(atoms, [point["forces"] for point in curve], "o-", color=LF)
        left.set_xscale("log")
        left.set_xticks(atoms, [f"{count:,.0f}" for count in atoms])
        left.minorticks_off()
        left.set_ylim(0.0, 1.1 * max((point["forces"] for point in curve), default=1.0))
        left.set_xlabel("atoms fitted to")
        left.set_ylabel("force error (meV/Å)")
        left.grid(axis="y")
        if misfits:
            ridges = [float(ridge) for ridge in misfits]
            right.plot(ridges, list(misfits.values()), "o-", color=HF)
            right.axvline(report["ridge"], color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
        else:
            right.text(0.5, 0.5, "ridge given", color=MUTED, ha="center")
        right.set_xscale("log")
        right.set_xlabel("ridge")
        right.set_ylabel("weighted mean square")
        right.grid(axis="y")

    return draw_png(draw, width=7.5, height=3.0)
