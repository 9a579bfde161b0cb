"""Structures on which neighbour lists go wrong."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

CUTOFF = 3.1


def awkward_cells() -> dict[str, Atoms]:
    """Name to structure; CUTOFF suits them all."""
    rng = np.random.default_rng(20)

    def scattered(n: int, cell: object, pbc: object, symbols: str = "Pt") -> Atoms:
        box = np.array(cell, dtype=float) * (np.eye(3) if np.ndim(cell) == 1 else 1.0)
        atoms = Atoms(f"{symbols}{n}", cell=box, pbc=pbc)
        atoms.positions = rng.random((n, 3)) @ box
        return atoms

    def moved_by_cells(atoms: Atoms, many: int) -> Atoms:
        jumps = rng.integers(-many, many + 1, (len(atoms), 3)) * np.array(atoms.pbc)
        atoms.positions += jumps @ atoms.cell.array
        return atoms

    fcc = bulk("Pt", a=3.92)
    rotated = bulk("Fe", a=2.87, cubic=True)
    rotated.rotate(40, (1, 2, 3), rotate_cell=True)
    left_handed = bulk("Pt", a=3.92)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]], scale_atoms=False)
    sheared = scattered(5, [[4, 0, 0], [3.7, 3, 0], [-3.5, 2.5, 3]], True)
    slab = scattered(6, [4.5, 4.0, 20.0], (True, True, False))
    open_first = scattered(6, [[4, 0, 1], [1, 5, 0], [0, 1, 4]], (False, True, True))
    wire = scattered(5, [3.0, 3.0, 2.5], (False, False, True))
    no_cell = Atoms("Pt5", positions=4 * rng.random((5, 3)), pbc=False)
    outside_open = Atoms("Pt6", positions=9 * rng.random((6, 3)) - 5, cell=[3, 3, 3], pbc=False)
    thin = scattered(4, [1.3, 9.0, 9.0], True)
    long_axis = scattered(12, [2.5, 2.5, 16.0], True)
    missing_vector = Atoms("Pt4", positions=3 * rng.random((4, 3)), pbc=(True, False, True))
    missing_vector.set_cell([[4, 0, 0], [0, 0, 0], [0, 1, 4]])
    on_faces = Atoms("Pt4", cell=[4, 4, 4], pbc=True)
    on_faces.positions = [[0, 0, 0], [4, 4, 2], [-1e-17, 2, 4], [2, 3.9999999999999996, 1e-17]]
    plane = Atoms("Pt4", pbc=False)
    plane.positions = [[0, 0, 1], [2, 0, 1], [0, 2, 1], [7, 7, 1]]
    rod = Atoms("Pt9", positions=[[0.3 * k, 0, 2.2 * k] for k in range(9)], pbc=False)
    hexagonal = bulk("Ti", a=2.95, c=4.68).repeat((2, 1, 1))
    hexagonal.rattle(0.1, seed=3)
    many_cells = scattered(
        14, [10, 0.2, 0] * np.array([[1], [0], [0]]) + np.diag([0, 9.9, 9.5]), True
    )
    return {
        "one atom, many images": fcc,
        "rotated": rotated,
        "left-handed": left_handed,
        "sheared": sheared,
        "slab": slab,
        "open first axis": open_first,
        "wire": wire,
        "no cell": no_cell,
        "outside an open cell": outside_open,
        "single atom": Atoms("Pt", positions=[[1, 2, 3]]),
        "isolated atom in a wide cell": Atoms("Pt", cell=[30, 30, 30], pbc=True),
        "many cells outside": moved_by_cells(scattered(6, [4, 5, 4.4], True), 1000),
        "outside a slab": moved_by_cells(scattered(6, [4.5, 4, 6], (True, True, False)), 3),
        "thin": thin,
        "one long axis": long_axis,
        "missing vector": missing_vector,
        "on the faces": on_faces,
        "in a plane": plane,
        "rod": rod,
        "hexagonal": hexagonal,
        "three cells and more": many_cells,
    }
