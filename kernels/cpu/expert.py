"""One expert on the CPU: energies and their adjoint for a chunk of centres, in cache.

The order of steps is that of the equations in `duetto.kernels.folded`, forward and then backward.
Hidden vectors lie side by side in one block, h_0 | h_1 | …, so that the sums over m of the folded
form are single matrix products; s_n stands where h_{n+1} will be written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.kernels.cpu import edges, radial, stages
from duetto.kernels.cpu.activation import activate, activate_adjoint
from duetto.kernels.folded import FoldedExpert
from duetto.kernels.radial import BesselBasis

Array = NDArray[Any]


class Workspace:
    """Named scratch arrays that grow to the largest chunk met; one per thread."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._flat: dict[str, Tensor] = {}
        self._arrays: dict[str, Array] = {}

    def __call__(self, name: str, *shape: int) -> tuple[Tensor, Array]:
        """Tensor and NumPy view of the same uninitialised memory."""
        size = math.prod(shape)
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat[name] = torch.empty(size + size // 4, dtype=self._dtype)
            self._arrays[name] = self._flat[name].numpy()
        return self._flat[name][:size].view(shape), self._arrays[name][:size].reshape(shape)


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
        weight: (n,) float64, weight of each centre's energy in the mixture.
    """

    rows: Array
    pair: Array
    types: Array
    vectors: Array
    weight: Array

    @property
    def num_edges(self) -> int:
        """Number of edges, E."""
        return int(self.pair.shape[0])


class _HiddenLayers:
    """The nonlinear layers of one network, pre-activation to last hidden vector and back."""

    def __init__(
        self, name: str, width: int, inner: tuple[Tensor, ...], activation: str | None, dtype: str
    ) -> None:
        self.name = name
        self.inner = inner
        self.widths = [width, *(int(matrix.shape[1]) for matrix in inner)]
        self._activate = [activate(dtype, activation, w) for w in self.widths]
        self._adjoint = [activate_adjoint(dtype, w) for w in self.widths]

    def forward(self, work: Workspace, z: Array, h: Array, column: int) -> list[Array]:
        """Write the last hidden vector into `h`; return the slopes of all layers."""
        E, slopes = z.shape[0], []
        for layer, matrix in enumerate(self.inner):
            hidden, hidden_array = work(f"{self.name} h{layer}", E, self.widths[layer])
            _, slope = work(f"{self.name} slope{layer}", E, self.widths[layer])
            self._activate[layer](z, hidden_array, 0, slope)
            slopes.append(slope)
            following, z = work(f"{self.name} z{layer + 1}", E, self.widths[layer + 1])
            torch.mm(hidden, matrix, out=following)
        _, slope = work(f"{self.name} slope", E, self.widths[-1])
        self._activate[-1](z, h, column, slope)
        slopes.append(slope)
        return slopes

    def adjoint(self, work: Workspace, gh: Array, column: int, slopes: list[Array]) -> Tensor:
        """Gradient of the first pre-activation; the columns read from `gh` become zero."""
        E = gh.shape[0]
        gradient, gradient_array = work(f"{self.name} gz", E, self.widths[-1])
        self._adjoint[-1](gh, column, slopes[-1], gradient_array)
        return self.inner_adjoint(work, gradient, slopes)

    def inner_adjoint(self, work: Workspace, gradient: Tensor, slopes: list[Array]) -> Tensor:
        """The same from the gradient of the last pre-activation."""
        for layer in range(len(self.inner) - 1, -1, -1):
            shape = (gradient.shape[0], self.widths[layer])
            lower, lower_array = work(f"{self.name} gh{layer}", *shape)
            torch.mm(gradient, self.inner[layer].t(), out=lower)
            gradient, gradient_array = work(f"{self.name} gz{layer}", *shape)
            self._adjoint[layer](lower_array, 0, slopes[layer], gradient_array)
        return gradient


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
        self.PV = f.PV.reshape(self.hidden[0], -1).contiguous()
        self.PE = [[PE[:, degree].contiguous() for degree in range(self.R)] for PE in f.PE]
        self.W = [self._stack(f.Wh[n], f.Ws[n]) for n in range(self.L)]
        self.readout_matrix = self._stack(f.Rh, None)
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
        width = self.K1.shape[2]
        self._two_body = stages.two_body(name, self.B, width)
        self._two_body_adjoint = stages.two_body_adjoint(name, self.B, width)
        self._moments = [stages.moments(name, self.D, self.hidden[n]) for n in range(self.L)]
        self._moments_adjoint = [
            stages.moments_adjoint(name, self.D, self.hidden[n]) for n in range(self.L)
        ]
        self._contract = stages.contract(name, self.U)
        self._contract_adjoint = stages.contract_adjoint(name, self.U)
        self._scalars = stages.scalars(name, self.l_max, self.U)
        self._scalars_adjoint = stages.scalars_adjoint(name, self.l_max, self.U)
        self._readout = stages.readout(name, self.readout_layers.widths[-1])
        self.zbl = f.zbl

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
        """Energies of the chunk's centres and dE/dr_ij of its edges.

        Args:
            work: scratch memory of this thread.
            chunk: the edges.
            energy: (n,) float64 OUTPUT, eV, of each centre, not weighted.
            gradient: (E, 3) OUTPUT, eV/Å, of the weighted energy.
        """
        E = chunk.num_edges
        _, length = work("length", E)
        _, Y = work("Y", E, self.D)
        _, B = work("B", E, self.B)
        _, dB = work("dB", E, self.B)
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
                chunk.weight,
                energy,
                gr,
            )
        self._gradients(chunk.vectors, length, gY, gr, gradient)
        self.listener.done("scatter/edge_gradients")

    def _forward(
        self, work: Workspace, chunk: Chunk, Y: Array, B: Array, energy: Array
    ) -> dict[str, Any]:
        """Everything up to the energy, and the gradient of the readout's pre-activation."""
        E, n = chunk.num_edges, len(chunk.types)
        h, h_array = work("h", E, self.column[-1])
        kept: dict[str, Any] = {"h": h_array, "slopes": [], "A": [], "q": []}
        kept["norm"] = self.norm[chunk.types]
        _, z = work("z two-body", E, self.K1.shape[2])
        self._two_body(B, chunk.pair, self.K1, z)
        kept["slopes"].append(self.two_body_layers.forward(work, z, h_array, 0))
        done = self.listener.done
        done("embedding/two_body")
        wV, kept["wV"] = work("wV", E, self.R * self.U)
        torch.mm(h[:, : self.hidden[0]], self.PV, out=wV)
        done("embedding/tensor_weights")
        for layer in range(self.L):
            kept["A"].append(self._environment(work, chunk, layer, Y, kept))
            kept["q"].append(self._functional(work, n, layer, kept["A"]))
            done(f"layer {layer}/contract")
            column = self.column[layer + 1]
            self._scalars(chunk.rows, kept["wV"], Y, kept["q"][layer][-1], h_array, column)
            done(f"layer {layer}/scalars")
            z_tensor, z = work(f"z latent{layer}", E, self.W[layer].shape[1])
            torch.mm(h[:, : column + self.U], self.W[layer], out=z_tensor)
            layers = self.latent_layers[layer]
            kept["slopes"].append(layers.forward(work, z, h_array, column))
            done(f"layer {layer}/latent")
        z_tensor, z = work("z readout", E, self.readout_matrix.shape[1])
        torch.mm(h[:, : len(self.readout_matrix)], self.readout_matrix, out=z_tensor)
        _, last = work("last", E, self.readout_layers.widths[-1])
        slopes = self.readout_layers.forward(work, z, last, 0)
        seed = (chunk.weight * self.scale[chunk.types]).astype(last.dtype)
        gz, gz_array = work("gz readout", E, last.shape[1])
        self._readout(chunk.rows, last, slopes[-1], self.ro, seed, energy, gz_array)
        kept["gz readout"] = self.readout_layers.inner_adjoint(work, gz, slopes)
        done("readout/readout")
        return kept

    def _environment(
        self, work: Workspace, chunk: Chunk, layer: int, Y: Array, kept: dict[str, Any]
    ) -> Array:
        """A (D, n, U) = norm (PE_n)ᵀ Σ_j h_n Y."""
        n, width = len(chunk.types), self.hidden[layer]
        H, H_array = work("H", self.D, n, width)
        self._moments[layer](chunk.rows, kept["norm"], Y, kept["h"], self.column[layer], H_array)
        self.listener.done(f"layer {layer}/moments")
        A, A_array = work(f"A{layer}", self.D, n, self.U)
        for degree in range(self.R):
            m = slice(degree**2, (degree + 1) ** 2)
            torch.mm(H[m].view(-1, width), self.PE[layer][degree], out=A[m].view(-1, self.U))
        self.listener.done(f"layer {layer}/environment")
        return A_array

    def _functional(self, work: Workspace, n: int, layer: int, A: list[Array]) -> list[Array]:
        """Row vectors e M_n, e M_n M_{n−1}, …, N, each (n, components, U)."""
        vectors = []
        q = self._start(work, n)
        for t in range(layer, -1, -1):
            product = self.scalar_rows[t] if t == layer else self.products[t]
            _, out = work(f"q{layer},{t}", n, product.dim_in, self.U)
            self._contract(*product.terms, A[t], q, out)
            vectors.append(out)
            q = out
        return vectors

    def _start(self, work: Workspace, n: int) -> Array:
        """The row vector e for every centre, (n, 1, U)."""
        _, start = work("e", n, 1, self.U)
        start.fill(1.0)
        return start

    def _adjoint(
        self, work: Workspace, chunk: Chunk, Y: Array, dB: Array, kept: dict[str, Any]
    ) -> tuple[Array, Array]:
        """Gradients of the weighted energy by harmonics (E, D) and by distance (E,)."""
        E = chunk.num_edges
        gh, gh_array = work("gh", E, self.column[-1])
        torch.mm(kept["gz readout"], self.readout_matrix.t(), out=gh[:, : len(self.readout_matrix)])
        _, gY = work("gY", E, self.D)
        gwV, gwV_array = work("gwV", E, self.R * self.U)
        gY.fill(0.0)
        gwV_array.fill(0.0)
        gA = self._zero_environments(work, len(chunk.types))
        done = self.listener.done
        done("readout/readout_adjoint")
        for layer in range(self.L - 1, -1, -1):
            column = self.column[layer + 1]
            gz = self.latent_layers[layer].adjoint(
                work, gh_array, column, kept["slopes"][layer + 1]
            )
            gh[:, : column + self.U].addmm_(gz, self.W[layer].t())
            done(f"layer {layer}/latent_adjoint")
            N = kept["q"][layer][-1]
            _, gN = work("gN", *N.shape)
            self._scalars_adjoint(chunk.rows, kept["wV"], Y, N, gh_array, column, gwV_array, gY, gN)
            done(f"layer {layer}/scalars_adjoint")
            self._functional_adjoint(work, layer, kept, gN, gA)
            done(f"layer {layer}/contract_adjoint")
            self._environment_adjoint(work, chunk, layer, Y, kept, gA[layer], gh_array, gY)
        gh[:, : self.hidden[0]].addmm_(gwV, self.PV.t())
        done("embedding/tensor_weights_adjoint")
        gz = self.two_body_layers.adjoint(work, gh_array, 0, kept["slopes"][0])
        _, gr = work("gr", E)
        self._two_body_adjoint(dB, chunk.pair, self.K1, gz.numpy(), gr)
        done("embedding/two_body_adjoint")
        return gY, gr

    def _zero_environments(self, work: Workspace, n: int) -> list[Array]:
        gradients = [work(f"gA{layer}", self.D, n, self.U)[1] for layer in range(self.L)]
        for gradient in gradients:
            gradient.fill(0.0)
        return gradients

    def _functional_adjoint(
        self, work: Workspace, layer: int, kept: dict[str, Any], gout: Array, gA: list[Array]
    ) -> None:
        """Add dE/dA of all layers up to this one, given dE/dN."""
        n = gout.shape[0]
        vectors = [self._start(work, n), *kept["q"][layer]]
        for t in range(layer + 1):
            q = vectors[layer - t]
            product = self.scalar_rows[t] if t == layer else self.products[t]
            _, gq = work(f"gq{t}", *q.shape)
            self._contract_adjoint(*product.terms, kept["A"][t], q, gout, gA[t], gq)
            gout = gq

    def _environment_adjoint(
        self,
        work: Workspace,
        chunk: Chunk,
        layer: int,
        Y: Array,
        kept: dict[str, Any],
        gA: Array,
        gh: Array,
        gY: Array,
    ) -> None:
        """Add to gh and gY what reaches them through the environment of this layer."""
        n, width = len(chunk.types), self.hidden[layer]
        gH, gH_array = work("H", self.D, n, width)
        gradient = torch.from_numpy(gA)
        for degree in range(self.R):
            m = slice(degree**2, (degree + 1) ** 2)
            torch.mm(
                gradient[m].view(-1, self.U),
                self.PE[layer][degree].t(),
                out=gH[m].view(-1, width),
            )
        self.listener.done(f"layer {layer}/environment_adjoint")
        self._moments_adjoint[layer](
            chunk.rows, kept["norm"], Y, kept["h"], self.column[layer], gH_array, gh, gY
        )
        self.listener.done(f"layer {layer}/moments_adjoint")


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
