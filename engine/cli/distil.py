"""`duetto distil`: a cheap linear expert from an expensive one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "distil",
        help="a cheap linear expert from an expensive one",
        description=(
            "Fit a linear (ACE-type) LF expert to an HF expert's site energies, forces and "
            "virials: least squares, with HF's lattice and elastic constants as exact "
            "constraints. Writes a pair of HF and the new LF, and a report beside it."
        ),
    )
    parser.add_argument("source", metavar="PAIR|CKPT", help="pair file, checkpoint or package: HF")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="a setting, such as cutoff=5.0 or make.rattled=40; see docs/experts.md",
    )
    parser.add_argument("--config", metavar="YAML", help="settings from a file")
    parser.add_argument(
        "-o", "--output", metavar="PAIR.duetto", required=True, help="the pair file to write"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Fit; return the exit code."""
    from duetto.cli.target import pair_target
    from duetto.distil.settings import read_settings
    from duetto.errors import InputError

    target = pair_target(args.output)
    settings = read_settings(args.config, args.overrides)

    from duetto.distil.fit import distil
    from duetto.distil.report import write_pair

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    source = _read(args.source)
    try:
        hf = source.whole_hf()
    except InputError as error:
        raise InputError(f"{args.source}: {error}; distil takes an HF of its own") from error
    fit = distil(hf, settings, say)
    report = write_pair(hf, fit, settings, target, source.content_hash, source.provenance)
    print(json.dumps(report, indent=2) if args.json else "\n".join(_lines(report)))
    return 0


def _read(path: str) -> ExpertPair:
    """A pair file, or a pair of what nequip wrote."""
    from duetto.experts.pair import ExpertPair

    if path.endswith((".ckpt", ".nequip.zip")):
        from duetto.conversion.stack import require_training_stack

        require_training_stack("distil")
        os.environ.setdefault("_NEQUIP_LOG_LEVEL", "WARNING")
        from duetto.conversion.pack import pack

        return pack([path])[0]
    return ExpertPair.load(path)


def _lines(report: dict[str, Any]) -> list[str]:
    from duetto.distil.report import shown

    fit = report["fit_rmse"]
    lines = [
        f"{report['coefficients']} coefficients, {report['rows']} rows of {report['structures']} "
        f"structures, ridge {report['ridge']:.0e}",
        f"from HF on the data: {fit['sites']:.2f} meV an atom, {fit['forces']:.1f} meV/Å of "
        f"{report['hf_force_rms']:.0f}, {fit['virial']:.2f} meV per atom of virial",
    ]
    for name in ("a", "B", "C11", "C12", "C44") if "crystal" in report else ():
        hf, mine, plain = (
            report["crystal"][who][name] for who in ("hf", "distilled", "unconstrained")
        )
        without = shown(plain)
        lines.append(f"  {name:4s} HF {hf:9.4f}   LF {mine:9.4f}   unconstrained {without}")
    for family, found in report.get("test", {}).items():
        mine = found["distilled"]
        labels = mine["forces_vs_labels_meV_per_A"]
        against = "" if labels is None else f", {labels:.1f} from the labels"
        lines.append(
            f"  {family}: {mine['sites_meV']:.2f} meV, {mine['forces_meV_per_A']:.1f} meV/Å from HF"
            f"{against}"
        )
    if "cost" in report:
        lines.append(f"{report['cost']['ns_per_edge_and_core']:.0f} ns an edge on one core")
    return [*lines, f"wrote {report['pair']}, and .json and .html beside it"]
