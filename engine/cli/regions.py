"""`duetto regions`: a look at a run before it starts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duetto.measure.look import Look
    from duetto.measure.suggest import Suggestion


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "regions",
        help="a look at a run before it starts: its regions, their cost, the guard's findings",
        description=(
            "Resolve the regions of a run's YAML file on its structure: counts by region and "
            "species, a picture coloured by weight, the weights as extended XYZ (column w), what "
            "the guard says of the start, and what a step will cost, by a few evaluations. Nothing "
            "is written into the run's own folder."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file of `duetto run`")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="set a key of the file, such as regions.complex.within.distance=6",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("regions-out"),
        help="folder of picture and weights; default: regions-out",
    )
    parser.add_argument("--no-timing", action="store_true", help="do not evaluate the experts")
    parser.add_argument(
        "--suggest",
        metavar="TOL",
        type=float,
        help=(
            "evaluate both experts on every atom and propose the smallest region outside which "
            "they agree to TOL, in eV for energies and eV/Å for forces"
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Look; return the exit code."""
    import math

    from duetto.errors import InputError
    from duetto.run.config import load_config
    from duetto.run.refusals import refuse_atoms, refuse_experts

    if args.suggest is not None and not (args.suggest > 0.0 and math.isfinite(args.suggest)):
        raise InputError(f"--suggest: got {args.suggest:g}; allowed: a number above 0, such as 0.1")
    config = load_config(args.config, args.overrides)
    refuse_experts(config)
    refuse_atoms(config)

    from duetto.measure.look import look_at, write_look
    from duetto.run.prepare import prepare

    start = prepare(config)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    look = look_at(start, timed=not args.no_timing, say=say)
    try:
        files = write_look(start, args.out)
    except OSError as error:
        raise InputError(f"--out {args.out}: cannot be written: {error.strerror}") from error
    suggestion = None
    if args.suggest is not None:
        from duetto.measure.suggest import suggest

        say("evaluating both experts on every atom …")
        suggestion = suggest(start, args.suggest)
    if args.json:
        data = {**look.to_dict(), "files": files}
        if suggestion is not None:
            data["suggestion"] = suggestion.to_dict()
        print(json.dumps(data, indent=2, allow_nan=False))
        return 0
    print("\n".join([*lines(look), *(f"{kind:10s} {path}" for kind, path in files.items())]))
    if suggestion is not None:
        print("\n".join(suggested(suggestion)))
    return 0


def suggested(suggestion: Suggestion) -> list[str]:
    """The suggestion for a person."""
    import yaml

    words = yaml.safe_dump(suggestion.complex, default_flow_style=True, width=10**6).split("\n")[0]
    lines = [
        f"{'suggestion':10s} complex: {words}",
        f"{'':10s} {suggestion.n_complex} atoms; the experts differ by more than "
        f"{suggestion.tolerance:g} eV or eV/Å on {suggestion.n_disagreeing}, at most by "
        f"{suggestion.energy_largest_eV:.3g} eV, "
        f"{suggestion.force_largest_eV_per_angstrom:.3g} eV/Å",
    ]
    if suggestion.energy_outside_eV is not None:
        lines.append(
            f"{'':10s} outside it at most by {suggestion.energy_outside_eV:.3g} eV, "
            f"{suggestion.force_outside_eV_per_angstrom:.3g} eV/Å"
        )
    return lines


def lines(look: Look) -> list[str]:
    """The look for a person."""
    table = []
    for region, kinds in look.counts.items():
        total = sum(kinds.values())
        share = 100.0 * total / look.n_atoms
        names = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "no atoms"
        table.append(f"{region:10s} {total:8d} atoms {share:5.1f} %   {names}")
    table += [f"{'guard':10s} {line}" for line in look.guard or ("nothing to say of the start",)]
    table += [f"{'warning':10s} {line}" for line in look.warnings]
    if look.step_ms is not None:
        times = ", ".join(f"{name} {ms:.3g}" for name, ms in look.step_ms.items())
        table.append(f"{'step':10s} {times} ms, {_where(look)}")
    if look.speedup_vs_full_hf is not None:
        table.append(f"{'speed-up':10s} {look.speedup_vs_full_hf:.2f} over full HF")
    return table


def _where(look: Look) -> str:
    with_what = look.computed_with
    return f"backend {with_what['backend']} on {with_what['device']} in {with_what['dtype']}"
