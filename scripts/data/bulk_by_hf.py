"""Frames of bulk labelled by a pair's own HF, for a training in which LF is to follow it.

    python scripts/data/bulk_by_hf.py PAIR.duetto FRAMES.extxyz.gz ... --crystal fcc:Pt:3.974 \
        -o by_hf.extxyz.gz

Takes the frames of the crystal's element from the files (their labels are not used), and makes as
many crystals that are strained and nothing else as `--still` says: the stress of a seam and the
differences of elastic constants are differences of slopes there.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from duetto import DuettoCalculator, ExpertPair
from duetto.atoms.labels import read_frames
from duetto.errors import InputError
from duetto.files import atomic_write
from duetto.measure.errors.crystal import read_crystal


def main() -> int:
    """Read, make and label the frames, and write them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", type=Path, metavar="PAIR.duetto")
    parser.add_argument("frames", type=Path, nargs="*", metavar="XYZ")
    parser.add_argument("--crystal", required=True, metavar="fcc:Pt:3.974")
    parser.add_argument(
        "--families", nargs="+", default=["*"], metavar="PATTERN", help="config_types to take"
    )
    parser.add_argument("--still", type=int, default=200, help="strained crystals; default 200")
    parser.add_argument("--strain", type=float, default=0.03, help="of a component; default 0.03")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="XYZ.gz")
    args = parser.parse_args()
    try:
        labelled = frames_of(args)
        text = io.StringIO()
        write(text, labelled, format="extxyz")
        atomic_write(args.output, gzip.compress(text.getvalue().encode(), mtime=0))
    except (InputError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(f"{args.output}: {len(labelled)} frames")
    return 0


def frames_of(args: argparse.Namespace) -> list[Atoms]:
    """All frames that the command line asks for, with HF's labels."""
    pair = ExpertPair.load(args.pair)
    _, crystal = read_crystal(args.crystal)
    of_files = of_element(args.frames, crystal, args.families)
    return list(by_hf([*still(crystal, args.still, args.strain), *of_files], pair))


def still(crystal: Atoms, number: int, strain: float) -> Iterator[Atoms]:
    """Eight cells under random strains, the atoms on their sites.

    Every other one under a hundredth to a tenth of the largest strain, where elastic constants are
    measured.
    """
    rng = np.random.default_rng(2)
    repeated = crystal.repeat(2)
    for k in range(number):
        largest = strain if k % 2 else strain * rng.uniform(0.01, 0.1)
        tensor = rng.uniform(-largest, largest, (3, 3))
        atoms = repeated.copy()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (tensor + tensor.T) / 2), scale_atoms=True)
        atoms.info["config_type"] = "bulk_still"
        yield atoms


def of_element(files: list[Path], crystal: Atoms, families: list[str]) -> Iterator[Atoms]:
    """The frames of the crystal's element alone, of these families."""
    for path in files:
        for frame in read_frames(path):
            kind = str(frame.info.get("config_type", "bulk"))
            if set(frame.symbols) == set(crystal.symbols) and any(
                fnmatchcase(kind, pattern) for pattern in families
            ):
                atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
                atoms.info["config_type"] = kind
                yield atoms


def by_hf(frames: list[Atoms], pair: ExpertPair) -> Iterator[Atoms]:
    """The frames with HF's energies, forces and stresses."""
    calculator = DuettoCalculator(pair, device="cpu", self_check=False)
    for atoms in frames:
        results = {
            name: calculator.get_property(name, atoms) for name in ("energy", "forces", "stress")
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


if __name__ == "__main__":
    sys.exit(main())
