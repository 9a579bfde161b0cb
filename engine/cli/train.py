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
            "Train as a short configuration (`duetto init` writes one) or one of nequip's "
            "describes it. All files are looked at before it starts. Checkpoints and logs go where "
            "the configuration says; `duetto pack` makes a pair file of them. After SIGINT or "
            "SIGTERM, --resume continues from the last epoch."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="change the configuration: epochs=3, lf.scalars=32; for nequip's in Hydra's syntax",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a training that is already there"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="let nequip and Lightning tell what they do"
    )


def run(args: argparse.Namespace) -> int:
    """Train; return the exit code."""
    from duetto.conversion.stack import require_training_stack

    require_training_stack("train")

    from duetto.cotrain.train import Interrupted, train

    if args.verbose:
        logging.getLogger().setLevel(logging.INFO)
    try:
        folder = train(
            args.config,
            args.overrides,
            resume=args.resume,
            overwrite=args.overwrite,
            progress=sys.stderr.isatty(),
            verbose=args.verbose,
            say=lambda line: print(line, flush=True),
        )
    except Interrupted as stop:
        again = shlex.join(["duetto", "train", args.config, *args.overrides, "--resume"])
        how = f"resume with: {again}" if stop.checkpoint else "no epoch was finished"
        print(f"duetto: stopped by {stop.signal_name}; {how}", file=sys.stderr)
        return 128 + signal.Signals[stop.signal_name].value
    if folder is not None and (folder / "pair.duetto").is_file():
        print(f"the pair: {folder / 'pair.duetto'}")
    elif folder is not None and (folder / "best.ckpt").is_file():
        print(f"next: duetto pack {folder / 'best.ckpt'} -o pair.duetto")
    return 0
