"""A linear expert: its description, its coefficients, and what the engine asks of an expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from ase.data import atomic_numbers
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Edges, site_gradients
from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.description import LinearDescription
from duetto.kernels.folded import ZBLPair
from duetto.kernels.linear import LinearForm, Wall, atomic_energies


@dataclass(frozen=True)
class LinearExpert:
    """Site energies linear in the coefficients of invariant products of moments.

    Attributes:
        description: shape of the expert.
        shift: (T,) float64, energy of an isolated atom, eV.
        coefficients: (T, K) float64, eV, of the products in the order of `basis_of`.
        seen: (T, 2, V) float64: for each type of centre the least and the greatest of the V
            moments of degree 0 that the fit has seen; NaN for a type that was no centre in it.
    """

    kind: ClassVar[str] = "linear"

    description: LinearDescription
    shift: Tensor
    coefficients: Tensor
    seen: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        """Check every tensor against the description."""
        T, V = len(self.description.species), len(self.description.layout.scalar)
        shapes = {
            "shift": (T,),
            "coefficients": (T, basis_of(self.description).size),
            "seen": (T, 2, V),
        }
        for name, shape in shapes.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
                given = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise InputError(f"weight {name} is {given}, expected {shape} torch.float64")
            if name != "seen" and not torch.isfinite(tensor).all():
                raise InputError(f"weight {name} holds NaN or infinity")

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the expert's types."""
        return self.description.species

    def cutoff(self, centre: str, neighbor: str) -> float:
        """Distance up to which the energy of `centre` depends on `neighbor`, Å."""
        species = self.description.species
        return self.description.cutoffs[species.index(centre)][species.index(neighbor)]

    def to_json(self) -> dict[str, Any]:
        """The description as plain JSON."""
        return self.description.to_json()

    def to_tensors(self) -> dict[str, Tensor]:
        """The coefficients by name."""
        return {"shift": self.shift, "coefficients": self.coefficients, "seen": self.seen}

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> LinearExpert:
        """Inverse of `to_json` and `to_tensors`.

        Raises:
            InputError: the description or a tensor is not a linear expert's.
        """
        description = LinearDescription.from_json(data)
        expected = {"shift", "coefficients", "seen"}
        if set(tensors) != expected:
            odd = ", ".join(sorted(set(tensors) ^ expected))
            raise InputError(f"the weights do not fit a linear expert: {odd}")
        return cls(description, **tensors)

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.experts.base.Expert`; the reference, in the dtype of the vectors."""
        form = self.form().to(edges.vectors.device)
        with torch.inference_mode(False), torch.enable_grad():
            vectors = edges.vectors.detach().clone().requires_grad_()
            energies = atomic_energies(
                form, vectors, edges.centre, edges.centre_types, edges.neighbor_types
            )
            gradient = site_gradients(energies, vectors)
        return energies.detach().double(), gradient

    def form(self) -> LinearForm:
        """The polynomial in the moments that kernels evaluate, float64."""
        d, basis = self.description, basis_of(self.description)
        T = len(d.species)
        c1 = torch.zeros(T, d.layout.num_moments, dtype=torch.float64)
        c1[:, basis.singles] = self.coefficients[:, : len(basis.singles)]
        wall = None
        if d.wall is not None:
            numbers = torch.tensor([atomic_numbers[name] for name in d.species])
            radii = torch.tensor(d.wall.radii, dtype=torch.float64)
            wall = Wall(ZBLPair(numbers, d.wall.polynomial_cutoff_p), radii)
        places = [d.neighbors.index(name) if name in d.neighbors else -1 for name in d.species]
        return LinearForm(
            layout=d.layout,
            cutoffs=torch.tensor(d.cutoffs, dtype=torch.float64),
            inner=torch.tensor(d.inner, dtype=torch.float64),
            species_of=torch.tensor(places),
            shift=self.shift,
            c1=c1,
            pair_a=basis.pairs[:, 0].contiguous(),
            pair_b=basis.pairs[:, 1].contiguous(),
            c2=self.coefficients @ basis.pair_matrix,
            triple_first=basis.triple_first,
            triple_c=basis.triple_c,
            c3=self.coefficients @ basis.triple_matrix,
            wall=wall,
        )
