"""From an expert's original weights to its folded matrices, differentiably.

The original weights are the masters: what is stored and what is trained. Their names, with the
scale factors of nequip's linear layers already multiplied in:

    radial.roots            (B,)            Bessel roots in units of π
    radial.linear           (B, M)          radial basis to two-body embedding
    radial.centre           (T, M / 2)      type embedding of the centre
    radial.neighbour        (T, M / 2)      and of the neighbour
    radial.spline           (T, T, M, B)    instead of these four, for the spline embedding
    two_body.k              k-th matrix of the two-body network, M → … → S
    tensor_embedding        (S, U R)        two-body scalars to weights of the two-body tensor
    environment             (S, S + U R)    two-body scalars and first environment weights
    latent.n.k              k-th matrix of the n-th latent network
    product.n               (P, U)          path weights of the n-th tensor product
    readout.k               k-th matrix of the readout
    energy.scale, .shift    (T,)            per-type scales and shifts, eV

M is the embedding's width, S the scalar width, U the channels, R = l_max + 1; in (S, U R) the
degree runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from duetto.experts.allegro.architecture import AllegroArchitecture, BesselEmbedding, MLPShape
from duetto.experts.allegro.paths import product_paths
from duetto.kernels.folded import SQRT_HALF, Contraction, FoldedExpert, ZBLPair
from duetto.kernels.radial import BesselBasis, RadialBasis, SplineBasis

Weights = Mapping[str, Tensor]


def weight_shapes(architecture: AllegroArchitecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of an expert."""
    a = architecture
    T, S, U, R = a.num_types, a.num_scalar_features, a.num_tensor_features, a.l_max + 1
    M = a.embedding_dim
    environment = U * R if a.weight_individual_irreps else U
    shapes: dict[str, tuple[int, ...]] = {}
    if isinstance(a.embedding, BesselEmbedding):
        B = a.embedding.num_bessels
        shapes["radial.roots"] = (B,)
        shapes["radial.linear"] = (B, M)
        shapes["radial.centre"] = shapes["radial.neighbour"] = (T, M // 2)
    else:
        shapes["radial.spline"] = (T, T, M, a.embedding.num_splines)
    shapes |= _mlp_shapes("two_body", a.two_body, M, S)
    shapes["tensor_embedding"] = (S, U * R)
    shapes["environment"] = (S, S + environment)
    for n, paths in enumerate(product_paths(a.l_max, a.parity, a.num_layers)):
        out = S + (environment if n < a.num_layers - 1 else 0)
        shapes |= _mlp_shapes(f"latent.{n}", a.latent, S * (n + 1) + U, out)
        shapes[f"product.{n}"] = (paths.num_paths, U)
    shapes |= _mlp_shapes("readout", a.readout, S * (a.num_layers + 1), 1)
    shapes["energy.scale"] = shapes["energy.shift"] = (T,)
    return shapes


def _mlp_shapes(name: str, mlp: MLPShape, dim_in: int, dim_out: int) -> dict[str, tuple[int, ...]]:
    dims = [dim_in, *[mlp.width] * mlp.depth, dim_out]
    return {f"{name}.{k}": (dims[k], dims[k + 1]) for k in range(len(dims) - 1)}


def fold(architecture: AllegroArchitecture, weights: Weights) -> FoldedExpert:
    """Fold every chain of linear maps into one matrix.

    Args:
        architecture: the expert's hyperparameters.
        weights: as named in this module's docstring, of one floating-point dtype and device.

    Returns:
        Folded weights of the same dtype; gradients flow back to `weights`.
    """
    a = architecture
    S = a.num_scalar_features
    two_body, two_body_out = _open_ends(_matrices(weights, "two_body", a.two_body))
    first_environment = two_body_out @ weights["environment"]
    projections = [first_environment[:, :S]]
    PE = [_by_degree(first_environment[:, S:], a)]
    tensor_weights = two_body_out @ weights["tensor_embedding"]
    Wh, Ws, latent_inner, contractions = [], [], [], []
    for n in range(a.num_layers):
        matrices, out = _open_ends(_matrices(weights, f"latent.{n}", a.latent))
        Wh.append(_by_source(projections, matrices[0], S))
        Ws.append(matrices[0][S * (n + 1) :])
        latent_inner.append(tuple(matrices[1:]))
        projections.append(out[:, :S])
        if n < a.num_layers - 1:
            PE.append(_by_degree(out[:, S:], a))
        contractions.append(_contraction(a, n, weights[f"product.{n}"]))
    readout, ro = _open_ends(_matrices(weights, "readout", a.readout))
    norm = ro.new_tensor(a.avg_num_neighbors).rsqrt()
    return FoldedExpert(
        l_max=a.l_max,
        cutoffs=torch.tensor(a.cutoffs, dtype=torch.float64, device=ro.device),
        radial=_radial_basis(a, weights),
        K1=_first_hidden(a, weights, two_body[0]),
        two_body_inner=tuple(two_body[1:]),
        two_body_activation=_activation(a.two_body),
        PV=_by_degree(tensor_weights, a, individual=True),
        PE=tuple(PE),
        contractions=tuple(contractions),
        Wh=tuple(Wh),
        Ws=tuple(Ws),
        latent_inner=tuple(latent_inner),
        latent_activation=_activation(a.latent),
        Rh=_by_source(projections, readout[0], S),
        readout_inner=tuple(readout[1:]),
        readout_activation=_activation(a.readout),
        ro=ro[:, 0],
        norm=norm,
        scale=_float64_norm(a, ro.device) * SQRT_HALF * weights["energy.scale"].double(),
        shift=weights["energy.shift"].double(),
        zbl=_zbl(a, ro.device),
    )


def _float64_norm(a: AllegroArchitecture, device: torch.device) -> Tensor:
    return torch.tensor(a.avg_num_neighbors, dtype=torch.float64, device=device).rsqrt()


def _activation(mlp: MLPShape) -> str | None:
    return mlp.nonlinearity if mlp.depth > 0 else None


def _matrices(weights: Weights, name: str, mlp: MLPShape) -> list[Tensor]:
    return [weights[f"{name}.{k}"] for k in range(mlp.depth + 1)]


def _open_ends(matrices: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Split a network into the matrices before its last hidden vector and the one after.

    A linear network is its own hidden vector, and the identity follows.
    """
    if len(matrices) == 1:
        width = matrices[0].shape[1]
        return matrices, torch.eye(width, dtype=matrices[0].dtype, device=matrices[0].device)
    return matrices[:-1], matrices[-1]


def _by_source(projections: list[Tensor], matrix: Tensor, S: int) -> tuple[Tensor, ...]:
    """One matrix per hidden vector: its scalar features, then their rows of `matrix`."""
    return tuple(
        projection @ matrix[m * S : (m + 1) * S] for m, projection in enumerate(projections)
    )


def _by_degree(matrix: Tensor, a: AllegroArchitecture, individual: bool | None = None) -> Tensor:
    """(H, U R) with the degree fastest, or (H, U) for all degrees alike, to (H, R, U)."""
    R, U = a.l_max + 1, a.num_tensor_features
    if individual if individual is not None else a.weight_individual_irreps:
        return matrix.view(-1, U, R).transpose(1, 2)
    return matrix[:, None, :].expand(-1, R, -1)


def _contraction(a: AllegroArchitecture, n: int, weights: Tensor) -> Contraction:
    paths = product_paths(a.l_max, a.parity, a.num_layers)[n]
    device = weights.device
    return Contraction(
        dim_in=paths.dim_in,
        i=paths.i.to(device),
        j=paths.j.to(device),
        k=paths.k.to(device),
        path=paths.path.to(device),
        coefficient=paths.coefficient.to(device=device, dtype=weights.dtype),
        weights=weights,
    )


def _radial_basis(a: AllegroArchitecture, weights: Weights) -> RadialBasis:
    if isinstance(a.embedding, BesselEmbedding):
        return BesselBasis(weights["radial.roots"].double(), a.embedding.polynomial_cutoff_p)
    return SplineBasis(a.embedding.num_splines, a.embedding.spline_span)


def _first_hidden(a: AllegroArchitecture, weights: Weights, matrix: Tensor) -> Tensor:
    """K1 (T, T, B, H): radial basis × type embedding × first matrix of the two-body network."""
    if not isinstance(a.embedding, BesselEmbedding):
        return torch.einsum("ijmb,mh->ijbh", weights["radial.spline"], matrix)
    T = a.num_types
    centre = weights["radial.centre"][:, None, :].expand(-1, T, -1)
    neighbor = weights["radial.neighbour"][None, :, :].expand(T, -1, -1)
    types = torch.cat([centre, neighbor], dim=-1)
    return torch.einsum("bm,ijm,mh->ijbh", weights["radial.linear"], types, matrix)


def _zbl(a: AllegroArchitecture, device: torch.device) -> ZBLPair | None:
    from ase.data import atomic_numbers

    if a.zbl is None:
        return None
    numbers = torch.tensor([atomic_numbers[name] for name in a.type_names], device=device)
    return ZBLPair(numbers, a.zbl.polynomial_cutoff_p)


def random_weights(architecture: AllegroArchitecture, seed: int) -> dict[str, Tensor]:
    """Float64 weights drawn as a fresh model's are: features of unit variance, zero shifts."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in weight_shapes(architecture).items():
        if name == "radial.roots":
            weights[name] = torch.arange(1, shape[0] + 1, dtype=torch.float64)
        elif name.startswith("energy."):
            weights[name] = torch.full(shape, float(name == "energy.scale"), dtype=torch.float64)
        else:
            embedding = name.startswith(("radial.centre", "radial.neighbour", "product."))
            fan_in = 1 if embedding else shape[-1] if name == "radial.spline" else shape[0]
            draw = torch.rand(shape, dtype=torch.float64, generator=generator)
            weights[name] = (2 * draw - 1) * math.sqrt(3 / fan_in)
    return weights
