"""Relaxation before dynamics: the potential's own forces, ASE's optimiser."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.optimize import FIRE

from duetto.errors import RunStopped
from duetto.md.state import DrivingPotential

log = logging.getLogger("duetto")


def relaxed(
    atoms: Atoms,
    potential: DrivingPotential,
    *,
    fmax_eV_per_angstrom: float,
    max_steps: int,
    fixed: np.ndarray | None = None,
    device: str | torch.device = "cpu",
) -> Atoms:
    """A copy of `atoms` downhill on the potential, its cell as it was, by FIRE.

    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), as ASE has it.

    Args:
        atoms: where to start.
        potential: of these atoms.
        fmax_eV_per_angstrom: largest force on an atom that is not fixed, eV/Å, at which it ends.
        max_steps: how many steps that may take.
        fixed: (A,) bool, atoms that stay where they are.
        device: of the potential.

    Raises:
        RunStopped: the forces are larger after `max_steps`, or not finite.
    """
    moving = atoms.copy()
    moving.set_constraint(None if fixed is None else FixAtoms(mask=fixed))
    moving.calc = _Forces(potential, device)
    optimizer = FIRE(moving, logfile=None)
    converged = optimizer.run(fmax=fmax_eV_per_angstrom, steps=max_steps)
    forces = np.linalg.norm(moving.get_forces(), axis=1)
    atom = int(np.argmax(forces))
    if not converged:
        raise RunStopped(
            f"relaxation: after {max_steps} steps the force on atom {atom} "
            f"({moving.symbols[atom]}) is {forces[atom]:.3g} eV/Å, above "
            f"{fmax_eV_per_angstrom:g}; raise max_steps or fmax_eV_per_angstrom"
        )
    log.info(
        "relaxed in %d steps: largest force %.3g eV/Å, energy %.6f eV",
        optimizer.nsteps,
        forces[atom],
        moving.get_potential_energy(),
    )
    result = atoms.copy()
    result.positions = moving.positions
    return result


class _Forces(Calculator):
    """A potential as ASE's optimisers want it."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, potential: DrivingPotential, device: str | torch.device) -> None:
        super().__init__()
        self._potential, self._device = potential, device

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        evaluation = self._potential.evaluate(
            torch.tensor(self.atoms.positions, dtype=torch.float64, device=self._device),
            torch.tensor(self.atoms.cell.array, dtype=torch.float64, device=self._device),
        )
        forces = evaluation.forces.cpu().numpy()
        if not np.isfinite(forces).all():
            atom = int(np.flatnonzero(~np.isfinite(forces).all(axis=1))[0])
            raise RunStopped(
                f"relaxation: the force on atom {atom} ({self.atoms.symbols[atom]}) is not finite; "
                "look for atoms too close together"
            )
        self.results = {"energy": evaluation.energy, "forces": forces}
