"""A packed expert against nequip's own model, in float64, on a random structure. Imports nequip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from nequip.data import AtomicDataDict
from nequip.utils.dtype import torch_default_dtype
from torch import Tensor, nn

from duetto.errors import InputError
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential

TOLERANCE = 1e-9
"""Largest deviation over the largest value. Both sides are float64 and differ by rounding, some
1e-14; 1e-9 leaves room for cancellation, and a part that is missing or wrong is far above it."""

_SPACING = 2.25  # Å, of the lattice that the atoms are displaced from
_SMALLEST = 27  # atoms


def check_against_nequip(expert: AllegroExpert, model: nn.Module) -> dict[str, float]:
    """Compare energies of atoms, forces and virial with nequip's evaluation of the same weights.

    Args:
        expert: made of `model`.
        model: the nequip model. It is converted to float64 in place: float32 weights stay what
            they are, the arithmetic is done in double.

    Returns:
        For `energies`, `forces` and `virial` the largest deviation over the largest value.

    Raises:
        InputError: a deviation is above 1e-9.
    """
    atoms = random_structure(expert.species)
    expected = evaluate_nequip(in_float64(model), atoms, expert)
    potential = Potential(
        ExpertPair(hf=expert, lf=None),
        list(atoms.symbols),
        np.ones(len(atoms)),
        atoms.pbc,
        dtype="float64",
    )
    found = potential.evaluate(
        torch.tensor(atoms.positions, dtype=torch.float64),
        torch.tensor(atoms.cell.array, dtype=torch.float64),
    )
    pairs = {
        "energies": (found.energies, expected["energies"]),
        "forces": (found.forces, expected["forces"]),
        "virial": (found.virial, expected["virial"]),
    }
    deviations = {
        name: float((ours - theirs).abs().max() / theirs.abs().max())
        for name, (ours, theirs) in pairs.items()
    }
    for name, deviation in deviations.items():
        if not deviation <= TOLERANCE:  # NaN is a failure, too
            raise InputError(
                f"the packed expert's {name} deviate from nequip's by {deviation:.1e} of the "
                f"largest, allowed is {TOLERANCE:.0e}; the model has a part that Duetto reads "
                "wrongly, please report it"
            )
    return deviations


def random_structure(species: tuple[str, ...], seed: int = 0) -> Atoms:
    """A dense periodic cell with every species in it at least twice, atoms 1.2 Å or more apart."""
    rng = np.random.default_rng(seed)
    side = math.ceil(round(max(_SMALLEST, 2 * len(species)) ** (1 / 3), 9))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    # A displacement of up to 0.3 Å along each axis leaves two neighbours 2.25 − 2 · 0.52 Å.
    positions = sites * _SPACING + rng.uniform(-0.3, 0.3, sites.shape)
    symbols = rng.permutation(np.resize(np.array(species), len(sites)))
    cell = np.eye(3) * side * _SPACING
    cell[1, 0], cell[2, 0], cell[2, 1] = rng.uniform(0.2, 0.6, 3)
    return Atoms(symbols, positions, cell=cell, pbc=True)


def in_float64(model: Any) -> Any:
    """Let a nequip Allegro model compute in double precision, its weights unchanged.

    The coupling coefficients are constants, and are made anew by nequip's own class.
    """
    model.double().eval()
    for module in model.modules():
        for name in ("_output_dtype", "model_dtype"):
            if getattr(module, name, None) is torch.float32:
                setattr(module, name, torch.float64)
        if hasattr(module, "w3j"):
            with torch_default_dtype(torch.float64), torch.random.fork_rng(devices=[]):
                exact = type(module)(
                    irreps_in1=module.irreps_in1,
                    irreps_in2=module.irreps_in2,
                    irreps_out=module.irreps_out,
                    mul=module.mul,
                    instructions=module.instructions,
                    path_channel_coupling=module.path_channel_coupling,
                    irrep_normalization=module.irrep_normalization,
                ).w3j
            module.w3j.copy_(exact)
    return model


def evaluate_nequip(model: Any, atoms: Atoms, expert: AllegroExpert) -> dict[str, Tensor]:
    """Energies of atoms (A,), forces (A, 3) and virial −∂E/∂ε (3, 3) by nequip, pairs by ASE."""
    architecture = expert.architecture
    cutoffs = np.array(architecture.cutoffs)
    index = {name: t for t, name in enumerate(architecture.type_names)}
    types = np.array([index[symbol] for symbol in atoms.symbols])
    i, j, distances, shifts = neighbor_list("ijdS", atoms, float(cutoffs.max()))
    near = distances < cutoffs[types[i], types[j]]
    key = AtomicDataDict
    result = model(
        {
            key.POSITIONS_KEY: torch.tensor(atoms.positions, dtype=torch.float64),
            key.CELL_KEY: torch.tensor(atoms.cell.array, dtype=torch.float64)[None],
            key.PBC_KEY: torch.tensor(atoms.pbc)[None],
            key.EDGE_INDEX_KEY: torch.tensor(np.stack([i[near], j[near]])),
            key.EDGE_CELL_SHIFT_KEY: torch.tensor(shifts[near], dtype=torch.float64),
            key.ATOM_TYPE_KEY: torch.tensor(types),
            key.BATCH_KEY: torch.zeros(len(atoms), dtype=torch.long),
            key.NUM_NODES_KEY: torch.tensor([len(atoms)]),
        }
    )
    return {
        "energies": result[key.PER_ATOM_ENERGY_KEY].detach().view(-1),
        "forces": result[key.FORCE_KEY].detach(),
        "virial": -result[key.STRESS_KEY][0].detach() * atoms.get_volume(),
    }
