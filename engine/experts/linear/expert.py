"""A linear expert: its description, its coefficients, and what the engine asks of an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Edges, site_gradients
from duetto.experts.linear.basis import basis_of
from duetto.experts.linear.description import LinearDescription
from duetto.kernels.folded import ZBLPair
from duetto.kernels.linear import LinearForm, Wall, atomic_energies, radial_functions

Array = NDArray[Any]


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

    def excess(
        self, species: Sequence[str], centre: Array, others: Sequence[str], distance: Array
    ) -> Array:
        """How far moments of degree 0 are outside what the fit has seen, in widths of that range.

        Args:
            species: (C,) symbols of the centres.
            centre: (E,) int64, the centre of each edge.
            others: (E,) symbols of the neighbors; those without moments add nothing.
            distance: (E,) Å; edges beyond the cutoff add nothing.

        Returns:
            (C, V) in the order of `MomentLayout.scalar`, not above zero within the range; −∞ for a
            centre whose species was none in the fit.
        """
        d, form = self.description, self.form()
        number = {name: t for t, name in enumerate(d.species)}
        types = torch.tensor([number.get(name, -1) for name in species], dtype=torch.int64)
        row, other = torch.from_numpy(centre), torch.tensor([number.get(n, -1) for n in others])
        kept = (types[row] >= 0) & (other >= 0)
        row, other, length = row[kept], other[kept], torch.from_numpy(distance)[kept]
        pair, count = (types[row], other), d.radials[0]
        radial = radial_functions(length, form.cutoffs[pair], form.inner[pair], d.layout.size)
        place = form.species_of[other]
        counted = place >= 0
        moments = radial.new_zeros(len(types) * len(d.neighbors), count)
        flat = row * len(d.neighbors) + place
        moments.index_add_(0, flat[counted], radial[counted, :count])
        low, high = self.seen[types.clamp(min=0)].unbind(dim=1)
        # A fit to one perfect crystal has seen one value alone: its rounding is no finding.
        width = (high - low).clamp(min=1e-6)
        values = moments.view(len(types), -1)
        outside = torch.maximum(low - values, values - high) / width
        known = (types >= 0)[:, None] & ~outside.isnan()
        return torch.where(known, outside, -torch.inf).numpy()

    def name_moment(self, species: str, place: int, excess: float) -> str:
        """In words, that a centre's moment at `place` of V is outside the range by `excess`."""
        s, n = divmod(place, self.description.radials[0])
        low, high = self.seen[self.description.species.index(species), :, place].tolist()
        return (
            f"its moment of {self.description.neighbors[s]}, radial function {n}, is outside "
            f"{low:.3g} to {high:.3g}, what the fit has seen, by {excess:.2g} of that range"
        )

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
