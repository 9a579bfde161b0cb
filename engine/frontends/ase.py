"""The mixture as an ASE calculator."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from duetto.experts.pair import ExpertPair
from duetto.partition.regions import Regions
from duetto.potential.mixture import Potential


class DuettoCalculator(Calculator):
    """ASE calculator of an expert pair.

    The partition is resolved once, on the first structure that the calculator meets, and stays as
    it is while positions and cell change: that is what makes the forces a gradient. It is resolved
    again when the atoms themselves change (number, species or periodicity), or on `repartition`.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        pair: ExpertPair,
        regions: Regions | None = None,
        device: str = "cpu",
        dtype: str = "float64",
        backend: str = "auto",
        skin: float = 0.5,
        **kwargs: Any,
    ) -> None:
        """Prepare; nothing is computed yet.

        Args:
            pair: the experts.
            regions: which atoms are high fidelity; all of them if None (the low-fidelity expert
                if the pair has no other).
            device: "cpu" or "cuda".
            dtype: "float64" or "float32".
            backend: "auto", "torch" or "triton".
            skin: Verlet skin, Å.
            kwargs: ASE's own, such as `label`.
        """
        super().__init__(**kwargs)
        self.pair = pair
        self.regions = regions
        self._settings: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "backend": backend,
            "skin": skin,
        }
        self.potential: Potential | None = None
        self._key: tuple[Any, ...] = ()

    def repartition(self) -> None:
        """Resolve the regions anew on the next structure."""
        self._key = ()
        self.reset()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all properties; stress only where the cell has a volume."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        structure = self.atoms
        key = (tuple(structure.symbols), tuple(structure.pbc))
        if self.potential is None or key != self._key:
            self.potential = Potential(
                self.pair,
                list(structure.symbols),
                self._weights(structure),
                structure.pbc,
                **self._settings,
            )
            self._key = key
        device = self._settings["device"]
        evaluation = self.potential.evaluate(
            torch.tensor(structure.positions, dtype=torch.float64, device=device),
            torch.tensor(structure.cell.array, dtype=torch.float64, device=device),
        )
        self.results = {
            "energy": evaluation.energy,
            "free_energy": evaluation.energy,
            "energies": evaluation.energies.cpu().numpy(),
            "forces": evaluation.forces.cpu().numpy(),
        }
        if structure.cell.rank == 3:
            stress = -evaluation.virial.cpu().numpy() / structure.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _weights(self, structure: Atoms) -> Any:
        if self.regions is not None:
            return self.regions.weights(structure)
        return np.full(len(structure), 1.0 if self.pair.hf is not None else 0.0)
