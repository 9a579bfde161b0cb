"""`duetto validate`: the physics of a pair, and the certificate of its seam."""

from __future__ import annotations

import argparse
import json
import shlex
import sys


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "validate",
        help="the physics of a pair beside its twin, and where its seam may lie",
        description=(
            "Measure HF, LF and their mixture in float64: lattice constant, bulk modulus, elastic "
            "constants, vacancy, a planar seam cold and hot, forces against full HF and drift at "
            "constant energy. Writes validate.json, validation.md and pictures into output.dir."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="set a key of the file, such as output.dir=DIR or seed=2",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Validate; return the exit code."""
    from duetto.validate.config import load_validation

    config = load_validation(args.config, args.overrides)

    from duetto.validate.page import markdown
    from duetto.validate.validation import validate

    command = shlex.join(["duetto", "validate", args.config, *args.overrides])
    report = validate(config, lambda line: print(line, file=sys.stderr, flush=True), command)
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else markdown(report))
    return 0
