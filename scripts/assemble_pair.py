"""The HF expert of a pair file, as it is, with an LF that was trained towards it.

    python scripts/assemble_pair.py examples/ptco/ptco.duetto outputs/ptco/time/best.ckpt \
        -o mine.duetto --outer-step-fs 3.6
    python scripts/assemble_pair.py examples/ptco/ptco.duetto distilled.duetto \
        -o mine.duetto --outer-step-fs 3.6

`duetto pack` would take HF from the checkpoint, where its weights have been rounded to the
training's precision. `--outer-step-fs` is what a run warns above, see docs/time.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from duetto.conversion.pack import pack
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.run.multiple_timestep import MEASURED


def with_lf(path: str) -> ExpertPair:
    """What a checkpoint or a pair file has for LF."""
    return ExpertPair.load(path) if path.endswith(".duetto") else pack(lf=path)[0]


def main() -> None:
    """Assemble and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", type=Path, help="pair file with HF")
    parser.add_argument("lf", metavar="CKPT|PAIR", help="checkpoint or pair file with the LF")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAIR.duetto")
    parser.add_argument("--outer-step-fs", type=float, help="longest outer step that was measured")
    args = parser.parse_args()
    try:
        teacher, trained = ExpertPair.load(args.pair), with_lf(args.lf)
    except InputError as error:
        parser.error(str(error))
    if teacher.correction and _hash_of_lf(teacher) != _hash_of_lf(trained):
        parser.error(f"{args.pair}: its HF is a correction to its own LF, and to no other")
    provenance = {**trained.provenance, "hf": teacher.provenance["hf"]}
    if args.outer_step_fs is not None:
        provenance[MEASURED] = args.outer_step_fs
    ExpertPair(teacher.hf, trained.lf, provenance, teacher.correction).save(args.output)


def _hash_of_lf(pair: ExpertPair) -> str | None:
    return None if pair.lf is None else ExpertPair(None, pair.lf).content_hash


if __name__ == "__main__":
    main()
