"""The same terms over somebody else's edges: for front-ends that bring their own neighbour list.

LAMMPS has ghosts instead of images, torch-sim many systems at once: both come down to centres and
the vectors to their neighbours, and want back energies of centres and gradients of edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Edges, cutoff_matrix
from duetto.experts.pair import ExpertPair
from duetto.potential.choice import DTYPES, choose_backend, make_backend, precision_of
from duetto.potential.terms import Term, atom_types, by_expert


class EdgePotential:
    """Experts over edges that are given, for atoms of certain species.

    Attributes:
        species: chemical symbols; edges name them by their place here.
        cutoff: Å, how far any expert sees: edges may be longer and are then left out.
        precision: what matrix products are computed in.
    """

    def __init__(
        self,
        pair: ExpertPair,
        species: Sequence[str],
        *,
        device: str = "cpu",
        dtype: str = "float32",
        backend: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Prepare the experts; arguments as those of `duetto.potential.mixture.Potential`.

        Raises:
            InputError: an argument is out of range.
        """
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: use float32 or float64")
        self.pair, self.species = pair, tuple(species)
        self.device, self.dtype = device, dtype
        name = choose_backend(backend, device, dtype)
        self.precision = precision_of(precision, name, device, dtype)
        self.backend = make_backend(name, device, pair.experts, dtype, self.precision)
        self._types = {
            role: torch.from_numpy(atom_types(expert, self.species)).to(device)
            for role, expert in pair.experts.items()
        }
        self._cutoffs = {role: cutoff_matrix(e).to(device) for role, e in pair.experts.items()}
        self.cutoff = max(float(cutoffs.max()) for cutoffs in self._cutoffs.values())

    def evaluate_edges(self, edges: Edges, terms: Sequence[Term]) -> tuple[Tensor, Tensor]:
        """Energies of centres and their gradients by edges, mixed.

        Args:
            edges: on the device; types are places in `species`, vectors float64.
            terms: coefficients are (C,), one per centre.

        Returns:
            (C,) float64, eV: Σ_t c_tc E_c^t, and (E, 3) float64, eV/Å: its gradient by r_ij.

        Raises:
            InputError: a term asks for an expert that is not there, or for a centre of a species
                that its expert does not know.
        """
        energies = edges.vectors.new_zeros(edges.n_centres, dtype=torch.float64)
        gradients = torch.zeros_like(edges.vectors, dtype=torch.float64)
        for role, sums in by_expert(terms, correction=self.pair.correction).items():
            coefficients = torch.as_tensor(sums, device=energies.device).double()
            chosen = coefficients.nonzero().flatten()
            if len(chosen):
                self._add(edges, role, chosen, coefficients, energies, gradients)
        return energies, gradients

    def _add(
        self,
        edges: Edges,
        role: str,
        chosen: Tensor,
        coefficients: Tensor,
        energies: Tensor,
        gradients: Tensor,
    ) -> None:
        """Add one term's share, of the `chosen` centres."""
        if role not in self._types:
            raise InputError(f"{len(chosen)} atoms need the expert {role}, which the pair lacks")
        types = self._types[role]
        of_centre, of_neighbor = types[edges.centre_types], types[edges.neighbor_types]
        unknown = chosen[of_centre[chosen] < 0]
        if len(unknown):
            symbol = self.species[int(edges.centre_types[unknown[0]])]
            raise InputError(
                f"a centre is {symbol}, which the expert {role} does not know "
                f"({', '.join(self.pair.experts[role].species)})"
            )
        reach = self._cutoffs[role][of_centre[edges.centre], of_neighbor]
        near = (edges.vectors.double() ** 2).sum(1) < reach**2
        own, kept = edges_of_centres(
            coefficients != 0.0,
            edges.centre,
            near & (of_neighbor >= 0),
            of_centre,
            of_neighbor,
            edges.vectors,
            DTYPES[self.dtype],
        )
        of_sites, of_edges = self.backend.site_energies(role, own)
        energies.index_add_(0, chosen, coefficients[chosen] * of_sites.to(energies))
        weight = coefficients[edges.centre[kept], None]
        gradients.index_add_(0, kept, weight * of_edges.to(gradients))


def edges_of_centres(
    mine: Tensor,
    row: Tensor,
    near: Tensor,
    centre_types: Tensor,
    neighbor_types: Tensor,
    vectors: Tensor,
    dtype: torch.dtype,
) -> tuple[Edges, Tensor]:
    """What one expert is given of a list: its own centres, and of their edges those within reach.

    Args:
        mine: (C,) bool, the centres that it computes.
        row: (E,) ascending, the place of each edge's centre.
        near: (E,) bool, whether the expert sees so far, and the neighbour at all.
        centre_types: (C,) in the expert's numbering.
        neighbor_types: (E,) likewise.
        vectors: (E, 3) Å.
        dtype: that the expert takes them in.

    Returns:
        The edges, and (E',) their places in the list.
    """
    kept = (mine[row] & near).nonzero()[:, 0]
    counts = torch.bincount(row[kept], minlength=len(mine))[mine]
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Edges(first, centre_types[mine], neighbor_types[kept], vectors[kept].to(dtype)), kept


def edges_of(
    first: np.ndarray, centre_types: np.ndarray, neighbor_types: np.ndarray, vectors: np.ndarray
) -> Edges:
    """`Edges` over NumPy arrays, which are not copied where their types fit."""
    return Edges(
        torch.from_numpy(np.ascontiguousarray(first, dtype=np.int64)),
        torch.from_numpy(np.ascontiguousarray(centre_types, dtype=np.int64)),
        torch.from_numpy(np.ascontiguousarray(neighbor_types, dtype=np.int64)),
        torch.from_numpy(np.ascontiguousarray(vectors)),
    )
