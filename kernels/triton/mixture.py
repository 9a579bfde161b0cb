"""Both experts over one list: the energies of atoms, forces and virial of the mixture.

    E = Σ_c w_c E_c,   F = −∂E/∂x

over the centres c, each an atom computed by one expert with a weight that does not depend on the
positions. Where time is split, the centres of expert 1 have a sum of their own besides, with other
weights, and can be evaluated alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import triton
from torch import Tensor

from duetto.kernels.triton.branches import Branches
from duetto.kernels.triton.neighbor_list import (
    ATOMS_PER_BLOCK,
    LAUNCH,
    N_TILES,
    DeviceEdges,
    DeviceNeighborList,
)
from duetto.kernels.triton.scatter import GRADIENT_LIMIT, combine_atoms, fixed_point_forces


class DeviceExpert(Protocol):
    """What computes the centres of one expert."""

    @property
    def pack_size(self) -> int:
        """Most centres that one program evaluates, up to SLOTS."""
        ...

    def evaluate(self, edges: DeviceEdges, index: int, energies: Tensor, gradients: Tensor) -> None:
        """Evaluate the rows that `edges` lists for expert `index`.

        Args:
            edges: of the present positions.
            index: 0 or 1; the keys are index · K … index · K + K − 1.
            energies: OUTPUT (2 C,) float64, E_c in eV at row 2 c.
            gradients: OUTPUT (3, capacity), ∂E_c/∂r_ij in eV/Å in the slots of the vectors.
        """
        ...


class Mixture:
    """Forces and energies on the device, of the positions given last.

    Attributes:
        neighbors: the list.
        weights: (C,) float64, of the centres.
        forces: (A, 3) float64, eV/Å.
        energies: (A,) float64, eV.
        centre_virials: (C, 6) float64, w_c dE_c/dε as xx, yy, zz, yz, xz, xy, eV; NaN after an
            evaluation that did not want them.
        capturable: whether evaluating only launches kernels, so that graphs can capture it.
    """

    def __init__(
        self,
        neighbors: DeviceNeighborList,
        experts: Sequence[DeviceExpert | None],
        *,
        capturable: bool = True,
    ) -> None:
        """Evaluate `experts` 0 and 1, None for one that no atom needs, over `neighbors`.

        The centres are those that `set_centres` or `set_weights` choose.
        """
        device = neighbors.types.device
        n_atoms = neighbors.n_atoms
        self.neighbors = neighbors
        self.experts = tuple(experts)
        first, second = (1 if expert is None else expert.pack_size for expert in self.experts)
        neighbors.pack_sizes = first, second
        self.capturable = capturable
        self.forces = torch.zeros(n_atoms, 3, dtype=torch.float64, device=device)
        self.energies = torch.zeros(n_atoms, dtype=torch.float64, device=device)
        self._virials_wanted = torch.ones(1, dtype=torch.int32, device=device)
        self._yes, self._no = torch.ones_like(self._virials_wanted), self._virials_wanted * 0
        self._wanted = True
        self._branches = Branches(device, experts if capturable else ())
        self.set_centres((torch.arange(0),) * 2, (torch.zeros(0),) * 2)

    @property
    def generation(self) -> tuple[int, ...]:
        """Changes whenever a buffer does: graphs captured before must be captured again."""
        experts = (getattr(expert, "generation", 0) for expert in self.experts)
        return (self.neighbors.generation, *experts)

    def set_weights(self, weights: Tensor) -> None:
        """Give every atom to expert 0 by (A,) `weights` in [0, 1], and to expert 1 by the rest.

        The list must be built before the next evaluation.

        Raises:
            ValueError: an atom needs an expert that is None.
        """
        shares = weights.double(), 1.0 - weights.double()
        atoms = shares[0].nonzero().flatten(), shares[1].nonzero().flatten()
        self.set_centres(atoms, (shares[0][atoms[0]], shares[1][atoms[1]]))

    def set_centres(self, atoms: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]) -> None:
        """Choose the atoms that each expert computes, and the weights of their energies.

        The list must be built before the next evaluation.

        Args:
            atoms: of expert 0 and of expert 1, (C_0,) and (C_1,), none twice.
            weights: (C_0,) and (C_1,).

        Raises:
            ValueError: an atom needs an expert that is None.
        """
        for index, expert in enumerate(self.experts):
            if expert is None and len(atoms[index]):
                raise ValueError(f"{len(atoms[index])} atoms need expert {index}, which is missing")
        device = self.forces.device
        first, second = (chosen.to(device) for chosen in atoms)
        self.neighbors.set_centres(first, second)
        self.weights = torch.cat([w.to(self.forces) for w in weights])
        C = self.neighbors.n_centres
        order = torch.arange(C, dtype=torch.int32, device=device)
        self._centres_of_atom = torch.full(
            (len(self.forces), 2), -1, dtype=torch.int32, device=device
        )
        self._centres_of_atom[first, 0] = order[: len(first)]
        self._centres_of_atom[second, 1] = order[len(first) :]
        self._second_of_atom = self._centres_of_atom.clone()
        self._second_of_atom[:, 0] = -1
        # Rows that no launch reached must not pass for an energy.
        self._row_energies = self.forces.new_full((2 * C,), torch.nan)
        self.centre_virials = self.forces.new_zeros(C, 6)
        self._generation = -1

    def want_virials(self, wanted: bool) -> None:
        """Whether evaluations to come compute `centre_virials`, at first yes. Launches only."""
        if wanted != self._wanted:
            # On the device, so that a captured evaluation obeys it, too.
            self._virials_wanted.fill_(int(wanted))
            self._wanted = wanted

    def evaluate(self, positions: Tensor) -> None:
        """Energies, forces and virial at `positions` (A, 3) with the present list. Launches only.

        They are void where `neighbors.flags` say so.
        """
        self.neighbors.update(positions)
        self._follow_buffers()
        self._branches.run(lambda: self.evaluate_expert(0), lambda: self.evaluate_expert(1))
        self.gather()

    def evaluate_second(
        self,
        positions: Tensor,
        weights: Tensor,
        forces: Tensor,
        energies: Tensor,
        *,
        virials: bool = False,
    ) -> Tensor:
        """Evaluate the centres of expert 1 alone; see `gather_second`. Launches only.

        What `evaluate` has left, and the edges of expert 0, stay as they were.

        Args:
            positions: (A, 3) float64, Å.
            weights, forces, energies, virials: of `gather_second`.
        """
        self.neighbors.update(positions, self.neighbors.n_first)
        self._follow_buffers()
        self.evaluate_expert(1)
        return self.gather_second(weights, forces, energies, virials=virials)

    def _follow_buffers(self) -> None:
        """Have gradients where the list now has its vectors."""
        if self._generation != self.neighbors.generation:
            self._gradients = torch.zeros_like(self.neighbors.edges().vectors)
            self._generation = self.neighbors.generation

    def evaluate_expert(self, index: int) -> None:
        """Energies and gradients of one expert's centres, at the edges of the last update."""
        edges, expert = self.neighbors.edges(), self.experts[index]
        capacities = edges.work_capacity[index * N_TILES : (index + 1) * N_TILES]
        if expert is not None and any(capacities):
            expert.evaluate(edges, index, self._row_energies, self._gradients)

    def gather(self) -> None:
        """Forces, virials and energies of atoms from what the experts left."""
        virials = self._sum(
            0, self.weights, self._centres_of_atom, self._virials_wanted, self.forces, self.energies
        )
        # Into the same buffer every time: replayed graphs write where they were captured.
        self.centre_virials.copy_(virials)

    def gather_second(
        self, weights: Tensor, forces: Tensor, energies: Tensor, *, virials: bool = False
    ) -> Tensor:
        """A sum over the centres of expert 1 alone, from what it left. Launches only.

        Args:
            weights: (C,) float64, of all centres; those of expert 0 are not read.
            forces: OUTPUT (A, 3) float64, eV/Å. energies: OUTPUT (A,) float64, eV.
            virials: whether they are wanted.

        Returns:
            (C_1, 6) float64, virials as `centre_virials`; NaN unless wanted.
        """
        first, wanted = self.neighbors.n_first, self._yes if virials else self._no
        return self._sum(first, weights, self._second_of_atom, wanted, forces, energies)[first:]

    def _sum(
        self,
        first_centre: int,
        weights: Tensor,
        centres_of_atom: Tensor,
        wanted: Tensor,
        forces: Tensor,
        energies: Tensor,
    ) -> Tensor:
        """Forces and energies by the centres from one on; returns virials (C, 6)."""
        edges = self.neighbors.edges()
        fixed_forces, virials = fixed_point_forces(
            self._gradients, edges.vectors, edges.rowptr, edges.neighbors,
            self.neighbors.centre_atoms, weights, self.neighbors.flags, wanted, len(self.forces),
            first_centre,
        )  # fmt: skip
        combine_atoms[(triton.cdiv(len(energies), ATOMS_PER_BLOCK),)](
            fixed_forces, self._row_energies, weights, centres_of_atom, forces, energies,
            len(energies), BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip
        return virials

    def centre_energies(self) -> Tensor:
        """(C,) float64, eV, of the last evaluation, not weighted; those of expert 0 first."""
        return self._row_energies[::2].clone()

    def centre_out_of_range(self) -> int:
        """The atom of the first centre with a gradient beyond the range; -1 if there is none."""
        rowptr = self.neighbors.edges().rowptr
        finite = (self._gradients.double().abs() < GRADIENT_LIMIT.value).all(dim=0)
        rows = torch.searchsorted(rowptr, (~finite).nonzero().flatten(), right=True) - 1
        # Odd rows are unused slots, where an old gradient may lie; so are all behind the last.
        rows = rows[(rows % 2 == 0) & (rows < len(rowptr) - 1)]
        return int(self.neighbors.centre_atoms[rows[0] // 2]) if len(rows) else -1

    def virial(self) -> Tensor:
        """(3, 3) float64, dE/dε for a strain ε, eV; NaN if the last evaluation did not want it."""
        return whole_virial(self.centre_virials)


def whole_virial(by_centre: Tensor) -> Tensor:
    """(3, 3), the sum of virials (C, 6) given as xx, yy, zz, yz, xz, xy."""
    xx, yy, zz, yz, xz, xy = by_centre.sum(dim=0)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz]).reshape(3, 3)
