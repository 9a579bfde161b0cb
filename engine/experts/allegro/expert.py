"""An Allegro expert: architecture and original weights, evaluated in the folded form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.allegro.architecture import AllegroArchitecture
from duetto.experts.allegro.folding import fold, weight_shapes
from duetto.experts.base import Edges, site_gradients, types_of
from duetto.kernels.folded import FoldedExpert, atomic_energies


@dataclass(frozen=True)
class AllegroExpert:
    """One Allegro expert: its architecture and its original weights (float64)."""

    kind: ClassVar[str] = "allegro"
    architecture: AllegroArchitecture
    weights: Mapping[str, Tensor]
    _folded: dict[tuple[torch.dtype, str], FoldedExpert] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check every weight against the architecture."""
        _check_weights(self.architecture, self.weights)

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the expert's types."""
        return self.architecture.type_names

    def cutoff(self, centre: str, neighbor: str) -> float:
        """Distance in Å up to which the energy of a `centre` depends on a `neighbor`."""
        types = types_of(self)
        return self.architecture.cutoffs[types[centre]][types[neighbor]]

    def to_json(self) -> dict[str, Any]:
        """The architecture, in the words of `allegro.model.AllegroModel`."""
        return self.architecture.to_json()

    def to_tensors(self) -> dict[str, Tensor]:
        """The original weights, by name."""
        return dict(self.weights)

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> AllegroExpert:
        """Inverse of `to_json` and `to_tensors`.

        Raises:
            InputError: a hyperparameter is not supported, or weights do not fit.
        """
        return cls(AllegroArchitecture.from_json(data), dict(tensors))

    def fold(self) -> FoldedExpert:
        """The folded form, float64."""
        return fold(self.architecture, self.weights)

    def folded(self, dtype: torch.dtype, device: torch.device | str) -> FoldedExpert:
        """The folded form for this arithmetic, made once."""
        key = dtype, str(device)
        if key not in self._folded:
            self._folded[key] = self.fold().to(dtype, device)
        return self._folded[key]

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.experts.base.Expert`; the network's arithmetic is in the vectors' dtype."""
        with torch.inference_mode(False), torch.enable_grad():
            folded = self.folded(edges.vectors.dtype, edges.vectors.device)
            vectors = edges.vectors.detach().clone().double().requires_grad_()
            energies = atomic_energies(
                folded, vectors, edges.centre, edges.centre_types, edges.neighbor_types
            )
            gradient = site_gradients(energies, vectors)
        return energies.detach(), gradient.to(edges.vectors.dtype)


def _check_weights(architecture: AllegroArchitecture, weights: Mapping[str, Tensor]) -> None:
    expected = weight_shapes(architecture)
    if set(expected) != set(weights):
        odd = ", ".join(sorted(set(expected) ^ set(weights)))
        raise InputError(f"the weights do not fit the architecture: {odd}")
    for name, shape in expected.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
            given = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise InputError(f"weight {name} is {given}, expected {shape} torch.float64")
        if not torch.isfinite(tensor).all():
            raise InputError(f"weight {name} holds NaN or infinity")
