"""`duetto run`: molecular dynamics from a YAML file."""

from __future__ import annotations

import argparse
import signal
import sys


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "run",
        help="molecular dynamics from a YAML file",
        description=(
            "Run molecular dynamics as a YAML file describes it. Writes thermo.csv, "
            "trajectory.xyz, checkpoint.safetensors and summary.json into output.dir. SIGINT and "
            "SIGTERM finish the step and write a checkpoint; the exit code is then 130 or 143."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="set a key of the file, such as timestep_fs=0.5 or stages.0.steps=100",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint, bit for bit"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a run that is already in output.dir"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Run; return the exit code."""
    from duetto.errors import InputError
    from duetto.run.refusals import refuse_early

    if args.resume and args.overwrite:
        raise InputError("--resume continues a run and --overwrite replaces it: give one of them")
    refuse_early(args.config, args.overrides, resume=args.resume, overwrite=args.overwrite)

    from duetto.run.run import run as run_configuration

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    summary = run_configuration(
        args.config,
        resume=args.resume,
        overwrite=args.overwrite,
        overrides=args.overrides,
        say=say,
    )
    if args.json:
        print(summary.to_json(), end="")
    return 0 if summary.stopped_by is None else 128 + signal.Signals[summary.stopped_by].value
