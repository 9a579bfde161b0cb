"""Crystals of nickel labelled by the pair's own HF, for agree.yaml: LF is to follow it there.

    python examples/nih/label_by_hf.py examples/nih/cotrained.duetto -o examples/nih/by_hf.extxyz.gz

Frames as in make_labels.py without hydrogen, and as many that are strained and nothing else: the
stress of a seam is the difference of two slopes in the perfect crystal.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from make_labels import bulk_frames, save

from duetto import DuettoCalculator, ExpertPair


def main() -> None:
    """Make the frames and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", type=Path, metavar="PAIR.duetto")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="XYZ.gz")
    parser.add_argument("--number", type=int, default=60, help="of each of two sorts; default 60")
    args = parser.parse_args()
    save(args.output, list(labelled(ExpertPair.load(args.pair), args.number)))


def labelled(pair: ExpertPair, number: int) -> Iterator[Atoms]:
    """Frames with HF's energies, forces and stresses."""
    rng = np.random.default_rng(2)
    frames = list(bulk_frames(3 * number, rng))
    for k, atoms in enumerate(frames):
        if k % 3 == 0:  # strained alone
            atoms.info["config_type"] = "bulk_still"
        elif k % 6 < 3:
            continue
        calculator = DuettoCalculator(pair, device="cpu", self_check=False)
        results = {
            name: calculator.get_property(name, atoms) for name in ("energy", "forces", "stress")
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


if __name__ == "__main__":
    main()
