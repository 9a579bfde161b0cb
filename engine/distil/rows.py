"""Rows of the least-squares problem: the products and their derivatives for one structure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from duetto.experts.linear.basis import Basis, basis_of, product_values
from duetto.experts.linear.description import LinearDescription
from duetto.experts.linear.expert import LinearExpert
from duetto.kernels.linear import LinearForm, edge_moments
from duetto.kernels.padding import Padding


@dataclass(frozen=True)
class Rows:
    """What is linear in the unknowns, which are coefficients and shift of each type: X columns.

    Attributes:
        sites: (A, X) energies of atoms.
        forces: (3 A, X) −∂E/∂R.
        virial: (9, X) −∂E/∂ε.
        scalars: (A, V) moments of degree 0.
    """

    sites: Tensor
    forces: Tensor
    virial: Tensor
    scalars: Tensor


@cache
def empty_expert(description: LinearDescription) -> LinearExpert:
    """An expert of this shape without energy but its wall."""
    T, V = len(description.species), len(description.layout.scalar)
    K = basis_of(description).size
    return LinearExpert(
        description,
        torch.zeros(T, dtype=torch.float64),
        torch.zeros(T, K, dtype=torch.float64),
        torch.full((T, 2, V), torch.nan, dtype=torch.float64),
    )


def num_unknowns(description: LinearDescription) -> int:
    """Number of columns, X."""
    return len(description.species) * (basis_of(description).size + 1)


def rows_of(
    description: LinearDescription, types: Tensor, i: Tensor, j: Tensor, vectors: Tensor
) -> Rows:
    """The rows of a structure.

    Args:
        description: shape of the expert.
        types: (A,) int64.
        i, j: (E,) int64, centre and neighbor of every edge within the cutoffs.
        vectors: (E, 3) float64, r_j − r_i, Å.
    """
    form, basis = empty_expert(description).form(), basis_of(description)
    A, K, M = len(types), basis.size, description.layout.num_moments
    values, slopes = _edge_moments(form, vectors, types[i], types[j])
    moments = values.new_zeros(A, M).index_add_(0, i, values)
    products = product_values(basis, moments)
    jacobian = _jacobian(basis, moments)
    padding = Padding.of(i, A)
    stacked = padding.pad(slopes.flatten(1)).view(A * padding.width, 3, M)
    per_centre = stacked.view(A, padding.width * 3, M) @ jacobian.transpose(1, 2)
    gradient = per_centre.view(A * padding.width, 3, K)[padding.slot]
    T = len(description.species)
    sites = values.new_zeros(A, T, K + 1)
    sites[torch.arange(A), types, :K] = products
    sites[torch.arange(A), types, K] = 1.0
    forces = values.new_zeros(A, 3, T, K + 1)
    virial = values.new_zeros(3, 3, T, K + 1)
    for t in range(T):
        of_type = types[i] == t
        part = gradient[of_type]
        forces[:, :, t, :K].index_add_(0, i[of_type], part)
        forces[:, :, t, :K].index_add_(0, j[of_type], -part)
        virial[:, :, t, :K] = -torch.einsum("ex,eyk->xyk", vectors[of_type], part)
    return Rows(
        sites.flatten(1),
        forces.reshape(3 * A, -1),
        virial.reshape(9, -1),
        moments[:, list(description.layout.scalar)],
    )


def _edge_moments(
    form: LinearForm, vectors: Tensor, types: Tensor, neighbor_types: Tensor
) -> tuple[Tensor, Tensor]:
    """What edges add to the moments, (E, M), and the derivatives, (E, 3, M)."""

    def moments(v: Tensor) -> Tensor:
        return edge_moments(form, v, types, neighbor_types)

    columns = []
    for axis in range(3):
        direction = torch.zeros_like(vectors)
        direction[:, axis] = 1.0
        values, slope = torch.func.jvp(moments, (vectors,), (direction,))[:2]
        columns.append(slope)
    return values, torch.stack(columns, dim=1)


def _jacobian(basis: Basis, moments: Tensor) -> Tensor:
    """Derivatives (C, K, M) of the products by the moments (C, M)."""
    C, M = moments.shape
    flat = moments.new_zeros(C, basis.size * M)
    singles = torch.arange(len(basis.singles)) * M + basis.singles
    flat[:, singles] = 1.0
    k, p = basis.pair_matrix.nonzero(as_tuple=True)
    a, b = basis.pairs[p, 0], basis.pairs[p, 1]
    value = basis.pair_matrix[k, p]
    flat.index_add_(1, k * M + a, value * moments[:, b])
    flat.index_add_(1, k * M + b, value * moments[:, a])
    if len(basis.triple_c):
        k, q = basis.triple_matrix.nonzero(as_tuple=True)
        first = torch.repeat_interleave(basis.pairs, basis.triple_first.diff(), dim=0)
        a, b = first[q, 0], first[q, 1]
        third, value = basis.triple_c[q], basis.triple_matrix[k, q]
        flat.index_add_(1, k * M + a, value * moments[:, b] * moments[:, third])
        flat.index_add_(1, k * M + b, value * moments[:, a] * moments[:, third])
        flat.index_add_(1, k * M + third, value * moments[:, a] * moments[:, b])
    return flat.view(C, basis.size, M)
