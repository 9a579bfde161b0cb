"""Write the demo's Pt(111) slab with a quarter monolayer of CO on its upper side.

    python scripts/make_slab.py examples/ptco/slab.extxyz
    python scripts/make_slab.py examples/ptco/one_co.extxyz --columns 6 --layers 5 --molecules 1

One upright CO sits on top of every fourth platinum atom, in the p(2×2) pattern. The positions are
ideal, with the lattice constant of the pair's reference, CHGNet 0.3; a run warms them up.
"""

from __future__ import annotations

import argparse

import ase.io
import numpy as np
from ase import Atoms
from ase.build import fcc111

LATTICE_CONSTANT = 3.974  # Å, CHGNet 0.3
PT_C_BOND = 1.86  # Å, on top of a platinum atom
CO_BOND = 1.157  # Å
VACUUM = 13.0  # Å above and below


def make_slab(columns: int, rows: int, layers: int, molecules: int | None = None) -> Atoms:
    """Build the slab, periodic in x and y.

    Args:
        columns: platinum atoms along x, even.
        rows: close-packed rows along y, a multiple of four.
        layers: platinum layers along z.
        molecules: how many of the sites carry one, from the first; None: all.

    Raises:
        ValueError: the p(2×2) pattern does not fit.
    """
    if columns % 2 or rows % 4 or min(columns, rows, layers) < 1:
        raise ValueError("p(2×2) in a right-angled cell needs even columns and 4, 8, 12, … rows")
    slab = fcc111("Pt", (columns, rows, layers), a=LATTICE_CONSTANT, orthogonal=True)
    top = slab.positions[slab.get_tags() == 1]
    bond = LATTICE_CONSTANT / np.sqrt(2)
    row = np.rint(top[:, 1] / (bond * np.sqrt(3) / 2)).astype(int)
    column = np.rint((top[:, 0] - row % 2 * bond / 2) / bond).astype(int)
    # Going two rows up shifts the oblique p(2×2) cell by one atom along the row.
    carries = (row % 2 == 0) & ((column + row // 2) % 2 == 0)
    sites = top[carries][:molecules]
    upwards = np.array([0.0, 0.0, 1.0])
    carbon = sites + PT_C_BOND * upwards
    oxygen = carbon + CO_BOND * upwards
    slab += Atoms(["C"] * len(sites) + ["O"] * len(sites), np.concatenate([carbon, oxygen]))
    slab.center(vacuum=VACUUM, axis=2)
    atoms = Atoms(slab.symbols, slab.positions, cell=slab.cell, pbc=(True, True, False))
    atoms.wrap()
    return atoms


def main() -> None:
    """Write the slab."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="extended XYZ file to write")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--molecules", type=int, help="how many CO; default: all that fit")
    args = parser.parse_args()
    atoms = make_slab(args.columns, args.rows, args.layers, args.molecules)
    ase.io.write(args.output, atoms, format="extxyz", columns=["symbols", "positions"])
    print(f"{args.output}: {len(atoms)} atoms, {atoms.symbols.formula.count()}")


if __name__ == "__main__":
    main()
