"""The kind `eam`: an embedded-atom potential from a table, with what adjusts it to another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Edges
from duetto.kernels.eam import FEWEST_POINTS, EamTables, eam_site_energies

STYLES = ("eam/alloy", "eam/fs")
_NUMBERS = ("table_cutoff", "drho", "dr", "distance_scale", "energy_scale")


@dataclass(frozen=True)
class EamExpert:
    """An embedded-atom potential.

    E_i = energy_scale · E_i^table(distance_scale · r) + shift_i: with distance_scale = a^table/a
    the crystal's lattice constant becomes a, with energy_scale its bulk modulus another.

    Attributes:
        style: "eam/alloy" or "eam/fs".
        species: symbols in the order of the tables.
        table_cutoff: Å of the table.
        drho: spacing in ρ.
        dr: spacing in r, Å of the table.
        embedding: (T, M) float64, F(ρ), eV of the table.
        density: (T, K), or for eam/fs (T, T, K) by the element that gives and the one that feels.
        product: (T (T + 1) / 2, K) r·φ of the pairs i ≥ j, eV Å of the table.
        distance_scale: Å of the table per Å.
        energy_scale: eV per eV of the table.
        shift: (T,) eV.
    """

    kind: ClassVar[str] = "eam"

    style: str
    species: tuple[str, ...]
    table_cutoff: float
    drho: float
    dr: float
    embedding: Tensor
    density: Tensor
    product: Tensor
    distance_scale: float = 1.0
    energy_scale: float = 1.0
    shift: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def __post_init__(self) -> None:
        """Check that everything fits; an empty shift becomes zeros."""
        if not self.shift.numel():
            object.__setattr__(self, "shift", torch.zeros(len(self.species), dtype=torch.float64))
        if self.style not in STYLES:
            raise InputError(f"style {self.style!r} is not one of {', '.join(STYLES)}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; allowed: a number above 0")
        self._check_tables()

    def _check_tables(self) -> None:
        T = len(self.species)
        K, M = self.product.shape[-1:], self.embedding.shape[-1:]
        expected = {
            "embedding": (T, *M),
            "density": (T, *K) if self.style == "eam/alloy" else (T, T, *K),
            "product": (T * (T + 1) // 2, *K),
            "shift": (T,),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
                given = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise InputError(f"table {name} is {given}, expected {shape} torch.float64")
            if not torch.isfinite(tensor).all():
                raise InputError(f"table {name} holds NaN or infinity")
        if min(*K, *M) < FEWEST_POINTS or T == 0:
            raise InputError(f"tables need an element and at least {FEWEST_POINTS} points")

    def cutoff(self, centre: str, neighbor: str) -> float:
        """Å; the same for all species."""
        return self.table_cutoff / self.distance_scale

    def adjusted(self, distance_scale: float, energy_scale: float, shift: Tensor) -> Self:
        """The same tables with other scales and shifts (T,)."""
        return replace(self, distance_scale=distance_scale, energy_scale=energy_scale, shift=shift)

    def to_json(self) -> dict[str, Any]:
        """Everything but the tables, plain JSON."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {"style": self.style, "species": list(self.species), **numbers}

    def to_tensors(self) -> dict[str, Tensor]:
        """The tables, float64."""
        names = ("embedding", "density", "product", "shift")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The expert that `to_json` and `to_tensors` describe.

        Raises:
            InputError: something is missing or does not fit.
        """
        odd = {"embedding", "density", "product", "shift"} ^ set(tensors)
        if odd:
            raise InputError(f"the tables of an eam expert do not fit: {', '.join(sorted(odd))}")
        try:
            species = tuple(str(symbol) for symbol in data["species"])
            fields: dict[str, Any] = {name: float(data[name]) for name in _NUMBERS} | dict(tensors)
            return cls(style=str(data["style"]), species=species, **fields)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the description of an eam expert does not fit: {error!r}") from error

    @cached_property
    def tables(self) -> EamTables:
        """The tables by species, on the CPU."""
        T, K = len(self.species), self.product.shape[-1]
        i, j = torch.tril_indices(T, T)
        product = torch.empty(T, T, K, dtype=torch.float64)
        product[i, j] = product[j, i] = self.product
        density = self.density if self.style == "eam/fs" else self.density[:, None]
        return EamTables(
            self.embedding,
            density.expand(T, T, K),
            product,
            self.drho,
            self.dr,
            self.distance_scale,
            self.energy_scale,
            self.shift,
        )

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.experts.base.Expert`."""
        counts = edges.first.diff()
        row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        vectors = edges.vectors.detach().double().requires_grad_()
        with torch.enable_grad():
            energies = eam_site_energies(
                self.tables.to(vectors.device),
                vectors,
                row,
                edges.centre_types,
                edges.neighbor_types,
            )
            (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        return energies.detach(), gradient
