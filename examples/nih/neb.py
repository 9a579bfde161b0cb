"""Hydrogen falls into a vacancy of nickel: the barrier by NEB, mixture beside full high fidelity.

    python examples/nih/neb.py [--pair examples/nih/nih.duetto] [--repeat 4]

Prints the energies along the path, in meV from its start, and the barrier.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE

from duetto import DuettoCalculator, ExpertPair, Regions

PAIR = Path(__file__).parent / "nih.duetto"
LATTICE_CONSTANT = 3.52
REGIONS = {"complex": {"within": {"distance": 5.8, "of": {"species": ["H"]}}}}


def main() -> None:
    """Compute both paths and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", type=Path, default=PAIR, metavar="PAIR.duetto")
    parser.add_argument("--repeat", type=int, default=4, help="cubic cells along each side")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="at most, of each relaxation")
    args = parser.parse_args()
    pair = ExpertPair.load(args.pair)
    first, last = ends(args.repeat)
    # One energy for all: every image has the weights of all of them.
    partition = Regions.from_dict(REGIONS).partition(interpolated(first, last, args.images))
    weights = partition.weights
    print(f"{len(first)} atoms, {int(weights.sum())} of them high fidelity")
    for name, how in (("mixture", {"partition": partition}), ("full HF", {})):
        energies = path(pair, first, last, args.images, args.steps, **how)
        meV = 1e3 * (energies - energies[0])
        print(
            f"{name:8} " + " ".join(f"{value:8.1f}" for value in meV) + f"  barrier {meV.max():.1f}"
        )


def ends(repeat: int) -> tuple[Atoms, Atoms]:
    """Hydrogen in the octahedral site across the vacancy's corner, and in the vacancy's own."""
    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True).repeat(repeat)
    vacancy = crystal.positions[0].copy()
    del crystal[0]
    outside, inside = (
        crystal + Atoms("H", [vacancy + LATTICE_CONSTANT * np.array(site)])
        for site in ((0.5, 0.5, 0.5), (0.42, 0.0, 0.0))
    )
    return outside, inside


def interpolated(first: Atoms, last: Atoms, images: int) -> list[Atoms]:
    """Copies on a straight line."""
    path = [first.copy(), *(first.copy() for _ in range(images - 2)), last.copy()]
    NEB(path, method="improvedtangent").interpolate()
    return path


def path(
    pair: ExpertPair, first: Atoms, last: Atoms, images: int, steps: int, **how: Any
) -> np.ndarray:
    """Energies (images,) eV along the relaxed path between the relaxed ends."""
    calculator = DuettoCalculator(pair, dtype="float64", **how)
    relaxed = []
    for end in (first, last):
        atoms = end.copy()
        atoms.calc = calculator
        FIRE(atoms, logfile=None).run(fmax=0.02, steps=steps)
        relaxed.append(atoms.copy())
    chain = interpolated(*relaxed, images)
    for atoms in chain:
        atoms.calc = DuettoCalculator(pair, dtype="float64", **how)
    neb = NEB(chain, climb=True, method="improvedtangent")
    FIRE(neb, logfile=None).run(fmax=0.05, steps=steps)
    return np.array([atoms.get_potential_energy() for atoms in chain])


if __name__ == "__main__":
    main()
