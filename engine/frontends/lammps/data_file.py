"""LAMMPS data files, in full precision."""

from __future__ import annotations

import io

import numpy as np

from duetto.frontends.lammps.system import MASS_SCALE, System

WEIGHTS_SECTION = "Weights"


def data_file(system: System, title: str) -> str:
    """The text of a data file: box, types with their names, atoms, velocities, blend weights.

    Types are numbered and named; weights of their own, where there are any, stand in a section of
    their own, for `read_data FILE fix blend NULL Weights`.

    Args:
        system: atoms and partition.
        title: first line.
    """
    out = io.StringIO()
    print(title, end="\n\n", file=out)
    print(f"{len(system.atoms)} atoms", file=out)
    print(f"{len(system.types)} atom types\n", file=out)
    low, high = system.box.low, system.box.low + np.diagonal(system.box.cell)
    for axis, a, b in zip("xyz", low, high, strict=True):
        print(f"{a:.17g} {b:.17g} {axis}lo {axis}hi", file=out)
    if any(system.box.tilts):
        print("{:.17g} {:.17g} {:.17g} xy xz yz".format(*system.box.tilts), file=out)
    print("\nAtom Type Labels\n", file=out)
    for t, name in enumerate(system.names, start=1):
        print(f"{t} {name}", file=out)
    # Masses are scaled to CODATA: see MASS_SCALE.
    print("\nMasses\n", file=out)
    for t, (mass, name) in enumerate(zip(system.masses, system.names, strict=True), start=1):
        print(f"{t} {mass * MASS_SCALE:.17g}  # {name}", file=out)
    print("\nAtoms # atomic\n", file=out)
    for i, (t, (x, y, z)) in enumerate(zip(system.numbers, system.positions, strict=True), start=1):
        print(f"{i} {t} {x:.17g} {y:.17g} {z:.17g}", file=out)
    print("\nVelocities\n", file=out)
    for i, (x, y, z) in enumerate(1000.0 * system.velocities, start=1):  # Å/ps
        print(f"{i} {x:.17g} {y:.17g} {z:.17g}", file=out)
    if system.blended:
        print(f"\n{WEIGHTS_SECTION}\n", file=out)
        for i, w in enumerate(system.weights, start=1):
            print(f"{i} {w:.17g}", file=out)
    return out.getvalue()
