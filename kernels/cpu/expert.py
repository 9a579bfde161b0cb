"""One expert on the CPU: energies and their adjoint for a chunk of centres, in cache.

The order of steps is that of the equations in `duetto.kernels.folded`, forward and then backward.
Hidden vectors lie side by side in one block, h_0 | h_1 | …, so that the sums over m of the folded
form are single matrix products; s_n stands where h_{n+1} will be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.kernels.cpu import edges, radial, stages
from duetto.kernels.cpu.dense import dense, dense_adjoint
from duetto.kernels.cpu.product import product
from duetto.kernels.folded import FoldedExpert
from duetto.kernels.radial import BesselBasis

Array = NDArray[Any]
FirstLayer = Callable[[Array, int, Array], None]


class Workspace:
    """Named scratch arrays that grow to the largest chunk met; one per thread."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._flat: dict[str, Array] = {}

    def __call__(self, name: str, *shape: int) -> Array:
        """Uninitialised memory; what an earlier call by this name gave is given again."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            # torch's memory begins where a vector register's does.
            flat = torch.empty(size + size // 4, dtype=self._dtype).numpy()
            self._flat[name] = flat
        return flat[:size].reshape(shape)


class Listener:
    """Is told what a thread works on and which stage it has just done; this one does not mind."""

    def begin(self, job: object) -> None:
        """The calling thread begins a chunk of `job`."""

    def done(self, stage: str) -> None:
        """The calling thread has done `stage`, written group/operation."""


@dataclass(frozen=True)
class Chunk:
    """Edges of consecutive centres of one expert.

    Attributes:
        rows: (n + 1,) int64, start of each centre's edges.
        pair: (E,) int64, centre type · T + neighbour type.
        types: (n,) int64, centre types.
        vectors: (E, 3) r_j − r_i, Å.
    """

    rows: Array
    pair: Array
    types: Array
    vectors: Array

    @property
    def num_edges(self) -> int:
        """Number of edges, E."""
        return int(self.pair.shape[0])


class _HiddenLayers:
    """The nonlinear layers of one network but for the product that the first begins with."""

    def __init__(
        self, name: str, width: int, inner: tuple[Tensor, ...], activation: str | None, dtype: str
    ) -> None:
        self.name, self.activation = name, activation
        self.widths = [width, *(int(matrix.shape[1]) for matrix in inner)]
        self._inner = [matrix.contiguous().numpy() for matrix in inner]
        self._transposed = [matrix.t().contiguous().numpy() for matrix in inner]
        self._dense = [dense(dtype, activation, w) for w in self.widths[1:]]
        self._adjoint = [
            dense_adjoint(dtype, upper, lower, False) for lower, upper in pairwise(self.widths)
        ]

    def forward(self, work: Workspace, first: FirstLayer, h: Array, column: int) -> list[Array]:
        """Write the last hidden vector into `h`; return the slopes of all layers.

        Args:
            work: scratch memory.
            first: f(h, column, slope) computes the first layer.
            h: (E, any) OUTPUT, from `column` on.
            column: where the last hidden vector begins.
        """
        E, slopes = h.shape[0], [work(f"{self.name} slope0", h.shape[0], self.widths[0])]
        if not self._inner:
            first(h, column, slopes[0])
            return slopes
        hidden = work(f"{self.name} h0", E, self.widths[0])
        first(hidden, 0, slopes[0])
        last = len(self._inner) - 1
        for layer, (matrix, width) in enumerate(zip(self._inner, self.widths[1:], strict=True)):
            slopes.append(work(f"{self.name} slope{layer + 1}", E, width))
            target, to = h, column
            if layer < last:
                target, to = work(f"{self.name} h{layer + 1}", E, width), 0
            self._dense[layer](hidden, 0, len(matrix), matrix, target, to, slopes[-1])
            hidden = target
        return slopes

    def adjoint(
        self, work: Workspace, gh: Array, column: int, slopes: list[Array]
    ) -> tuple[Array, int]:
        """From the gradient by the last hidden vector to that by the first one.

        Returns:
            An array (E, any) and the column where the gradient begins in it.
        """
        for layer in range(len(self._inner) - 1, -1, -1):
            lower = work(f"{self.name} gh{layer}", gh.shape[0], self.widths[layer])
            self._adjoint[layer](gh, column, slopes[layer + 1], self._transposed[layer], lower)
            gh, column = lower, 0
        return gh, column


class CPUExpert:
    """A folded expert made ready for chunks of centres on the CPU."""

    def __init__(self, expert: FoldedExpert, dtype: torch.dtype) -> None:
        """Lay out the weights for matrix products and compile the stages.

        Args:
            expert: folded weights.
            dtype: torch.float32 or torch.float64, of all arithmetic but sums over atoms.
        """
        self.dtype = dtype
        self.listener = Listener()
        name = "float32" if dtype == torch.float32 else "float64"
        f = expert.to(dtype)
        self.l_max, self.L, self.U = f.l_max, f.num_layers, f.num_channels
        self.R, self.D = self.l_max + 1, (self.l_max + 1) ** 2
        self._lay_out(f, name)
        self._compile(f, name)

    def _lay_out(self, f: FoldedExpert, name: str) -> None:
        T = f.num_types
        B = f.K1.shape[2]
        self.K1 = f.K1.reshape(T * T, B, -1).contiguous().numpy()
        self.two_body_layers = _HiddenLayers(
            "two-body", self.K1.shape[2], f.two_body_inner, f.two_body_activation, name
        )
        self.latent_layers = [
            _HiddenLayers(f"latent{n}", int(f.Ws[n].shape[1]), inner, f.latent_activation, name)
            for n, inner in enumerate(f.latent_inner)
        ]
        self.readout_layers = _HiddenLayers(
            "readout", int(f.Rh[0].shape[1]), f.readout_inner, f.readout_activation, name
        )
        self.hidden = [self.two_body_layers.widths[-1]]
        self.hidden += [layers.widths[-1] for layers in self.latent_layers]
        # Each block but the first also holds the scalars s_n before its hidden vector.
        blocks = [self.hidden[0], *(max(width, self.U) for width in self.hidden[1:])]
        self.column = [sum(blocks[:m]) for m in range(len(blocks) + 1)]
        self.PV = _BothWays(f.PV.reshape(self.hidden[0], -1))
        self.PE = [[_BothWays(PE[:, degree]) for degree in range(self.R)] for PE in f.PE]
        self.W = [_BothWays(self._stack(f.Wh[n], f.Ws[n])) for n in range(self.L)]
        self.readout_matrix = _BothWays(self._stack(f.Rh, None))
        self.ro = f.ro.contiguous().numpy()
        self.norm = f.norm.numpy()
        self.scale, self.shift = f.scale.numpy(), f.shift.numpy()
        self.cutoff_squared = (f.cutoffs**2).numpy()
        self.inverse_cutoff = (1.0 / f.cutoffs).reshape(-1).to(self.dtype).numpy()
        self.products = [_product(c) for c in f.contractions]
        # The functional starts from e, the unit row vector of the scalar component, so only the
        # terms of the scalar row of the last product matter.
        self.scalar_rows = [_product(c, scalar_row=True) for c in f.contractions]

    def _stack(self, hidden: tuple[Tensor, ...], scalars: Tensor | None) -> Tensor:
        """Matrices of h_0, h_1, … and s below each other, zero where a block is wider."""
        rows = self.column[len(hidden)] + (0 if scalars is None else self.U)
        stacked = torch.zeros(rows, hidden[0].shape[1], dtype=self.dtype)
        for m, matrix in enumerate(hidden):
            stacked[self.column[m] : self.column[m] + matrix.shape[0]] = matrix
        if scalars is not None:
            stacked[self.column[len(hidden)] :] = scalars
        return stacked

    def _compile(self, f: FoldedExpert, name: str) -> None:
        self._lengths = edges.lengths(name)
        self._harmonics = edges.harmonics(name, self.l_max)
        self._gradients = edges.edge_gradients(name, self.l_max)
        if isinstance(f.radial, BesselBasis):
            roots = f.radial.roots
            regular = bool(torch.equal(roots, torch.arange(1.0, len(roots) + 1).double()))
            self._radial = radial.bessel(name, f.radial.size, f.radial.p, regular)
            self.roots = roots.to(self.dtype).numpy()
        else:
            self._radial = radial.spline(name, f.radial.size, f.radial.spline_span)
            self.roots = np.zeros(0, dtype=name)
        self.B = f.radial.size
        self._compile_networks(name)
        self._moments = [stages.moments(name, self.D, self.hidden[n]) for n in range(self.L)]
        self._moments_adjoint = [
            stages.moments_adjoint(name, self.D, self.hidden[n]) for n in range(self.L)
        ]
        self._contract = stages.contract(name, self.U)
        self._contract_adjoint = stages.contract_adjoint(name, self.U)
        self._scalars = stages.scalars(name, self.l_max, self.U)
        # The last layer's adjoint is the first that writes, the others add.
        self._scalars_adjoint = [
            stages.scalars_adjoint(name, self.l_max, self.U, n < self.L - 1) for n in range(self.L)
        ]
        self.zbl = f.zbl

    def _compile_networks(self, name: str) -> None:
        first, activation = self.K1.shape[2], self.two_body_layers.activation
        self._two_body = stages.two_body(name, self.B, first, activation)
        self._two_body_adjoint = stages.two_body_adjoint(name, self.B, first)
        weights = self.R * self.U
        self._tensor_weights = product(name, weights)
        self._tensor_weights_adjoint = product(name, self.hidden[0], add=True)
        self._environments = product(name, self.U)
        self._environments_adjoint = [product(name, width) for width in self.hidden[: self.L]]
        self._latent, self._latent_adjoint = [], []
        for layers, W in zip(self.latent_layers, self.W, strict=True):
            inner, width = W.matrix.shape
            self._latent.append(dense(name, layers.activation, width))
            self._latent_adjoint.append(dense_adjoint(name, width, inner, True))
        inner, width = self.readout_matrix.matrix.shape
        self._readout_layer = dense(name, self.readout_layers.activation, width)
        self._readout_layer_adjoint = dense_adjoint(name, width, inner, False)
        self._readout = stages.readout(name, self.readout_layers.widths[-1])

    @property
    def numpy_dtype(self) -> Any:
        """The NumPy type of `dtype`."""
        return np.float32 if self.dtype == torch.float32 else np.float64

    @property
    def floats_per_edge(self) -> int:
        """Numbers that a chunk keeps per edge, about."""
        networks = (self.two_body_layers, *self.latent_layers, self.readout_layers)
        return (
            2 * self.column[-1]
            + 2 * self.R * self.U
            + 2 * self.D
            + 2 * self.B
            + sum(3 * sum(layers.widths) for layers in networks)
        )

    def evaluate(self, work: Workspace, chunk: Chunk, energy: Array, gradient: Array) -> None:
        """Energies of the chunk's centres and dE_c/dr_ij of its edges, not weighted.

        Args:
            work: scratch memory of this thread.
            chunk: the edges.
            energy: (n,) float64 OUTPUT, eV, of each centre.
            gradient: (E, 3) OUTPUT, eV/Å, of its centre's energy.
        """
        E = chunk.num_edges
        length, Y = work("length", E), work("Y", E, self.D)
        B, dB = work("B", self.B, E), work("dB", self.B, E)
        self._lengths(chunk.vectors, length)
        self._harmonics(chunk.vectors, length, Y)
        self._radial(length, chunk.pair, self.inverse_cutoff, self.roots, B, dB)
        self.listener.done("embedding/geometry")
        forward = self._forward(work, chunk, Y, B, energy)
        gY, gr = self._adjoint(work, chunk, Y, dB, forward)
        scale = self.scale[chunk.types]
        energy *= scale
        energy += self.shift[chunk.types]
        if self.zbl is not None:
            radial.zbl(
                length,
                chunk.pair,
                self.inverse_cutoff,
                self.zbl.atomic_numbers.numpy(),
                self.zbl.p,
                chunk.rows,
                energy,
                gr,
            )
        self._gradients(chunk.vectors, length, gY, gr, gradient)
        self.listener.done("scatter/edge_gradients")

    def _forward(self, work: Workspace, chunk: Chunk, Y: Array, B: Array, energy: Array) -> _Kept:
        """Everything up to the energy, and what the adjoint needs of it."""
        E, n = chunk.num_edges, len(chunk.types)
        h = work("h", E, self.column[-1])
        two_body = partial(self._two_body, B, chunk.pair, self.K1)
        slopes = [self.two_body_layers.forward(work, two_body, h, 0)]
        done = self.listener.done
        done("embedding/two_body")
        wV = work("wV", E, self.R * self.U)
        self._tensor_weights(h, 0, E, 0, self.hidden[0], self.PV.matrix, wV, 0, 0)
        done("embedding/tensor_weights")
        kept = _Kept(h, wV, self.norm[chunk.types], slopes)
        for layer in range(self.L):
            kept.A.append(self._environment(work, chunk, layer, Y, kept))
            kept.q.append(self._functional(work, n, layer, kept.A))
            done(f"layer {layer}/contract")
            column, W = self.column[layer + 1], self.W[layer].matrix
            self._scalars(chunk.rows, wV, Y, kept.q[layer][-1], h, column)
            done(f"layer {layer}/scalars")
            first = partial(self._latent[layer], h, 0, len(W), W)
            slopes.append(self.latent_layers[layer].forward(work, first, h, column))
            done(f"layer {layer}/latent")
        kept.last = work("last", E, self.readout_layers.widths[-1])
        R = self.readout_matrix.matrix
        first = partial(self._readout_layer, h, 0, len(R), R)
        slopes.append(self.readout_layers.forward(work, first, kept.last, 0))
        seed = self.scale[chunk.types].astype(self.numpy_dtype)
        self._readout(chunk.rows, kept.last, self.ro, seed, energy)
        done("readout/readout")
        return kept

    def _environment(
        self, work: Workspace, chunk: Chunk, layer: int, Y: Array, kept: _Kept
    ) -> Array:
        """A (D, n, U) = norm (PE_n)ᵀ Σ_j h_n Y."""
        n, width = len(chunk.types), self.hidden[layer]
        H = work("H", self.D, n, width)
        self._moments[layer](chunk.rows, kept.norm, Y, kept.h, self.column[layer], H)
        self.listener.done(f"layer {layer}/moments")
        A = work(f"A{layer}", self.D, n, self.U)
        source, target = H.reshape(-1, width), A.reshape(-1, self.U)
        for degree, PE in enumerate(self.PE[layer]):
            begin, end = degree**2 * n, (degree + 1) ** 2 * n
            self._environments(source, begin, end, 0, width, PE.matrix, target, begin, 0)
        self.listener.done(f"layer {layer}/environment")
        return A

    def _functional(self, work: Workspace, n: int, layer: int, A: list[Array]) -> list[Array]:
        """Row vectors e M_n, e M_n M_{n−1}, …, N, each (n, components, U)."""
        vectors = []
        q = self._start(work, n)
        for t in range(layer, -1, -1):
            product = self.scalar_rows[t] if t == layer else self.products[t]
            out = work(f"q{layer},{t}", n, product.dim_in, self.U)
            self._contract(*product.terms, A[t], q, out)
            vectors.append(out)
            q = out
        return vectors

    def _start(self, work: Workspace, n: int) -> Array:
        """The row vector e for every centre, (n, 1, U)."""
        start = work("e", n, 1, self.U)
        start.fill(1.0)
        return start

    def _adjoint(
        self, work: Workspace, chunk: Chunk, Y: Array, dB: Array, kept: _Kept
    ) -> tuple[Array, Array]:
        """Gradients of the energies by harmonics (E, ≥ D) and by distance (E,)."""
        E = chunk.num_edges
        gh, gY = work("gh", E, self.column[-1]), work("gY", E, stages.padded(self.D))
        gwV = work("gwV", E, self.R * self.U)
        gA = self._zero_environments(work, len(chunk.types))
        slopes = kept.slopes.pop()
        gx, column = self.readout_layers.adjoint(work, kept.last, 0, slopes)
        transposed = self.readout_matrix.transposed
        self._readout_layer_adjoint(gx, column, slopes[0], transposed, gh)
        done = self.listener.done
        done("readout/readout_adjoint")
        for layer in range(self.L - 1, -1, -1):
            block, slopes = self.column[layer + 1], kept.slopes.pop()
            gx, column = self.latent_layers[layer].adjoint(work, gh, block, slopes)
            transposed = self.W[layer].transposed
            self._latent_adjoint[layer](gx, column, slopes[0], transposed, gh)
            done(f"layer {layer}/latent_adjoint")
            N = kept.q[layer][-1]
            gN = work("gN", *N.shape)
            self._scalars_adjoint[layer](chunk.rows, kept.wV, Y, N, gh, block, gwV, gY, gN)
            done(f"layer {layer}/scalars_adjoint")
            self._functional_adjoint(work, layer, kept, gN, gA)
            done(f"layer {layer}/contract_adjoint")
            self._environment_adjoint(work, chunk, layer, Y, kept, gA[layer], gh, gY)
        weights = self.R * self.U
        self._tensor_weights_adjoint(gwV, 0, E, 0, weights, self.PV.transposed, gh, 0, 0)
        done("embedding/tensor_weights_adjoint")
        slopes = kept.slopes.pop()
        gx, column = self.two_body_layers.adjoint(work, gh, 0, slopes)
        gr = work("gr", E)
        self._two_body_adjoint(gx, column, slopes[0], dB, chunk.pair, self.K1, gr)
        done("embedding/two_body_adjoint")
        return gY, gr

    def _zero_environments(self, work: Workspace, n: int) -> list[Array]:
        gradients = [work(f"gA{layer}", self.D, n, self.U) for layer in range(self.L)]
        for gradient in gradients:
            gradient.fill(0.0)
        return gradients

    def _functional_adjoint(
        self, work: Workspace, layer: int, kept: _Kept, gout: Array, gA: list[Array]
    ) -> None:
        """Add dE/dA of all layers up to this one, given dE/dN."""
        n = gout.shape[0]
        vectors = [self._start(work, n), *kept.q[layer]]
        for t in range(layer + 1):
            q = vectors[layer - t]
            product = self.scalar_rows[t] if t == layer else self.products[t]
            gq = work(f"gq{t}", *q.shape)
            self._contract_adjoint(*product.terms, kept.A[t], q, gout, gA[t], gq)
            gout = gq

    def _environment_adjoint(
        self,
        work: Workspace,
        chunk: Chunk,
        layer: int,
        Y: Array,
        kept: _Kept,
        gA: Array,
        gh: Array,
        gY: Array,
    ) -> None:
        """Add to gh and gY what reaches them through the environment of this layer."""
        n, width = len(chunk.types), self.hidden[layer]
        gH = work("H", self.D, n, width)
        source, target = gA.reshape(-1, self.U), gH.reshape(-1, width)
        multiply = self._environments_adjoint[layer]
        for degree, PE in enumerate(self.PE[layer]):
            begin, end = degree**2 * n, (degree + 1) ** 2 * n
            multiply(source, begin, end, 0, self.U, PE.transposed, target, begin, 0)
        self.listener.done(f"layer {layer}/environment_adjoint")
        self._moments_adjoint[layer](
            chunk.rows, kept.norm, Y, kept.h, self.column[layer], gH, gh, gY
        )
        self.listener.done(f"layer {layer}/moments_adjoint")


@dataclass
class _Kept:
    """What the forward pass leaves for the adjoint, and the adjoint's start.

    Attributes:
        h, wV: hidden vectors and tensor weights of the edges.
        norm: (n,) normalisation of each centre's environment.
        slopes: those of every network, in the order in which they are run; taken from the end.
        A: environments of each layer.
        q: row vectors of each layer, see `CPUExpert._functional`.
        last: gradient of the energy by the readout's last hidden vector.
    """

    h: Array
    wV: Array
    norm: Array
    slopes: list[list[Array]]
    A: list[Array] = field(default_factory=list)
    q: list[list[Array]] = field(default_factory=list)
    last: Array = field(default_factory=lambda: np.empty(0))


class _BothWays:
    """A matrix and its transpose, each with contiguous rows."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.contiguous().numpy()
        self.transposed = matrix.t().contiguous().numpy()


@dataclass(frozen=True)
class _Product:
    """A tensor product's nonzero terms, as the compiled stages take them."""

    dim_in: int
    terms: tuple[Array, ...]


def _product(contraction: Any, scalar_row: bool = False) -> _Product:
    chosen = contraction.k == 0 if scalar_row else torch.ones_like(contraction.k, dtype=torch.bool)
    index = [getattr(contraction, name)[chosen] for name in ("i", "j", "k", "path")]
    coefficient = contraction.coefficient[chosen]
    arrays = [tensor.contiguous().numpy() for tensor in (*index, coefficient, contraction.weights)]
    return _Product(contraction.dim_in, tuple(arrays))
