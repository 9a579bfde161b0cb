"""What is timed must first be right: forces against an independent evaluation, same inputs."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from duetto.errors import RunStopped
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from duetto.potential.neighbors import neighbors_of
from duetto.potential.reference import ReferenceBackend
from duetto.potential.terms import ExpertWork, Term, atom_types, divide, mixture_terms

Array = NDArray[np.float64]

TOLERANCE = {"float32": 1e-5, "fp32": 5e-5, "float64": 1e-10, "bf16x3": 2e-4, "tf32": 2e-2}
"""Largest error of a force over the largest force.

Float32 rounds to 6e-8. The gradient of an edge is some ten layers there and back deep, each a sum
of up to 64 products: √(20 · 64) roundings, 2e-6. A force is a sum of some hundred gradients of both
signs: 1e-6 is seen on a processor, ten times that is allowed; a wrong kernel is off by far more. On
a chip, `fp32`, activations are approximate instructions of four roundings for one: 4e-5, and a
quarter more. Float64 has eight digits more. Products of float32 numbers in bf16x3 round to 2⁻¹⁶ =
1.5e-5 each, in TF32 to 2⁻¹¹, which is all that is allowed for then: ten products deep, or some
more.
"""

_SAMPLE = 24


def require_same_forces(
    name: str, forces: Array, expected: Array, dtype: str, *, largest: float | None = None
) -> float:
    """Largest error of a force over the largest force.

    Args:
        name: what is checked, for the message.
        forces, expected: (A, 3) eV/Å.
        dtype: of the less precise of the two, or its products' precision, a key of TOLERANCE.
        largest: eV/Å, the largest force; by default that of `expected`.

    Raises:
        RunStopped: the error is above `TOLERANCE`, or not a number. Nothing is to be timed then.
    """
    scale = float(np.abs(expected).max()) if largest is None else largest
    error = float(np.abs(forces - expected).max()) / max(scale, 1e-3)
    if not error <= TOLERANCE[dtype]:
        raise RunStopped(
            f"{name} gives forces that are off by {error:.1e} of the largest force in {dtype}, "
            f"where {TOLERANCE[dtype]:.0e} is allowed; nothing was timed"
        )
    return error


def check_with_reference(potential: Potential, atoms: Atoms) -> float:
    """Compare forces on a sample of atoms with the plain reference in float64.

    The reference computes every centre that has one of the sampled atoms as a neighbour, so the
    forces it gives on them are whole.

    Returns:
        Largest error over the largest force.

    Raises:
        RunStopped: see `require_same_forces`.
    """
    x, cell = tensors(atoms, potential.device)
    forces = potential.evaluate(x, cell).forces.cpu().numpy()
    w = potential.weights
    sample = _sample(w)
    chosen = np.zeros(len(atoms), dtype=bool)
    chosen[neighbors_of(sample, potential.reach, x, cell, potential.pbc).neighbor] = True
    chosen[sample] = True
    neighbors = neighbors_of(np.flatnonzero(chosen), potential.reach, x, cell, potential.pbc)
    experts = potential.pair.experts
    reference = ReferenceBackend(experts, torch.float64)
    work = expert_work(potential.pair, potential.species, w, chosen)
    expected = reference.evaluate(x.cpu(), cell.cpu(), neighbors, work)[0].forces.numpy()
    name = f"backend {potential.backend.name} on {potential.device}"
    largest = float(np.abs(forces).max())
    precision = potential.precision if potential.precision in TOLERANCE else potential.dtype
    return require_same_forces(name, forces[sample], expected[sample], precision, largest=largest)


def expert_work(
    pair: ExpertPair, species: tuple[str, ...], weights: Array, chosen: NDArray[np.bool_]
) -> list[ExpertWork]:
    """What each expert computes of the chosen atoms (A,) bool."""
    types = {role: atom_types(expert, species) for role, expert in pair.experts.items()}
    terms = [
        Term(term.expert, np.where(chosen, term.coefficients, 0.0))
        for term in mixture_terms(weights)
        if term.expert in types
    ]
    return divide([terms], types, correction=pair.correction)


def tensors(atoms: Atoms, device: str) -> tuple[Tensor, Tensor]:
    """Positions (A, 3) and cell (3, 3), float64, Å."""
    positions = torch.tensor(atoms.positions, dtype=torch.float64, device=device)
    return positions, torch.tensor(atoms.cell.array, dtype=torch.float64, device=device)


def _sample(weights: Array) -> NDArray[np.int64]:
    """Atoms of every region, evenly spread over the order of atoms."""
    regions = [np.flatnonzero(weights == 1.0), np.flatnonzero(weights == 0.0)]
    regions.append(np.flatnonzero((weights > 0.0) & (weights < 1.0)))
    picked = [r[np.linspace(0, len(r) - 1, _SAMPLE).astype(int)] for r in regions if len(r)]
    return np.unique(np.concatenate(picked))
