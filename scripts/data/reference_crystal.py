"""What the labels' own calculator says of the crystal, for `reference` of a validation.

    python scripts/data/reference_crystal.py fcc:Pt:3.974
    python scripts/data/reference_crystal.py fcc:Pt:3.9741 \
        --strains 0.0005 0.001 0.002 0.004 0.008 --rows bench/results/reference_strain.csv
    python scripts/data/reference_crystal.py fcc:Pt:3.9741 --cells 2 \
        --strains 0.004 --rows bench/results/reference_strain.csv

By the definitions of `duetto validate`; some three minutes for CHGNet on one core. `--strains` asks
at this lattice constant for the elastic constants by differences over other strains: of a potential
whose energy is not smooth they depend on them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ptco.calculators import load_calculator

from duetto.errors import InputError, RunStopped
from duetto.measure.bench.rows import append_records, provenance
from duetto.measure.errors.crystal import read_crystal
from duetto.validate.elastic import cubic_constants
from duetto.validate.reference import reference


def main() -> int:
    """Print the values; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("crystal", help="fcc:Pt:3.974")
    parser.add_argument("--calculator", default="chgnet", help="chgnet, emt or module:Class")
    parser.add_argument("--repeat", type=int, nargs=3, default=(3, 3, 3), help="for the vacancy")
    parser.add_argument("--strains", type=float, nargs="+", metavar="STEP", help="these instead")
    parser.add_argument("--cells", type=int, default=1, help="along each side, of the strains")
    parser.add_argument("--rows", type=Path, metavar="CSV", help="append the strains' rows")
    options = parser.parse_args()
    try:
        _, crystal = read_crystal(options.crystal, "crystal")
        calculator = load_calculator(options.calculator)
        if options.strains:
            by_strain(options, calculator, crystal)
            return 0
        found = reference(calculator, crystal, tuple(options.repeat))
    except (InputError, RunStopped) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    for key, value in found.items():
        print(f"{key}: {value:.4f}")
    return 0


def by_strain(options: argparse.Namespace, calculator: Calculator, crystal: Atoms) -> None:
    """Print the elastic constants by strain, and keep them where rows are asked for."""

    def stress(atoms: Atoms) -> np.ndarray:
        atoms = atoms.copy()
        atoms.calc = calculator
        return np.asarray(atoms.get_stress())

    crystal, origin = crystal.repeat(options.cells), provenance()
    about = {"crystal": options.crystal, "calculator": options.calculator, "cells": options.cells}
    for step in options.strains:
        found = {k: round(v, 2) for k, v in cubic_constants(stress, crystal, step).items()}
        print(step, found, flush=True)
        if options.rows is not None:
            row = {**about, "strain": step, **found, **origin}
            append_records(options.rows, list(row), [row])


if __name__ == "__main__":
    sys.exit(main())
