"""`duetto demo`: the main job on the shipped example, as a page with pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="the shipped Pt+CO example, compared with full HF, as a page with pictures",
        description=(
            "Run a CO-covered Pt(111) slab at constant energy with two experts, and again with "
            "the high-fidelity expert on every atom; compare energies, forces and step times. "
            "Writes index.html, report.json, thermo.csv, trajectory.xyz and pictures. About "
            "two minutes on two cores."
        ),
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("demo-out"), help="default: demo-out"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of the networks")
    parser.add_argument("--pair", metavar="FILE", type=Path, help="another pair file")
    parser.add_argument(
        "--beside",
        metavar="FILE",
        type=Path,
        help="a pair of the same HF with another LF, to compare with; default: the shipped one "
        "with a linear LF",
    )
    parser.add_argument("--steps", metavar="N", type=int, help="steps at constant energy")
    parser.add_argument("--json", action="store_true", help="print report.json, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; return the exit code."""
    import json

    from duetto.errors import InputError
    from duetto.files import require_file

    if args.steps is not None and args.steps < 2:
        raise InputError(f"--steps: got {args.steps}, allowed: 2 or more")
    for given in (args.pair, args.beside):
        if given is not None:
            require_file(given, "pair file")

    from duetto.demo.demonstration import PAGE, DemoSettings, run_demo
    from duetto.demo.summary import closing_lines

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    settings = DemoSettings(
        args.out,
        device=args.device,
        dtype=args.dtype,
        pair=args.pair,
        beside=args.beside,
        steps=args.steps,
    )
    report = run_demo(settings, say)
    for line in closing_lines(report):
        say(line)
    say(f"page     {args.out / PAGE}")
    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    return 0
