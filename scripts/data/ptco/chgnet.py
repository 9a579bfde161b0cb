"""CHGNet 0.3 as an ASE calculator that differentiates once.

chgnet's own calculator takes forces and stress in two passes and keeps the graph of both for a
second derivative that only training needs. One pass for both, without that graph, is about twice
as fast on a CPU and gives the same numbers (`stock_difference` measures it).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from chgnet.graph.crystalgraph import CrystalGraph
from chgnet.model.dynamics import CHGNetCalculator
from chgnet.model.model import BatchedGraph, CHGNet
from numpy.typing import NDArray
from pymatgen.io.ase import AseAtomsAdaptor


class FastCHGNet(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign and order) of CHGNet 0.3.0."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, model_name: str = "0.3.0") -> None:
        super().__init__()
        self.model = CHGNet.load(model_name=model_name, use_device="cpu", verbose=False)
        self.model.eval().requires_grad_(False)
        self.model.graph_converter.set_isolated_atom_response("error")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` with all three properties, whichever are asked for."""
        super().calculate(atoms, properties, system_changes)
        model, n_atoms = self.model, len(self.atoms)
        graph, batch = self._batch(self.atoms)
        energy = model._compute(batch)["e"].sum() * n_atoms
        gradient, strain_gradient = torch.autograd.grad(
            energy, [batch.atom_positions[0], batch.strains[0]]
        )
        # The composition model is linear in the element counts: no force, no stress.
        energy = energy.item() + model.composition_model([graph]).item() * n_atoms
        stress = strain_gradient.double().numpy() / self.atoms.get_volume()
        self.results = {
            "energy": energy,
            "forces": -gradient.double().numpy(),
            "stress": np.array([stress[i, j] for i, j in _VOIGT]),
        }

    def site_gradient(self, atoms: Atoms, centre: int) -> NDArray[np.float64]:
        """(A, 3) derivatives of one centre's share of the energy, eV/Å."""
        _, batch = self._batch(atoms)
        shares = self.model._compute(batch, return_site_energies=True)["site_energies"][0]
        (gradient,) = torch.autograd.grad(shares[centre], batch.atom_positions[0])
        return np.asarray(gradient.double().numpy())

    def _batch(self, atoms: Atoms) -> tuple[CrystalGraph, BatchedGraph]:
        graph = self.model.graph_converter(AseAtomsAdaptor.get_structure(atoms))
        batch = BatchedGraph.from_graphs(
            [graph],
            bond_basis_expansion=self.model.bond_basis_expansion,
            angle_basis_expansion=self.model.angle_basis_expansion,
            compute_stress=True,
        )
        return graph, batch


_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def stock_difference(fast: FastCHGNet, frames: list[Atoms]) -> dict[str, float]:
    """Largest difference to chgnet's own calculator: energy (eV/atom), force (eV/Å), stress."""
    stock: Any = CHGNetCalculator(use_device="cpu")
    worst = {"energy_per_atom": 0.0, "force": 0.0, "stress": 0.0}
    for frame in frames:
        mine, theirs = frame.copy(), frame.copy()
        mine.calc, theirs.calc = fast, stock
        difference = {
            "energy_per_atom": (mine.get_potential_energy() - theirs.get_potential_energy())
            / len(frame),
            "force": np.abs(mine.get_forces() - theirs.get_forces()).max(),
            "stress": np.abs(mine.get_stress() - theirs.get_stress()).max(),
        }
        worst = {key: max(worst[key], abs(float(difference[key]))) for key in worst}
    return worst
