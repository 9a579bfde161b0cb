"""`duetto regions`: a look at a run before it starts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duetto.measure.look import Look


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
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Look; return the exit code."""
    from duetto.errors import InputError
    from duetto.run.config import load_config
    from duetto.run.refusals import refuse_atoms, refuse_experts

    config = load_config(args.config, args.overrides)
    refuse_experts(config)
    refuse_atoms(config)

    from duetto.measure.look import look_at, start_of_run, write_look

    start = start_of_run(config)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    look = look_at(start, timed=not args.no_timing, say=say)
    try:
        files = write_look(start, args.out)
    except OSError as error:
        raise InputError(f"--out {args.out}: cannot be written: {error.strerror}") from error
    if args.json:
        print(json.dumps({**look.to_dict(), "files": files}, indent=2, allow_nan=False))
    else:
        print("\n".join([*lines(look), *(f"{kind:10s} {path}" for kind, path in files.items())]))
    return 0


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
