"""The folded form of an Allegro expert and its plain-torch evaluation.

Allegro's tensor track is linear in the edge tensor and only its scalar row is read, so the
tensors of edges need never be built, and every linear map that follows another folds into one
matrix. What is left, for every edge (i, j) with Y = Y_lm(r_ij) and e the unit row vector of the
scalar component:

    h_0     = φ(B(r_ij) · K1[t_i, t_j])
    wV      = h_0 · PV                                 weights of the edge's two-body tensor
    H_i     = Σ_j h_n Y_lm                             moments of the hidden vector, per centre
    A_i     = norm · (PE_n)ᵀ H_i                       environment, per centre
    N_i     = e · M_n(A_n) ··· M_0(A_0)                functional of the tensor track, per centre
    s_n[u]  = Σ_l wV[u, l] Σ_m Y_lm N_i[u, lm]         all that the edge sees of the product
    h_{n+1} = φ(Σ_{m ≤ n} h_m · Wh_nm + s_n · Ws_n)
    e_ij    = φ(Σ_m h_m · Rh_m) · ro

Networks with more hidden layers keep their inner matrices; linear networks have φ(x) = x.

The evaluation below is the reference for every other backend and is differentiable, in the
vectors and in the weights, to any order.

Letters: A atoms, E edges, T types, B radial functions, H hidden width, R = l_max + 1 degrees,
D = R² components, U tensor channels, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from duetto.kernels.activations import ACTIVATIONS
from duetto.kernels.constants import COULOMB, ZBL_COEFFICIENTS, ZBL_EXPONENTS, ZBL_LENGTH, ZBL_POWER
from duetto.kernels.harmonics import spherical_harmonics
from duetto.kernels.padding import Padding
from duetto.kernels.radial import BesselBasis, RadialBasis, polynomial_cutoff


@dataclass(frozen=True)
class Contraction:
    """One layer's tensor product, V_out[k] = Σ_n w[path_n] c_n V_in[i_n] A[j_n] over k_n = k.

    Attributes:
        dim_in: number of components of V_in.
        i, j, k, path: (N,) int64.
        coefficient: (N,) float64 constants.
        weights: (P, U) path weights per channel.
    """

    dim_in: int
    i: Tensor
    j: Tensor
    k: Tensor
    path: Tensor
    coefficient: Tensor
    weights: Tensor


@dataclass(frozen=True)
class ZBLPair:
    """Ziegler-Biersack-Littmark repulsion under a polynomial cutoff.

    Attributes:
        atomic_numbers: (T,) of the types.
        p: exponent of the cutoff.
    """

    atomic_numbers: Tensor
    p: float


@dataclass(frozen=True)
class FoldedExpert:
    """Weights of one expert in folded form.

    Attributes:
        l_max: highest degree.
        cutoffs: (T, T) Å, by centre and neighbour type.
        radial: the radial basis.
        K1: (T, T, B, H) radial function to first hidden vector, by centre and neighbour type.
        two_body_inner: matrices between hidden layers of the two-body network.
        two_body_activation, latent_activation, readout_activation: names, None if linear.
        PV: (H, R, U) hidden vector to weights of the two-body tensor.
        PE: L tensors (H, R, U), hidden vector to environment weights.
        contractions: L tensor products.
        Wh: L lists; Wh[n][m] (H, H) takes h_m to the pre-activation of h_{n+1}.
        Ws: L tensors (U, H), scalars of the product to the pre-activation of h_{n+1}.
        latent_inner: L lists of matrices between hidden layers of the latent networks.
        Rh: L + 1 tensors (H, H_readout).
        readout_inner: matrices between hidden layers of the readout.
        ro: (H_readout,).
        norm: (T,) 1/√avg_num_neighbors by centre type.
        scale: (T,) energy of a centre per unit of Σ_j e_ij, eV.
        shift: (T,) energy of an isolated atom, eV.
        zbl: the ZBL term, or None.
    """

    l_max: int
    cutoffs: Tensor
    radial: RadialBasis
    K1: Tensor
    two_body_inner: tuple[Tensor, ...]
    two_body_activation: str | None
    PV: Tensor
    PE: tuple[Tensor, ...]
    contractions: tuple[Contraction, ...]
    Wh: tuple[tuple[Tensor, ...], ...]
    Ws: tuple[Tensor, ...]
    latent_inner: tuple[tuple[Tensor, ...], ...]
    latent_activation: str | None
    Rh: tuple[Tensor, ...]
    readout_inner: tuple[Tensor, ...]
    readout_activation: str | None
    ro: Tensor
    norm: Tensor
    scale: Tensor
    shift: Tensor
    zbl: ZBLPair | None

    @property
    def num_layers(self) -> int:
        """Number of Allegro layers, L."""
        return len(self.contractions)

    @property
    def num_types(self) -> int:
        """Number of types, T."""
        return self.norm.numel()

    @property
    def num_channels(self) -> int:
        """Tensor channels, U."""
        return self.PV.shape[2]

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> FoldedExpert:
        """Copy with all floating-point tensors in `dtype`, everything on `device`.

        Cutoffs, radial basis, coefficients, scales and shifts stay float64: they are applied in
        double precision.
        """
        kept = {"cutoffs", "radial", "scale", "shift", "zbl"}
        changes = {
            f.name: _convert(getattr(self, f.name), None if f.name in kept else dtype, device)
            for f in fields(self)
        }
        return replace(self, **changes)


def _convert(value: Any, dtype: torch.dtype | None, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        keep = dtype is None or not value.is_floating_point()
        return value.to(device) if keep else value.to(device=device, dtype=dtype)
    if isinstance(value, tuple):
        return tuple(_convert(item, dtype, device) for item in value)
    if isinstance(value, (Contraction, ZBLPair, BesselBasis)):
        return replace(
            value,
            **{f.name: _convert(getattr(value, f.name), dtype, device) for f in fields(value)},
        )
    return value


def atomic_energies(
    expert: FoldedExpert,
    vectors: Tensor,
    centre: Tensor,
    centre_types: Tensor,
    neighbor_types: Tensor,
) -> Tensor:
    """Energies of centre atoms from their edges.

    Edges beyond the cutoff of their pair of types must have been left out.

    Args:
        expert: folded weights; their dtype is that of the network's arithmetic.
        vectors: (E, 3) float64, r_j − r_i, Å.
        centre: (E,) int64, index of the centre in `centre_types`.
        centre_types: (A,) int64.
        neighbor_types: (E,) int64.

    Returns:
        (A,) float64 energies, eV. Geometry and the final scaling are float64.
    """
    dtype = expert.PV.dtype
    types = centre_types[centre]
    length = vectors.norm(dim=1)
    x = length / expert.cutoffs[types, neighbor_types]
    harmonics = spherical_harmonics(vectors / length[:, None], expert.l_max).to(dtype)
    padding = Padding.of(centre, len(centre_types))
    padded_harmonics = padding.pad(harmonics)
    hidden = [_two_body(expert, expert.radial(x).to(dtype), types, neighbor_types)]
    tensor_weights = hidden[0] @ expert.PV.flatten(1)
    environments: list[Tensor] = []
    for n in range(expert.num_layers):
        moments = padded_harmonics.transpose(1, 2) @ padding.pad(hidden[n])
        environments.append(_environment(expert, n, moments, centre_types))
        functional = tensor_functional(expert.contractions[: n + 1], environments)
        projections = padded_harmonics @ _block_diagonal(functional, expert.l_max)
        products = tensor_weights * padding.unpad(projections)
        scalars = products.unflatten(1, (expert.l_max + 1, -1)).sum(dim=1)
        hidden.append(_latent(expert, n, hidden, scalars))
    edge_energies = _readout(expert, hidden)
    sums = torch.zeros(len(centre_types), dtype=torch.float64, device=vectors.device)
    sums = sums.index_add(0, centre, edge_energies.double())
    energies = sums * expert.scale[centre_types] + expert.shift[centre_types]
    if expert.zbl is not None:
        repulsion = zbl_edge_energies(expert.zbl, length, x, types, neighbor_types)
        energies = energies.index_add(0, centre, repulsion)
    return energies


def _two_body(expert: FoldedExpert, basis: Tensor, types: Tensor, neighbor_types: Tensor) -> Tensor:
    """h_0 = φ(B · K1[t_i, t_j]), one matrix product per pair of types."""
    T = expert.num_types
    if T == 1:
        pre_activation = basis @ expert.K1[0, 0]
    else:
        pair = types * T + neighbor_types
        one_hot = torch.nn.functional.one_hot(pair, T * T).to(basis.dtype)
        expanded = (one_hot[:, :, None] * basis[:, None, :]).flatten(1)
        pre_activation = expanded @ expert.K1.flatten(0, 2)
    return _hidden_layers(pre_activation, expert.two_body_inner, expert.two_body_activation)


def _hidden_layers(pre_activation: Tensor, inner: tuple[Tensor, ...], name: str | None) -> Tensor:
    """Last hidden vector of a network from the pre-activation of its first."""
    activation = ACTIVATIONS[name]
    hidden = activation(pre_activation)
    for matrix in inner:
        hidden = activation(hidden @ matrix)
    return hidden


def _environment(expert: FoldedExpert, n: int, moments: Tensor, centre_types: Tensor) -> Tensor:
    """A_i = norm · (PE_n)ᵀ H_i from the moments H_i = Σ_j h_n Y_lm (A, D, H), as (A, D, U)."""
    blocks = moments.split(_components(expert.l_max), dim=1)
    environment = torch.cat([block @ expert.PE[n][:, r] for r, block in enumerate(blocks)], dim=1)
    return environment * expert.norm[centre_types][:, None, None]


def _components(l_max: int) -> list[int]:
    return [2 * degree + 1 for degree in range(l_max + 1)]


def _block_diagonal(functional: Tensor, l_max: int) -> Tensor:
    """(A, D, U) to (A, D, R U): each degree's rows in columns of their own, zeros elsewhere.

    Y @ this is Σ_m Y_lm N_i[u, lm] for every degree at once.
    """
    R = l_max + 1
    blocks = functional.split(_components(l_max), dim=1)
    U = functional.shape[2]
    wide = [
        torch.nn.functional.pad(block, (r * U, (R - 1 - r) * U)) for r, block in enumerate(blocks)
    ]
    return torch.cat(wide, dim=1)


def tensor_functional(contractions: tuple[Contraction, ...], environments: list[Tensor]) -> Tensor:
    """N = e · M_n(A_n) ··· M_0(A_0): the scalar row of the product of all layers so far.

    Args:
        contractions: tensor products of layers 0 … n.
        environments: (A, D, U) of layers 0 … n.

    Returns:
        (A, D, U).
    """
    atoms, _, channels = environments[0].shape
    functional: Tensor | None = None
    for contraction, environment in zip(
        reversed(contractions), reversed(environments), strict=True
    ):
        factor = contraction.weights[contraction.path] * contraction.coefficient[:, None]
        i, j, k = contraction.i, contraction.j, contraction.k
        if functional is None:
            # Only the scalar row of the last product is read: it is component 0.
            scalar = k == 0
            terms, i = factor[scalar] * environment[:, j[scalar]], i[scalar]
        else:
            terms = factor * environment[:, j] * functional[:, k]
        functional = torch.zeros(
            atoms, contraction.dim_in, channels, dtype=environment.dtype, device=environment.device
        ).index_add(1, i, terms)
    assert functional is not None
    return functional


def _latent(expert: FoldedExpert, n: int, hidden: list[Tensor], scalars: Tensor) -> Tensor:
    """h_{n+1} = φ(Σ_{m ≤ n} h_m · Wh_nm + s_n · Ws_n)."""
    pre_activation = scalars @ expert.Ws[n]
    for m, matrix in enumerate(expert.Wh[n]):
        pre_activation = torch.addmm(pre_activation, hidden[m], matrix)
    return _hidden_layers(pre_activation, expert.latent_inner[n], expert.latent_activation)


def _readout(expert: FoldedExpert, hidden: list[Tensor]) -> Tensor:
    """e_ij = φ(Σ_m h_m · Rh_m) · ro."""
    pre_activation = hidden[0] @ expert.Rh[0]
    for vector, matrix in zip(hidden[1:], expert.Rh[1:], strict=True):
        pre_activation = torch.addmm(pre_activation, vector, matrix)
    last = _hidden_layers(pre_activation, expert.readout_inner, expert.readout_activation)
    return last @ expert.ro


def zbl_edge_energies(
    zbl: ZBLPair, length: Tensor, x: Tensor, types: Tensor, neighbor_types: Tensor
) -> Tensor:
    """Half the ZBL energy of each pair, eV: edges come twice.

    Ziegler, Biersack, Littmark; see `duetto.kernels.constants`.

    Args:
        zbl: parameters.
        length: (E,) distances, Å.
        x: (E,) distances over the pair's cutoff.
        types, neighbor_types: (E,).
    """
    zi, zj = zbl.atomic_numbers[types].double(), zbl.atomic_numbers[neighbor_types].double()
    scaled = (zi**ZBL_POWER + zj**ZBL_POWER) * length / ZBL_LENGTH
    screening = torch.zeros_like(length)
    for coefficient, exponent in zip(ZBL_COEFFICIENTS, ZBL_EXPONENTS, strict=True):
        screening = screening + coefficient * torch.exp(exponent * scaled)
    energy = 0.5 * COULOMB * zi * zj / length * screening
    return energy * polynomial_cutoff(x, zbl.p)


SQRT_HALF = 1 / math.sqrt(2)
"""Allegro's factor on sums of edge energies, for every pair is counted from both sides."""
