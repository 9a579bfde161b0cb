"""Which tensor products an Allegro model contracts, and their Wigner 3j coefficients.

The irreducible representations are pairs (l, p) of degree and parity. The selection follows
Musaelian et al., Nat. Commun. 14, 579 (2023): a layer keeps what can be built from its input and
the environment and can still reach a scalar in the last layer. The order of irreps and paths is
that of the reference implementation, because the path weights are stored in that order.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

Irrep = tuple[int, int]


@dataclass(frozen=True)
class ProductPaths:
    """One layer's tensor product V_out[k] = Σ_{path, i, j} w[path] C[path, i, j, k] V_in[i] A[j].

    Attributes:
        dim_in, dim_environment, dim_out: numbers of components I, J, K.
        num_paths: P.
        i, j, k, path: (N,) int64 component and path indices of the nonzero coefficients.
        coefficient: (N,) float64, √(2 l_out + 1) times the real Wigner 3j symbol.
    """

    dim_in: int
    dim_environment: int
    dim_out: int
    num_paths: int
    i: Tensor
    j: Tensor
    k: Tensor
    path: Tensor
    coefficient: Tensor


@functools.cache
def product_paths(l_max: int, parity: bool, num_layers: int) -> tuple[ProductPaths, ...]:
    """Tensor products of all layers, first to last."""
    environment = [(degree, (-1) ** degree) for degree in range(l_max + 1)]
    stages = _stages(environment, l_max, parity, num_layers)
    return tuple(
        _paths(irreps_in, environment, irreps_out)
        for irreps_in, irreps_out in itertools.pairwise(stages)
    )


def _stages(
    environment: list[Irrep], l_max: int, parity: bool, num_layers: int
) -> list[list[Irrep]]:
    """Irreps of the tensor track before the first layer and after each."""
    both = [(degree, p) for degree in range(l_max + 1) for p in (1, -1)]
    allowed = both if parity else environment
    stages = [environment]
    for layer in range(num_layers):
        wanted = [(0, 1)] if layer == num_layers - 1 else allowed
        reachable = [ir for ir in wanted if _reaches(stages[-1], environment, [ir])]
        stages.append(reachable)
    for layer in range(num_layers - 1, -1, -1):
        stages[layer] = [
            ir for ir in stages[layer] if _reaches([ir], environment, stages[layer + 1])
        ]
    return stages


def _couples(a: Irrep, b: Irrep, c: Irrep) -> bool:
    return a[1] * b[1] == c[1] and abs(a[0] - b[0]) <= c[0] <= a[0] + b[0]


def _reaches(left: list[Irrep], right: list[Irrep], targets: list[Irrep]) -> bool:
    return any(_couples(a, b, c) for a in left for b in right for c in targets)


def _paths(
    irreps_in: list[Irrep], environment: list[Irrep], irreps_out: list[Irrep]
) -> ProductPaths:
    indices: list[Tensor] = []
    path_of: list[Tensor] = []
    values: list[Tensor] = []
    num_paths = 0
    for out_position, c in enumerate(irreps_out):
        for in_position, a in enumerate(irreps_in):
            for env_position, b in enumerate(environment):
                if not _couples(a, b, c):
                    continue
                w3j = wigner_3j(a[0], b[0], c[0])
                nonzero = w3j.nonzero()
                values.append(w3j[tuple(nonzero.T)] * math.sqrt(2 * c[0] + 1))
                offset = torch.tensor(
                    [
                        _offset(irreps_in, in_position),
                        _offset(environment, env_position),
                        _offset(irreps_out, out_position),
                    ]
                )
                indices.append(nonzero + offset)
                path_of.append(torch.full((len(nonzero),), num_paths))
                num_paths += 1
    index = torch.cat(indices)
    return ProductPaths(
        dim_in=_offset(irreps_in, len(irreps_in)),
        dim_environment=_offset(environment, len(environment)),
        dim_out=_offset(irreps_out, len(irreps_out)),
        num_paths=num_paths,
        i=index[:, 0].contiguous(),
        j=index[:, 1].contiguous(),
        k=index[:, 2].contiguous(),
        path=torch.cat(path_of),
        coefficient=torch.cat(values),
    )


def _offset(irreps: list[Irrep], position: int) -> int:
    return sum(2 * degree + 1 for degree, _ in irreps[:position])


@functools.cache
def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """Real Wigner 3j symbols, (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) float64, of Frobenius norm one.

    Clebsch-Gordan coefficients (Racah's formula, in exact fractions) taken from complex to real
    spherical harmonics; signs and order of components as in e3nn.
    """
    clebsch_gordan = torch.zeros(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                value = _clebsch_gordan(l1, m1, l2, m2, l3, m1 + m2)
                clebsch_gordan[l1 + m1, l2 + m2, l3 + m1 + m2] = value
    real = torch.einsum(
        "ai,bj,ck,abc->ijk",
        _real_to_complex(l1),
        _real_to_complex(l2),
        _real_to_complex(l3).conj(),
        clebsch_gordan,
    ).real
    real = torch.where(real.abs() < 1e-14, 0.0, real)
    return real / real.norm()


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j3: int, m3: int) -> float:
    """⟨j1 m1 j2 m2 | j3 m3⟩ by Racah's formula; the square is an exact fraction."""
    f = math.factorial
    prefactor = Fraction(
        (2 * j3 + 1)
        * f(j3 + j1 - j2)
        * f(j3 - j1 + j2)
        * f(j1 + j2 - j3)
        * f(j3 + m3)
        * f(j3 - m3)
        * f(j1 - m1)
        * f(j1 + m1)
        * f(j2 - m2)
        * f(j2 + m2),
        f(j1 + j2 + j3 + 1),
    )
    total = Fraction(0)
    first = max(0, j2 - j3 - m1, j1 - j3 + m2)
    last = min(j1 + j2 - j3, j1 - m1, j2 + m2)
    for k in range(first, last + 1):
        denominator = (
            f(k)
            * f(j1 + j2 - j3 - k)
            * f(j1 - m1 - k)
            * f(j2 + m2 - k)
            * f(j3 - j2 + m1 + k)
            * f(j3 - j1 - m2 + k)
        )
        total += Fraction((-1) ** k, denominator)
    return math.copysign(math.sqrt(prefactor * total * total), total)


def _real_to_complex(degree: int) -> Tensor:
    """(2 l + 1, 2 l + 1) complex128: columns are real, rows complex spherical harmonics."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    root = 1 / math.sqrt(2)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        matrix[degree - m, degree + m] = root
        matrix[degree - m, degree - m] = -1j * root
        matrix[degree + m, degree + m] = sign * root
        matrix[degree + m, degree - m] = 1j * sign * root
    return torch.from_numpy((-1j) ** degree * matrix)
