"""Floating-point operations and bytes of the CPU stages: what each has to do, by counting.

Multiplications and additions count one each; exponentials, divisions and roots count what their
series do or one. Bytes are those of the arrays that a stage reads and writes, each once; weights,
which stay in the first-level cache, are left out. Backward stages include the forward values that
they read.

Letters as in `duetto.kernels.folded`. Work per edge, per centre and per slot of the list (a slot
is an edge or a pair within the skin) is kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from duetto.kernels.cpu.expert import CPUExpert
from duetto.kernels.cpu.linear import CPULinear
from duetto.kernels.linear import gradient_entries

_ACTIVATION = 31
"""Operations of one SiLU with its derivative: an exponential of degree 7, a division, products."""
_INDEX_BYTES = 8


@dataclass(frozen=True)
class Amount:
    """Operations and bytes.

    Attributes:
        flops: all of them.
        products: those in matrix products.
        bytes: read and written.
    """

    flops: float = 0.0
    products: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.flops + other.flops, self.products + other.products, self.bytes + other.bytes
        )

    def __mul__(self, factor: float) -> Amount:
        return Amount(self.flops * factor, self.products * factor, self.bytes * factor)


@dataclass(frozen=True)
class StageCost:
    """What one stage does.

    Attributes:
        edge, centre, slot: per edge, per centre, per slot of the neighbour list.
        streams: whether its arrays are of the whole structure and come from main memory; the
            other stages work on a chunk that stays in cache.
    """

    edge: Amount = Amount()
    centre: Amount = Amount()
    slot: Amount = Amount()
    streams: bool = False

    def total(self, edges: int, centres: int, slots: int) -> Amount:
        """For so many of each."""
        return self.edge * edges + self.centre * centres + self.slot * slots


def stage_costs(expert: object) -> dict[str, StageCost]:
    """Costs of all stages of an expert's kernel, by the names that the stages report.

    Kernels whose operations nobody has counted have none, and no floor.
    """
    if isinstance(expert, CPULinear):
        return _linear(expert)
    if not isinstance(expert, CPUExpert):
        return {}
    costs = _Costs(expert)
    stages = costs.embedding() | costs.readout() | costs.both_ends()
    for layer in range(expert.L):
        stages |= costs.layer(layer)
    return stages


def _linear(expert: CPULinear) -> dict[str, StageCost]:
    """A linear expert's one pass, and the same from edges that others have gathered."""
    layout, size = expert.form.layout, expert.dtype.itemsize
    D, M = len(layout.radials) ** 2, layout.blocks[-1]
    quadratic, cubic = (gradient_entries(expert.form, order)[1] for order in (2, 3))
    products = len(torch.unique(cubic, dim=0))  # of pairs of moments, each made once
    distance, compression, envelope = 11, 15, 12
    radial, harmonics = 10 * layout.size, {1: 0, 4: 3, 9: 24, 16: 62}[D]
    adjoint = 4 * M + 2 * D + {1: 0, 4: 25, 9: 60, 16: 130}[D] + 12
    edge = distance + compression + envelope + radial + harmonics + 2 * M + adjoint
    centre = 2 * len(quadratic) + 2 * len(cubic) + products + 4 * layout.num_moments
    scatter, position, force, slot = 6, 24, 48, 8
    return {
        "linear/one_pass": StageCost(
            Amount(edge + scatter + 6, bytes=slot + position + force),
            Amount(centre + 12, bytes=position + force + 8),
        ),
        "linear/energy_and_gradient": StageCost(
            Amount(edge, bytes=6 * size + _INDEX_BYTES), Amount(centre, bytes=8)
        ),
    }


class _Costs:
    def __init__(self, expert: CPUExpert) -> None:
        self.expert = expert
        self.size = expert.dtype.itemsize
        self.D, self.R, self.U, self.B = expert.D, expert.R, expert.U, expert.B

    def _amount(self, flops: float, numbers: float, extra_bytes: float = 0.0) -> Amount:
        return Amount(flops, 0.0, self.size * numbers + extra_bytes)

    def _product(self, rows: int, columns: int, accumulate: bool = False) -> Amount:
        """One row of a matrix product, with its input and output."""
        flops = 2.0 * rows * columns
        return Amount(flops, flops, self.size * (rows + columns * (2 if accumulate else 1)))

    def _dense(self, inner: int, width: int) -> Amount:
        """One row of a layer: x in, h and slope out."""
        flops = 2.0 * inner * width
        return Amount(flops + _ACTIVATION * width, flops, self.size * (inner + 2.0 * width))

    def _dense_adjoint(self, width: int, inner: int, accumulate: bool = False) -> Amount:
        """gx from gh and slope: the columns of gh are read and set to zero."""
        return self._product(width, inner, accumulate) + self._amount(width, 2 * width)

    def _inner_layers(self, widths: list[int]) -> Amount:
        """A network's layers after the first."""
        return sum((self._dense(*pair) for pair in pairwise(widths)), Amount())

    def _inner_layers_adjoint(self, widths: list[int]) -> Amount:
        return sum((self._dense_adjoint(w, lower) for lower, w in pairwise(widths)), Amount())

    def embedding(self) -> dict[str, StageCost]:
        e, D, B = self.expert, self.D, self.B
        width, widths = e.K1.shape[2], e.two_body_layers.widths
        harmonics = {4: 7, 9: 24, 16: 62}[D]
        weights = self.R * self.U
        return {
            "embedding/geometry": StageCost(
                self._amount(6 + harmonics + 60 + 15 * B, 3 + 3 + D + 2 * B, _INDEX_BYTES)
            ),
            "embedding/two_body": StageCost(
                self._amount((2 * B + _ACTIVATION) * width, B + 2 * width, _INDEX_BYTES)
                + self._inner_layers(widths)
            ),
            "embedding/tensor_weights": StageCost(self._product(e.hidden[0], weights)),
            "embedding/tensor_weights_adjoint": StageCost(
                self._product(weights, e.hidden[0], accumulate=True)
            ),
            "embedding/two_body_adjoint": StageCost(
                self._amount((2 * B + 3) * width, B + 2 * width + 1, _INDEX_BYTES)
                + self._inner_layers_adjoint(widths)
            ),
        }

    def layer(self, n: int) -> dict[str, StageCost]:
        e, D, R, U = self.expert, self.D, self.R, self.U
        hidden, K = e.hidden[n], e.column[n + 1] + U
        latent, width = e.latent_layers[n].widths, int(e.W[n].matrix.shape[1])
        terms = [
            len((e.scalar_rows[t] if t == n else e.products[t]).terms[0]) for t in range(n + 1)
        ]
        environment = self._product(hidden, U) * D
        functional = self._amount(4 * sum(terms) * U, (n + 1) * 3 * D * U)
        return {
            f"layer {n}/moments": StageCost(
                self._amount(2 * D * hidden, hidden + D), self._amount(D * hidden, D * hidden)
            ),
            f"layer {n}/environment": StageCost(centre=environment),
            f"layer {n}/contract": StageCost(centre=functional),
            f"layer {n}/scalars": StageCost(
                self._amount(2 * (D + R) * U, D + R * U + U), self._amount(0, D * U)
            ),
            f"layer {n}/latent": StageCost(self._dense(K, width) + self._inner_layers(latent)),
            f"layer {n}/latent_adjoint": StageCost(
                self._inner_layers_adjoint(latent) + self._dense_adjoint(width, K, accumulate=True)
            ),
            f"layer {n}/scalars_adjoint": StageCost(
                self._amount((6 * D + 3 * R) * U, U + 3 * R * U + 3 * D),
                self._amount(0, 3 * D * U),
            ),
            f"layer {n}/contract_adjoint": StageCost(
                centre=self._amount(6 * sum(terms) * U, (n + 1) * 6 * D * U)
            ),
            f"layer {n}/environment_adjoint": StageCost(centre=environment),
            f"layer {n}/moments_adjoint": StageCost(
                self._amount(4 * D * hidden, 3 * hidden + 3 * D),
                self._amount(D * hidden, D * hidden),
            ),
        }

    def readout(self) -> dict[str, StageCost]:
        e = self.expert
        inner, width = e.readout_matrix.matrix.shape
        widths = e.readout_layers.widths
        return {
            "readout/readout": StageCost(
                self._dense(inner, width)
                + self._inner_layers(widths)
                + self._amount(3 * widths[-1], 2 * widths[-1])
            ),
            "readout/readout_adjoint": StageCost(
                self._inner_layers_adjoint(widths) + self._dense_adjoint(width, inner),
                self._amount(0, e.L * self.D * self.U),
            ),
        }

    def both_ends(self) -> dict[str, StageCost]:
        harmonics = {4: 25, 9: 60, 16: 130}[self.D]
        floats, pairs = 3 * self.size, 4 + _INDEX_BYTES
        return {
            "neighbours/gather": StageCost(
                self._amount(0, 3, pairs), slot=Amount(flops=8, bytes=4 + 6 + 24), streams=True
            ),
            "scatter/edge_gradients": StageCost(self._amount(harmonics, self.D + 3 + 1 + 1 + 3)),
            "scatter/virial": StageCost(self._amount(18, 18)),
            "scatter/forces": StageCost(
                Amount(flops=6, bytes=floats + 4 + 48), centre=Amount(bytes=48), streams=True
            ),
        }
