"""`duetto train`: co-training, through nequip's own trainer."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "train",
        help="co-train two experts through nequip's trainer",
        description=(
            "Train as a nequip configuration describes it; `nequip-train` would do the same. "
            "Checkpoints and logs go where the configuration says; `duetto pack` makes a pair "
            "file of them. After SIGINT or SIGTERM, --resume continues from the last epoch."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="change the configuration, in Hydra's syntax: epochs=3, freeze=[hf], ++new.key=1",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a training that is already there"
    )


def run(args: argparse.Namespace) -> int:
    """Train; return the exit code."""
    from duetto.conversion.stack import require_training_stack

    require_training_stack("train")

    from duetto.cotrain.train import Interrupted, train

    logging.getLogger().setLevel(logging.INFO)
    try:
        train(
            args.config,
            args.overrides,
            resume=args.resume,
            overwrite=args.overwrite,
            progress=sys.stderr.isatty(),
        )
    except Interrupted as stop:
        again = shlex.join(["duetto", "train", args.config, *args.overrides, "--resume"])
        how = f"resume with: {again}" if stop.checkpoint else "no epoch was finished"
        print(f"duetto: stopped by {stop.signal_name}; {how}", file=sys.stderr)
        return 128 + signal.Signals[stop.signal_name].value
    return 0
