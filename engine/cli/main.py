"""The command line: which command, and which exit code.

Exit codes: 0 done; 2 bad input, in one line; 1 anything else; 130 and 143 stopped by SIGINT or
SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from duetto.errors import InputError, RunStopped

COMMANDS = {
    "demo": "the shipped Pt+CO example, compared with full HF, as a page with pictures",
    "init": "a training configuration, and a run's, sized to your labelled frames",
    "train": "co-train two experts through nequip's trainer",
    "pack": "nequip checkpoints or packages to a pair file",
    "regions": "a look at a run before it starts: its regions, their cost, the guard's findings",
    "evaluate": "errors of a pair on your frames, and how far its experts are apart",
    "validate": "the physics of a pair beside its twin, and where its seam may lie",
    "distil": "a cheap linear expert from an expensive one",
    "run": "molecular dynamics from a YAML file",
    "lammps": "the same run on LAMMPS, on any number of MPI ranks",
    "bench": "throughput of mixture, full HF, full LF and nequip, and what each stage costs",
    "doctor": "versions, device, backend and a self-check",
}
"""What each command does. Its module, `duetto.cli.<name>`, is imported only when it is called;
its `register(subparsers)` adds the arguments and its `run(args)` returns the exit code."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("duetto").setLevel(logging.INFO)
    try:
        return _run(arguments)
    except InputError as error:
        print(f"duetto: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except RunStopped as error:
        print(f"duetto: stopped: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("duetto: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = _Parser(prog="duetto", description="Two Allegro potentials, one energy, one pass.")
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    command = None
    for name, summary in COMMANDS.items():
        if name == chosen:
            command = importlib.import_module(f"duetto.cli.{name}")
            command.register(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    parsed, rest = parser.parse_known_args(arguments)
    _add_late(parser, parsed, rest)
    return int(command.run(parsed)) if command is not None else 0


def _add_late(parser: _Parser, parsed: argparse.Namespace, rest: list[str]) -> None:
    """Take operands that follow an option: argparse gives a list to the first group of them."""
    lists = [name for name in ("overrides", "files") if hasattr(parsed, name)]
    if rest and (not lists or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        setattr(parsed, lists[0], [*getattr(parsed, lists[0]), *rest])


class _Version(argparse.Action):
    """Print the version; it is looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        from importlib.metadata import version

        print(f"duetto {version('duetto')}")
        parser.exit()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
