"""Who is validated: the experts of a pair and their mixture, on any atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import LBFGS
from ase.stress import full_3x3_to_voigt_6_stress

from duetto.errors import RunStopped
from duetto.experts.pair import ExpertPair
from duetto.partition.regions import Regions
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential, Term

Array = npt.NDArray[np.float64]

WHO = ("hf", "lf", "mixture")
MOST_RELAXATION_STEPS = 500


class Subject:
    """A pair in float64 on the CPU. Its experts are compiled once."""

    def __init__(self, pair: ExpertPair) -> None:
        self.pair = pair
        self._backend: Any = "auto"

    def potential(self, atoms: Atoms, weights: Array, skin: float = 0.5) -> Potential:
        """The potential of these atoms with HF weights (A,)."""
        potential = Potential(
            self.pair,
            list(atoms.symbols),
            weights,
            atoms.pbc,
            dtype="float64",
            backend=self._backend,
            skin=skin,
        )
        self._backend = potential.backend
        return potential

    def evaluate(self, atoms: Atoms, weights: Array) -> Evaluation:
        """Energy, forces and virial."""
        return self.potential(atoms, weights, 0.0).evaluate(*tensors(atoms))

    def evaluate_terms(self, atoms: Atoms, groups: Sequence[Sequence[Term]]) -> list[Evaluation]:
        """Of several sums of terms, each expert once."""
        potential = self.potential(atoms, np.ones(len(atoms)), 0.0)
        return potential.evaluate_terms(*tensors(atoms), groups)

    def energy(self, atoms: Atoms, weights: Array) -> float:
        """Energy, eV."""
        return self.evaluate(atoms, weights).energy

    def calculator(self, atoms: Atoms, weights: Array) -> Calculator:
        """What ASE's optimizers ask, for these atoms whatever their positions."""
        return _Calculator(self.potential(atoms, weights))

    def relaxed(self, atoms: Atoms, weights: Array, largest_force: float) -> tuple[Atoms, float]:
        """The atoms at rest in their cell, and their energy in eV.

        Args:
            atoms: the start.
            weights: (A,) of HF, for these atoms whatever their positions.
            largest_force: eV/Å, where to stop.

        Raises:
            RunStopped: they do not come to rest.
        """
        moving = atoms.copy()
        moving.calc = self.calculator(atoms, weights)
        if not LBFGS(moving, logfile=None).run(fmax=largest_force, steps=MOST_RELAXATION_STEPS):
            raise RunStopped(
                f"{atoms.symbols}: forces above {largest_force:g} eV/Å after "
                f"{MOST_RELAXATION_STEPS} steps of relaxation"
            )
        energy = moving.get_potential_energy()
        moving.calc = None
        return moving, float(energy)


class _Calculator(Calculator):
    """What ASE's optimizers ask of a potential."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.duetto_potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        found = self.duetto_potential.evaluate(*tensors(self.atoms))
        self.results = {"energy": found.energy, "forces": found.forces.numpy()}


def tensors(atoms: Atoms) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (A, 3) and cell (3, 3), Å, float64."""
    return torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)


def stress_of(found: Evaluation, volume: float) -> Array:
    """Stress (6,) in ASE's order and sign (positive: it would contract), eV/Å³."""
    stress = -found.virial.numpy() / volume
    return np.asarray(full_3x3_to_voigt_6_stress(stress), dtype=np.float64)


def half(atoms: Atoms, blend: float = 0.0) -> Array:
    """HF weights (A,) of a crystal whose lower half along the third axis, z, is complex.

    The seams are planes half way between layers; there are two, the cell being periodic.

    Args:
        atoms: an ideal crystal.
        blend: Å of the blend layer beyond the complex half.
    """
    marked = atoms.copy()
    marked.positions[:, 2] += 1e-3  # Å: no layer on the cell's own face
    middle = float(marked.cell[2, 2]) / 2
    words: dict[str, Any] = {"complex": {"slab": {"axis": "z", "min": 0.0, "max": middle}}}
    if blend > 0.0:
        words["blend"] = {"width": blend, "profile": "cosine"}
    return Regions.from_dict(words).weights(marked)


def weights_of(who: str, atoms: Atoms) -> Array:
    """HF weights (A,): 1 for hf, 0 for lf, half of the cell for the mixture."""
    return half(atoms) if who == "mixture" else np.full(len(atoms), float(who == "hf"))
