"""Hydrogen hops to the site beside a vacancy of nickel: NEB in the mixture and in full HF.

    python examples/nih/neb.py [--pair examples/nih/nih.duetto] [--repeat 5]

Prints the energies along the two converged paths, in meV from their starts, and the barriers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE

from duetto import DuettoCalculator, ExpertPair, Partition, Regions, RunStopped

PAIR = Path(__file__).parent / "nih.duetto"
LATTICE_CONSTANT = 3.52
REGIONS = {"complex": {"within": {"distance": 6.5, "of": {"species": ["H"]}}}}
STATIONS = ((1.0, 0.5, 0.0), (0.75, 0.25, 0.25), (0.5, 0.0, 0.0))
"""From the vacancy, in lattice constants: octahedral sites and the tetrahedral hole between them.
On the straight line between the sites hydrogen would squeeze through between two atoms."""
FMAX = 0.03
"""eV/Å: a relaxed end, and a converged path."""
ROUNDS = 8
"""Partitions that a path may need."""


def main() -> None:
    """Compute both paths and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", type=Path, default=PAIR, metavar="PAIR.duetto")
    parser.add_argument("--repeat", type=int, default=5, help="cubic cells along each side")
    parser.add_argument("--images", type=int, default=7, help="an odd number; default 7")
    args = parser.parse_args()
    if args.images < 5 or args.images % 2 == 0:
        parser.error("--images: an odd number from 5 on")
    pair = ExpertPair.load(args.pair)
    start = hop(args.repeat, args.images)
    path, partition = mixture_path(pair, start)
    print(f"{len(path[0])} atoms, {int(partition.weights.sum())} of them high fidelity")
    tell("mixture", path)
    path = [atoms.copy() for atoms in start]
    relax(path, pair)
    tell("full HF", path)


def tell(name: str, path: list[Atoms]) -> None:
    """Print a line of energies."""
    energies = profile(path)
    line = " ".join(f"{value:7.1f}" for value in energies)
    print(f"{name} {line}  barrier {energies.max():.1f} meV")


def profile(path: list[Atoms]) -> np.ndarray:
    """Energies (images,) of a path with calculators, meV from its start."""
    energies = np.array([atoms.get_potential_energy() for atoms in path])
    return 1e3 * (energies - energies[0])


def hop(repeat: int, images: int) -> list[Atoms]:
    """Copies on straight lines from a site into the tetrahedral hole and on to the next site."""
    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True).repeat(repeat)
    vacancy = crystal.positions[0].copy()
    del crystal[0]
    path = [
        crystal + Atoms("H", [vacancy + LATTICE_CONSTANT * np.array(STATIONS[leg])])
        for leg in [0] * (images // 2) + [1] * (images // 2) + [2]
    ]
    half = images // 2
    for leg in (path[: half + 1], path[half:]):
        NEB(leg, method="improvedtangent").interpolate()
    return path


def mixture_path(
    pair: ExpertPair, start: list[Atoms], regions: Mapping[str, Any] = REGIONS
) -> tuple[list[Atoms], Partition]:
    """Relax a path in the mixture, with one partition for all its images.

    One energy for all: every image has the weights of all of them. Where relaxation takes hydrogen
    out of the region, the path goes on from there with the weights of the present images, too.

    Returns:
        the path, with its calculators, and its partition.

    Raises:
        RunStopped: the path has left its region `ROUNDS` times.
    """
    path = [atoms.copy() for atoms in start]
    met = [atoms.copy() for atoms in start]
    for _ in range(ROUNDS):
        partition = Regions.from_dict(regions).partition(met)
        try:
            relax(path, pair, partition=partition)
        except RunStopped as stopped:  # by the guard
            last = stopped
        else:
            return path, partition
        met += [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in path]
    raise last


def relax(path: list[Atoms], pair: ExpertPair, **how: Any) -> None:
    """Relax the ends, then the path between them, in place.

    Args:
        path: gets calculators.
        pair: the experts.
        how: `partition` for `DuettoCalculator`; full high fidelity without.
    """
    relax_with(path, lambda: DuettoCalculator(pair, dtype="float64", **how))


def relax_with(path: list[Atoms], calculator: Callable[[], Any]) -> None:
    """As `relax`; `calculator` makes one for each image."""
    for atoms in path:
        atoms.calc = calculator()
    before = [path[end].positions.copy() for end in (0, -1)]
    settle(path[0])
    settle(path[-1])
    first, last = path[0].positions - before[0], path[-1].positions - before[1]
    for part, atoms in zip(np.linspace(0, 1, len(path))[1:-1], path[1:-1], strict=True):
        atoms.positions += (1 - part) * first + part * last
    for climb in (False, True):
        settle(NEB(path, climb=climb, method="improvedtangent"))


def settle(what: Atoms | NEB, steps: int = 300) -> None:
    """Down to forces of `FMAX`, or say that it does not get there."""
    if not FIRE(what, logfile=None).run(fmax=FMAX, steps=steps):
        sys.exit(f"neb.py: forces are above {FMAX} eV/Å after {steps} steps")


if __name__ == "__main__":
    main()
