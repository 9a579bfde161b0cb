"""The rotation-invariant products of moments that a linear expert sums.

With channels v = (species, n) of moments A_v,lm they are, for each type of centre,

    A_v,00                                                     two-body
    Σ_m A_v,lm A_v',lm / (2l + 1)                              three-body, v ≤ v'
    Σ w3j(l1 m1, l2 m2, l3 m3) A_v1,l1m1 A_v2,l2m2 A_v3,l3m3   four-body, v ≤ v' where l = l'

The degrees of a product have an even sum, so that it is a true scalar, and its real Wigner 3j
symbols are symmetric, so that these are all there are.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from duetto.experts.allegro.paths import wigner_3j
from duetto.experts.linear.description import LinearDescription
from duetto.kernels.linear import MomentLayout

Monomial = tuple[int, ...]
Channel = tuple[int, int]


@dataclass(frozen=True)
class Basis:
    """The products as monomials in the moments, by body order.

    Attributes:
        names: (K,) what each product is.
        singles: moment a of each two-body product; these are products 0 … n₂ − 1.
        pairs: (P, 2) moments a ≤ b that occur in products of two or as the first two of three.
        pair_matrix: (K, P) float64, product k holds pair_matrix[k, p] A_a A_b.
        triple_first: (P + 1,) where the third factors of each pair begin in `triple_c`.
        triple_c: (Q,) int64.
        triple_matrix: (K, Q) float64.
    """

    names: tuple[str, ...]
    singles: Tensor
    pairs: Tensor
    pair_matrix: Tensor
    triple_first: Tensor
    triple_c: Tensor
    triple_matrix: Tensor

    @property
    def size(self) -> int:
        """Number of products, K."""
        return len(self.names)


@functools.cache
def basis_of(description: LinearDescription) -> Basis:
    """All products of a description, in a fixed order: two-body, three-body, four-body."""
    products = [
        *_two_body(description.layout),
        *_three_body(description),
        *_four_body(description),
    ]
    names = tuple(name for name, _ in products)
    by_degree: dict[int, dict[Monomial, list[tuple[int, float]]]] = {
        n: defaultdict(list) for n in (1, 2, 3)
    }
    for k, (_, monomials) in enumerate(products):
        for monomial, value in monomials.items():
            by_degree[len(monomial)][monomial].append((k, value))
    singles = torch.tensor([monomial[0] for monomial in by_degree[1]])
    twos, threes = by_degree[2], by_degree[3]
    pairs = sorted(set(twos) | {monomial[:2] for monomial in threes})
    triples = sorted(threes)
    row = {pair: p for p, pair in enumerate(pairs)}
    counts = torch.bincount(
        torch.tensor([row[t[:2]] for t in triples], dtype=torch.int64), minlength=len(pairs)
    )
    return Basis(
        names=names,
        singles=singles,
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        pair_matrix=_matrix([twos.get(pair, []) for pair in pairs], len(names)),
        triple_first=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        triple_c=torch.tensor([t[2] for t in triples], dtype=torch.int64),
        triple_matrix=_matrix([threes[t] for t in triples], len(names)),
    )


def _matrix(columns: list[list[tuple[int, float]]], rows: int) -> Tensor:
    matrix = torch.zeros(rows, len(columns), dtype=torch.float64)
    for column, entries in enumerate(columns):
        for k, value in entries:
            matrix[k, column] += value
    return matrix


def _channels(layout: MomentLayout, count: int) -> list[Channel]:
    return list(itertools.product(range(layout.num_species), range(count)))


def _called(degrees: tuple[int, ...], channels: tuple[Channel, ...]) -> str:
    return " ".join(
        f"{degree}:{species}.{n}" for degree, (species, n) in zip(degrees, channels, strict=True)
    )


def _two_body(layout: MomentLayout) -> list[tuple[str, dict[Monomial, float]]]:
    return [
        (_called((0,), (channel,)), {(layout.index(*channel, 0, 0),): 1.0})
        for channel in _channels(layout, layout.radials[0])
    ]


def _three_body(d: LinearDescription) -> list[tuple[str, dict[Monomial, float]]]:
    products = []
    for degree, count in enumerate(d.three_body):
        channels = _channels(d.layout, count)
        for v, w in itertools.combinations_with_replacement(channels, 2):
            monomials: dict[Monomial, float] = defaultdict(float)
            for m in range(2 * degree + 1):
                a, b = d.layout.index(*v, degree, m), d.layout.index(*w, degree, m)
                monomials[_sorted(a, b)] += 1.0 / (2 * degree + 1)
            products.append((_called((degree, degree), (v, w)), monomials))
    return products


def _four_body(d: LinearDescription) -> list[tuple[str, dict[Monomial, float]]]:
    products = []
    for l1, l2, l3, count in d.four_body:
        w3j = wigner_3j(l1, l2, l3)
        nonzero = w3j.nonzero().tolist()
        channels = _channels(d.layout, count)
        for v1, v2, v3 in itertools.product(channels, repeat=3):
            if (l1 == l2 and v1 > v2) or (l2 == l3 and v2 > v3):
                continue
            monomials: dict[Monomial, float] = defaultdict(float)
            for m1, m2, m3 in nonzero:
                place = _sorted(
                    d.layout.index(*v1, l1, m1),
                    d.layout.index(*v2, l2, m2),
                    d.layout.index(*v3, l3, m3),
                )
                monomials[place] += float(w3j[m1, m2, m3])
            products.append((_called((l1, l2, l3), (v1, v2, v3)), monomials))
    return products


def _sorted(*moments: int) -> Monomial:
    return tuple(sorted(moments))


def product_values(basis: Basis, moments: Tensor) -> Tensor:
    """(C, M) moments to the (C, K) values of the products."""
    a, b = basis.pairs.unbind(1)
    pairs = moments[:, a] * moments[:, b]
    values = pairs @ basis.pair_matrix.T
    if len(basis.triple_c):
        first = torch.repeat_interleave(pairs, basis.triple_first.diff(), dim=1)
        values = values + (first * moments[:, basis.triple_c]) @ basis.triple_matrix.T
    singles = torch.zeros_like(values).index_copy(
        1, torch.arange(len(basis.singles)), moments[:, basis.singles]
    )
    return values + singles
