"""What the labels' own calculator says of the crystal, for `reference` of a validation.

    python scripts/data/reference_crystal.py fcc:Pt:3.974

By the definitions of `duetto validate`; some three minutes for CHGNet on one core.
"""

from __future__ import annotations

import argparse
import sys

from ptco.calculators import load_calculator

from duetto.errors import InputError, RunStopped
from duetto.measure.errors.crystal import read_crystal
from duetto.validate.reference import reference


def main() -> int:
    """Print the values; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("crystal", help="fcc:Pt:3.974")
    parser.add_argument("--calculator", default="chgnet", help="chgnet, emt or module:Class")
    parser.add_argument("--repeat", type=int, nargs=3, default=(3, 3, 3), help="for the vacancy")
    options = parser.parse_args()
    try:
        _, crystal = read_crystal(options.crystal, "crystal")
        found = reference(load_calculator(options.calculator), crystal, tuple(options.repeat))
    except (InputError, RunStopped) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    for key, value in found.items():
        print(f"{key}: {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
