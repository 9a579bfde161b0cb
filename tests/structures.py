"""Small structures in every kind of cell, and nequip's own evaluation of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list

from tests.architectures import TYPES


def structures(seed: int = 0) -> dict[str, Atoms]:
    """Six kinds of cell, rattled, with all three species."""
    rng = np.random.default_rng(seed)
    cubic = bulk("Pt", "fcc", a=3.97, cubic=True).repeat(2)
    triclinic = bulk("Pt", "fcc", a=3.97).repeat((2, 3, 2))
    triclinic.set_cell(triclinic.cell.array @ (np.eye(3) + rng.normal(size=(3, 3)) * 0.07), True)
    tiny = bulk("Pt", "fcc", a=3.97)  # all three vectors shorter than the cutoff
    slab = fcc111("Pt", (2, 3, 3), a=3.97, vacuum=6.0)
    slab.pbc = (True, True, False)
    cluster = molecule("CH3CH2OH")
    cluster.set_chemical_symbols(rng.choice(TYPES, len(cluster)))
    isolated = Atoms("PtCOPt", positions=[(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 2.5, 0)])
    result = {
        "cubic": cubic,
        "triclinic": triclinic,
        "smaller_than_cutoff": tiny,
        "slab_two_periodic": slab,
        "cluster_no_cell": cluster,
        "isolated_atoms": isolated,
    }
    for name, atoms in result.items():
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.12
        if name not in {"cluster_no_cell", "isolated_atoms"}:
            symbols = np.array(["Pt"] * len(atoms), dtype=object)
            symbols[rng.random(len(atoms)) < 0.4] = "C"
            symbols[rng.random(len(atoms)) < 0.3] = "O"
            atoms.set_chemical_symbols(symbols.tolist())
    return result


def nequip_results(model: Any, atoms: Atoms, cutoffs: np.ndarray) -> dict[str, np.ndarray]:
    """Energy, energies, forces and stress by nequip's eager model, pairs by ASE.

    Args:
        model: a nequip model.
        atoms: the structure.
        cutoffs: (T, T) by centre and neighbour type, Å.
    """
    from nequip.data import AtomicDataDict as K

    out = model(nequip_frame(atoms, cutoffs))
    results = {
        "energy": out[K.TOTAL_ENERGY_KEY],
        "energies": out[K.PER_ATOM_ENERGY_KEY].view(-1),
        "forces": out[K.FORCE_KEY],
    }
    if atoms.cell.rank == 3:
        results["stress"] = out[K.STRESS_KEY][0]
    return {name: tensor.detach().double().numpy() for name, tensor in results.items()}


def nequip_frame(atoms: Atoms, cutoffs: np.ndarray) -> dict[str, torch.Tensor]:
    """A structure as a nequip model takes it, pairs by ASE."""
    from nequip.data import AtomicDataDict as K

    types = np.array([TYPES.index(symbol) for symbol in atoms.symbols])
    i, j, D, S = neighbor_list("ijDS", atoms, float(cutoffs.max()))
    near = np.linalg.norm(D, axis=1) < cutoffs[types[i], types[j]]
    i, j, S = i[near], j[near], S[near]
    dtype = torch.float64
    data = {
        K.POSITIONS_KEY: torch.tensor(atoms.positions, dtype=dtype),
        K.PBC_KEY: torch.tensor(atoms.pbc)[None],
        K.EDGE_INDEX_KEY: torch.tensor(np.stack([i, j])),
        K.ATOM_TYPE_KEY: torch.tensor(types),
        K.BATCH_KEY: torch.zeros(len(atoms), dtype=torch.long),
        K.NUM_NODES_KEY: torch.tensor([len(atoms)]),
    }
    if atoms.cell.rank == 3:
        data[K.CELL_KEY] = torch.tensor(atoms.cell.array, dtype=dtype)[None]
        data[K.EDGE_CELL_SHIFT_KEY] = torch.tensor(S, dtype=dtype)
    return data
