"""The linear form of an atomic-cluster-expansion expert and its plain-torch evaluation.

The energy of a centre i of type t is a cubic polynomial in the moments of its neighbours' density,

    A_i,snlm = Σ_{j of species s} R_n(r_ij) Y_lm(r_ij)        moments, per centre
    Q_p      = c2_p + Σ_c c3_pc A_c                           per pair p = (a, b) of moments
    E_i      = E0_t + Σ_a c1_a A_a + Σ_p A_a A_b Q_p          (+ ZBL)

where the coefficients c1, c2, c3 of rotation-invariant products are linear in those of a fit
(Drautz, Phys. Rev. B 99, 014104 (2019)). The radial functions are

    R_n(r) = (1 − x)³ T_n(y),   x = s / r_c,   y = (2 x − x_in − 1) / (1 − x_in)

with Chebyshev polynomials T_n, smooth to zero at the cutoff r_c with two continuous derivatives,
and s the distance, compressed where no fit has data: s = r above the radius `inner`, constant
below `inner` − COMPRESSION, twice continuously differentiable between. So moments stay bounded
where atoms come too close, and a ZBL term decides there.

The evaluation below is the reference for every kernel and is differentiable to any order.

Letters: C centres, E edges, T types, S species with radial functions, R = l_max + 1 degrees,
M moments, P pairs, Q triples.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from duetto.kernels.folded import ZBLPair, zbl_edge_energies
from duetto.kernels.harmonics import spherical_harmonics

COMPRESSION = 0.5
"""Å over which distances below `inner` are compressed to a constant."""


@dataclass(frozen=True)
class MomentLayout:
    """Where the moments of one centre stand: by species, degree, radial function, component.

    Attributes:
        radials: (R,) number of radial functions of each degree, 0 … l_max; each at least 1.
        num_species: S, species of neighbours that have moments.
    """

    radials: tuple[int, ...]
    num_species: int

    @property
    def l_max(self) -> int:
        """Highest degree."""
        return len(self.radials) - 1

    @property
    def size(self) -> int:
        """Number of radial functions, B."""
        return max(self.radials)

    @property
    def blocks(self) -> tuple[int, ...]:
        """(R + 1,) where each degree's moments begin among those of one species."""
        sizes = [count * (2 * degree + 1) for degree, count in enumerate(self.radials)]
        return tuple(accumulate(sizes, initial=0))

    @property
    def num_moments(self) -> int:
        """Number of moments, M."""
        return self.num_species * self.blocks[-1]

    def index(self, species: int, n: int, degree: int, m: int) -> int:
        """Place of a moment; m from 0 to 2 · degree."""
        return species * self.blocks[-1] + self.blocks[degree] + n * (2 * degree + 1) + m

    @functools.cached_property
    def scalar(self) -> tuple[int, ...]:
        """Places of the moments of degree 0."""
        return tuple(
            self.index(s, n, 0, 0) for s in range(self.num_species) for n in range(self.radials[0])
        )


@dataclass(frozen=True)
class Wall:
    """ZBL repulsion that ends at radii of its own.

    Attributes:
        pair: atomic numbers and exponent of the cutoff.
        radii: (T, T) Å, where it ends.
    """

    pair: ZBLPair
    radii: Tensor


@dataclass(frozen=True)
class LinearForm:
    """Weights of one linear expert as polynomials in the moments, float64.

    Attributes:
        layout: of the moments.
        cutoffs: (T, T) Å, by centre and neighbour type.
        inner: (T, T) Å, below which distances are compressed.
        species_of: (T,) int64, which species' moments a neighbour of that type adds to; −1: none.
        shift: (T,) energy of an isolated atom, eV.
        c1: (T, M) coefficients of single moments, eV.
        pair_a, pair_b: (P,) int64, factors of each pair.
        c2: (T, P) coefficients of pairs, eV.
        triple_first: (P + 1,) int64, where the third factors of each pair begin.
        triple_c: (Q,) int64, third factors.
        c3: (T, Q) coefficients of triples, eV.
        wall: the ZBL term, or None.
    """

    layout: MomentLayout
    cutoffs: Tensor
    inner: Tensor
    species_of: Tensor
    shift: Tensor
    c1: Tensor
    pair_a: Tensor
    pair_b: Tensor
    c2: Tensor
    triple_first: Tensor
    triple_c: Tensor
    c3: Tensor
    wall: Wall | None

    @property
    def num_types(self) -> int:
        """Number of types, T."""
        return self.shift.numel()

    def to(self, device: torch.device | str) -> LinearForm:
        """Copy with all tensors on `device`."""
        changes: dict[str, Any] = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        wall = self.wall
        if wall is not None:
            numbers = replace(wall.pair, atomic_numbers=wall.pair.atomic_numbers.to(device))
            wall = Wall(numbers, wall.radii.to(device))
        return replace(self, wall=wall, **changes)


def gradient_entries(form: LinearForm, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the polynomial's part of degree 2 or 3 by each moment, as sparse rows.

    ∂E/∂A_a = … + Σ_k value_k Π factors_k over the entries k of row a.

    Returns:
        Rows (N,) int64 in ascending order, factors (N, order − 1) int64 and values (T, N) float64;
        entries that are zero for every type are left out.
    """
    pairs = list(zip(form.pair_a.tolist(), form.pair_b.tolist(), strict=True))
    monomials, table = pairs, form.c2
    if order == 3:
        firsts = torch.repeat_interleave(torch.arange(len(pairs)), form.triple_first.diff())
        thirds = zip(firsts.tolist(), form.triple_c.tolist(), strict=True)
        monomials, table = [(*pairs[p], c) for p, c in thirds], form.c3
    found: dict[tuple[int, ...], Tensor] = {}
    for place, monomial in enumerate(monomials):
        if not bool(table[:, place].any()):
            continue
        for factor, power in Counter(monomial).items():
            rest = list(monomial)
            rest.remove(factor)
            key = (factor, *sorted(rest))
            found[key] = found.get(key, 0.0) + power * table[:, place]
    keys = sorted(found)
    entries = torch.tensor(keys, dtype=torch.int64).reshape(-1, order)
    values = torch.stack([found[key] for key in keys], dim=1) if keys else table[:, :0]
    return entries[:, 0].contiguous(), entries[:, 1:].contiguous(), values


def compressed(length: Tensor, inner: Tensor) -> Tensor:
    """Distance s(r): r above `inner`, constant below `inner` − COMPRESSION, C² between.

    s = inner − w h(t), t = (inner − r) / w, h = t − t³ + t⁴ / 2, whose slope 1 − 3 t² + 2 t³ falls
    from 1 to 0.
    """
    t = ((inner - length) / COMPRESSION).clamp(0.0, 1.0)
    h = t * (1.0 - t * t * (1.0 - 0.5 * t))
    return torch.where(length > inner, length, inner - COMPRESSION * h)


def radial_functions(length: Tensor, cutoff: Tensor, inner: Tensor, size: int) -> Tensor:
    """R_n(r), (E, size); zero with two derivatives at the cutoff.

    Args:
        length: (E,) Å.
        cutoff: (E,) Å.
        inner: (E,) Å, see `compressed`.
        size: number of functions.
    """
    x = compressed(length, inner) / cutoff
    lowest = (inner - 0.5 * COMPRESSION) / cutoff
    y = (2.0 * x - lowest - 1.0) / (1.0 - lowest)
    envelope = (1.0 - x).clamp(min=0.0) ** 3
    functions = [torch.ones_like(y), y]
    for _ in range(2, size):
        functions.append(2.0 * y * functions[-1] - functions[-2])
    return envelope[:, None] * torch.stack(functions[:size], dim=1)


def edge_moments(
    form: LinearForm, vectors: Tensor, types: Tensor, neighbor_types: Tensor
) -> Tensor:
    """What each edge adds to its centre's moments, (E, M).

    Args:
        form: weights.
        vectors: (E, 3) r_j − r_i, Å.
        types: (E,) int64, the centre's type.
        neighbor_types: (E,) int64.
    """
    layout = form.layout
    length = vectors.norm(dim=1)
    cutoff, inner = form.cutoffs[types, neighbor_types], form.inner[types, neighbor_types]
    radial = radial_functions(length, cutoff, inner, layout.size).to(vectors.dtype)
    harmonics = spherical_harmonics(vectors / length[:, None], layout.l_max)
    blocks = [
        (radial[:, :count, None] * harmonics[:, None, degree**2 : (degree + 1) ** 2]).flatten(1)
        for degree, count in enumerate(layout.radials)
    ]
    values = torch.cat(blocks, dim=1)
    species = form.species_of[neighbor_types]
    belongs = species[:, None] == torch.arange(layout.num_species, device=vectors.device)
    return (belongs[:, :, None] * values[:, None, :]).flatten(1)


def centre_energies(form: LinearForm, moments: Tensor, centre_types: Tensor) -> Tensor:
    """E0 + Σ c1 A + Σ A_a A_b (c2 + Σ c3 A_c): the polynomial, (C,) eV, of moments (C, M)."""
    t = centre_types
    counts = form.triple_first.diff()
    pair_of = torch.repeat_interleave(torch.arange(len(counts), device=t.device), counts)
    thirds = form.c3[t].to(moments.dtype) * moments[:, form.triple_c]
    inner = form.c2[t].to(moments.dtype).index_add(1, pair_of, thirds)
    pairs = (moments[:, form.pair_a] * moments[:, form.pair_b] * inner).sum(dim=1)
    return form.shift[t] + (form.c1[t] * moments).sum(dim=1) + pairs


def atomic_energies(
    form: LinearForm,
    vectors: Tensor,
    centre: Tensor,
    centre_types: Tensor,
    neighbor_types: Tensor,
) -> Tensor:
    """Energies of centre atoms from their edges, (C,) eV.

    Edges beyond the cutoff of their pair of types must have been left out.

    Args:
        form: weights.
        vectors: (E, 3) r_j − r_i, Å.
        centre: (E,) int64, index of the centre in `centre_types`.
        centre_types: (C,) int64.
        neighbor_types: (E,) int64.
    """
    types = centre_types[centre]
    values = edge_moments(form, vectors, types, neighbor_types)
    moments = values.new_zeros(len(centre_types), form.layout.num_moments)
    moments = moments.index_add(0, centre, values)
    energies = centre_energies(form, moments, centre_types)
    if form.wall is not None:
        x = vectors.norm(dim=1) / form.wall.radii[types, neighbor_types]
        length = vectors.norm(dim=1)
        repulsion = zbl_edge_energies(form.wall.pair, length, x, types, neighbor_types)
        energies = energies.index_add(0, centre, repulsion)
    return energies
