"""The mixture as a TorchSim model: batches of systems, each with a partition of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.partition.regions import Regions
from duetto.potential.base import Backend
from duetto.potential.mixture import Potential

try:
    from torch_sim.models.interface import ModelInterface
except ModuleNotFoundError as error:
    raise InputError(
        'TorchSim is not installed in this environment: pip install "duetto[torch-sim]"'
    ) from error

CONTINUITY = 0.5
"""Å that no atom moves between two evaluations of one system; by more, it is another system."""


@dataclass(eq=False)
class _Known:
    """A system that the model has met.

    Attributes:
        numbers: (A,) atomic numbers.
        pbc: (3,) bool.
        potential: with the partition that was resolved when the system was met.
        positions: (A, 3) float64, Å, where it was last.
    """

    numbers: Tensor
    pbc: tuple[bool, ...]
    potential: Potential
    positions: Tensor


class DuettoModel(ModelInterface):
    """TorchSim model of an expert pair.

    Each system's partition is resolved when the model first meets it and stays as it is while its
    atoms move: that is what makes the forces a gradient. A system is known again by its species
    and by its positions, which move little from one evaluation to the next, so batches may be
    split, reordered and refilled as TorchSim likes. Before another batch of nearly the same
    structures, whose partitions shall be their own, call `forget`.
    """

    def __init__(
        self,
        pair: ExpertPair,
        regions: Regions | Sequence[Regions] | None = None,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        backend: str = "auto",
        skin: float = 0.5,
    ) -> None:
        """Prepare; nothing is computed yet.

        Args:
            pair: the experts.
            regions: which atoms are high fidelity: for all systems, or for each in the order in
                which the model meets them; all atoms if None (low-fidelity ones if the pair has no
                other expert).
            device: of the model and of the states that it is given.
            dtype: torch.float64 or torch.float32, of the experts' arithmetic and of the results.
            backend: see `duetto.potential.mixture.Potential`.
            skin: Verlet skin, Å.

        Raises:
            InputError: another dtype.
        """
        super().__init__()
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype {dtype}: use torch.float32 or torch.float64")
        self._device = torch.device(device)
        self._dtype = dtype
        self._compute_stress = self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"
        self.pair, self.regions, self.skin = pair, regions, skin
        self._backend: str | Backend = backend
        self._known: list[_Known] = []
        self._n_met = 0

    def forget(self) -> None:
        """Resolve the regions anew for whatever comes next."""
        self._known, self._n_met = [], 0

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Energies (S,), forces (A, 3), stresses (S, 3, 3) and energies of atoms (A,).

        Args:
            state: a TorchSim state, or its dictionary; eV, Å.
            kwargs: none are used.

        Raises:
            InputError: a species that the pair does not know, or more systems than regions.
        """
        get = state.__getitem__ if isinstance(state, dict) else lambda name: getattr(state, name)
        positions = get("positions").detach().to(self._device, torch.float64)
        cells = get("cell").detach().to(self._device, torch.float64).mT.reshape(-1, 3, 3)
        numbers, owner = get("atomic_numbers"), get("system_idx")
        if owner is None:
            owner = torch.zeros(len(positions), dtype=torch.int64, device=self._device)
        pbc = tuple(bool(flag) for flag in np.broadcast_to(_plain(get("pbc")), 3))
        counts = torch.bincount(owner, minlength=len(cells)).tolist()
        present: list[_Known] = []
        results = []
        for x, Z, cell in zip(positions.split(counts), numbers.split(counts), cells, strict=True):
            known = self._find(x, Z, cell, pbc, present) or self._meet(x, Z, cell, pbc)
            present.append(known)
            results.append(self._evaluate(known, x, cell))
        return {
            "energy": torch.stack([part["energy"] for part in results]),
            "forces": torch.cat([part["forces"] for part in results]),
            "stress": torch.stack([part["stress"] for part in results]),
            "energies": torch.cat([part["energies"] for part in results]),
        }

    def _evaluate(self, known: _Known, x: Tensor, cell: Tensor) -> dict[str, Tensor]:
        """One system; its cell's rows are the vectors."""
        known.positions = x
        found = known.potential.evaluate(x, cell)
        volume = torch.linalg.det(cell).abs()
        stress = -found.virial / volume if float(volume) > 0.0 else torch.zeros_like(cell)
        results = {
            "energy": torch.tensor(found.energy, dtype=torch.float64),
            "forces": found.forces,
            "stress": stress,
            "energies": found.energies,
        }
        return {name: t.to(self._device, self._dtype) for name, t in results.items()}

    def _find(
        self,
        x: Tensor,
        numbers: Tensor,
        cell: Tensor,
        pbc: tuple[bool, ...],
        present: Sequence[_Known],
    ) -> _Known | None:
        """The known system that this is: of the same species, the nearest, not in the batch yet."""
        nearest, found = CONTINUITY, None
        for known in self._known:
            if known in present:
                continue
            if pbc != known.pbc or not torch.equal(numbers, known.numbers):
                continue
            moved = _largest_move(x - known.positions, cell, pbc)
            if moved < nearest:
                nearest, found = moved, known
        return found

    def _meet(self, x: Tensor, numbers: Tensor, cell: Tensor, pbc: tuple[bool, ...]) -> _Known:
        """A new system: resolve its partition."""
        atoms = Atoms(
            numbers.cpu().numpy(), x.cpu().numpy(), cell=cell.cpu().numpy(), pbc=list(pbc)
        )
        potential = Potential(
            self.pair,
            atoms.get_chemical_symbols(),
            self._weights(atoms),
            atoms.pbc,
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch."),
            backend=self._backend,
            skin=self.skin,
        )
        self._backend = potential.backend  # the experts are compiled once for all systems
        self._n_met += 1
        known = _Known(numbers.clone(), pbc, potential, x)
        self._known.append(known)
        return known

    def _weights(self, atoms: Atoms) -> Any:
        if self.regions is None:
            return np.full(len(atoms), 1.0 if self.pair.hf is not None else 0.0)
        if isinstance(self.regions, Regions):
            return self.regions.weights(atoms)
        if self._n_met >= len(self.regions):
            raise InputError(f"{len(self.regions)} regions, but this is another system")
        return self.regions[self._n_met].weights(atoms)


def _plain(value: Any) -> Any:
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _largest_move(moved: Tensor, cell: Tensor, pbc: tuple[bool, ...]) -> float:
    """Å, to the nearest image along periodic directions: states may wrap their atoms."""
    if any(pbc):
        fractional = torch.linalg.solve(cell.mT, moved.mT).mT
        flags = torch.tensor(pbc, device=moved.device)
        moved = moved - torch.where(flags, fractional.round(), 0.0) @ cell
    return float(moved.norm(dim=1).max()) if len(moved) else 0.0
