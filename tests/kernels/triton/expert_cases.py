"""Tiny experts drawn across what the fused kernels cover, and random surroundings for them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    BesselEmbedding,
    MLPShape,
    SplineEmbedding,
    ZBLTerm,
)
from duetto.experts.allegro.folding import fold, random_weights
from duetto.kernels.folded import FoldedExpert, atomic_energies
from duetto.kernels.triton.expert_launch import STASH_BYTES, ExpertKernels, WorkList, edge_tile
from duetto.kernels.triton.expert_packing import pack
from duetto.kernels.triton.expert_spec import SLOTS

TYPES = ("Pt", "C", "O")

LF: dict[str, Any] = {
    "num_scalar_features": 32, "num_tensor_features": 16, "two_body": 32, "latent": 32,
    "readout": 32, "r_max": 5.0,
}  # fmt: skip
HF: dict[str, Any] = {
    "l_max": 2, "num_layers": 2, "num_scalar_features": 64, "num_tensor_features": 32,
    "two_body": 64, "latent": 64, "readout": 32, "r_max": 6.0,
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "l1_one_layer": {"types": ("Pt",)},
    "two_types": {"types": ("Pt", "C"), "l_max": 2, "num_layers": 2},
    "l1_three_layers": {"num_layers": 3},
    "l2_parity": {"l_max": 2, "num_layers": 2},
    "l2_no_parity": {"l_max": 2, "num_layers": 2, "parity": False},
    "l2_three_layers_parity": {"l_max": 2, "num_layers": 3},
    "l3_one_layer": {"l_max": 3},
    "l3_parity": {"l_max": 3, "num_layers": 2},
    "l3_three_layers_no_parity": {"l_max": 3, "num_layers": 3, "parity": False},
    "uncoupled_paths": {"l_max": 2, "num_layers": 2, "coupling": False, "individual": False},
    "other_cutoff": {"embedding": BesselEmbedding(7, 5.0, True), "num_layers": 2},
    "fractional_cutoff": {"embedding": BesselEmbedding(8, 4.5)},
    "steep_cutoff": {"embedding": BesselEmbedding(8, 48.0)},
    "spline": {"l_max": 2, "embedding": SplineEmbedding(10, 6)},
    "linear_mlps": {"l_max": 2, "num_layers": 2, "nonlinearity": (None, None, None)},
    "no_latent_nonlinearity": {"num_layers": 2, "nonlinearity": ("silu", None, "silu")},
    "mish_gelu_ssp": {"num_layers": 2, "nonlinearity": ("mish", "gelu", "ssp")},
    "tanh_sigmoid_softplus": {"num_layers": 2, "nonlinearity": ("tanh", "sigmoid", "softplus")},
    "per_type": {
        "l_max": 2,
        "num_layers": 2,
        "cutoffs": ((3.9, 3.9, 3.9), (3.5, 2.9, 3.1), (4.1, 4.1, 4.1)),
        "avg_num_neighbors": (14.0, 9.0, 7.0),
        "scales": (1.3, 0.7, 0.9),
        "shifts": (-6.0, -7.5, -5.1),
    },
    "zbl": {"zbl": ZBLTerm(6.0)},
    "zbl_two_layers": {"zbl": ZBLTerm(6.0), "num_layers": 2},
    "widths_to_pad": {
        "l_max": 2, "num_layers": 2, "num_scalar_features": 12, "num_tensor_features": 5,
        "two_body": 20, "latent": 10, "readout": 6,
    },
    "many_types": {"types": ("Pt", "C", "O", "H", "N", "Cu", "Ag"), "num_layers": 2},
}  # fmt: skip


def architecture(
    types: tuple[str, ...] = TYPES,
    r_max: float = 4.1,
    cutoffs: tuple[tuple[float, ...], ...] | None = None,
    l_max: int = 1,
    num_layers: int = 1,
    parity: bool = True,
    num_scalar_features: int = 16,
    num_tensor_features: int = 16,
    two_body: int = 16,
    latent: int = 16,
    readout: int = 16,
    depth: int = 1,
    embedding: BesselEmbedding | SplineEmbedding | None = None,
    nonlinearity: tuple[str | None, str | None, str | None] = ("silu", "silu", "silu"),
    coupling: bool = True,
    individual: bool = True,
    avg_num_neighbors: tuple[float, ...] | None = None,
    zbl: ZBLTerm | None = None,
) -> AllegroArchitecture:
    def mlp(width: int, name: str | None) -> MLPShape:
        return MLPShape(depth if name is not None else 0, width, name)

    return AllegroArchitecture(
        type_names=types,
        r_max=r_max,
        cutoffs=cutoffs or ((r_max,) * len(types),) * len(types),
        l_max=l_max,
        parity=parity,
        num_layers=num_layers,
        num_scalar_features=num_scalar_features,
        num_tensor_features=num_tensor_features,
        embedding=embedding or BesselEmbedding(8, 6.0),
        embedding_dim=num_scalar_features,
        two_body=mlp(two_body, nonlinearity[0]),
        latent=mlp(latent, nonlinearity[1]),
        readout=mlp(readout, nonlinearity[2]),
        tp_path_channel_coupling=coupling,
        weight_individual_irreps=individual,
        avg_num_neighbors=avg_num_neighbors or (12.0,) * len(types),
        zbl=zbl,
    )


def folded_expert(
    scales: tuple[float, ...] | None = None,
    shifts: tuple[float, ...] | None = None,
    seed: int = 7,
    **changes: Any,
) -> FoldedExpert:
    """A float64 expert with random weights; keywords as in `architecture`."""
    a = architecture(**changes)
    weights = random_weights(a, seed)
    if scales is not None:
        weights["energy.scale"] = torch.tensor(scales, dtype=torch.float64)
    if shifts is not None:
        weights["energy.shift"] = torch.tensor(shifts, dtype=torch.float64)
    return fold(a, weights)


@dataclass
class Surroundings:
    """Edges in rows; `centre` is the row of each edge. Meets the protocol EdgeRows."""

    rowptr: Tensor
    vectors: Tensor
    neighbor_types: Tensor
    row_types: Tensor
    centre: Tensor


def surroundings(
    expert: FoldedExpert, counts: tuple[int, ...], seed: int = 3, device: str = "cpu"
) -> Surroundings:
    """Random neighbours between 1.7 Å and the largest cutoff, so some lie beyond their own.

    Rows come in pairs of one type, which share a program.
    """
    generator = torch.Generator().manual_seed(seed)
    number = torch.tensor(counts)
    centre = torch.repeat_interleave(torch.arange(len(counts)), number)
    E = len(centre)
    direction = torch.randn(E, 3, dtype=torch.float64, generator=generator)
    direction /= direction.norm(dim=1, keepdim=True)
    reach = float(expert.cutoffs.max()) - 1.7
    length = 1.7 + reach * torch.rand(E, 1, dtype=torch.float64, generator=generator) ** 0.5
    T = expert.num_types
    types = torch.randint(T, (len(counts),), generator=generator).int()
    rowptr = torch.zeros(len(counts) + 1, dtype=torch.int64)
    rowptr[1:] = number.cumsum(0)
    return Surroundings(
        rowptr=rowptr.to(device),
        vectors=(direction * length).T.float().contiguous().to(device),
        neighbor_types=torch.randint(T, (E,), generator=generator).int().to(device),
        row_types=types.repeat_interleave(2)[: len(counts)].to(device),
        centre=centre.to(device),
    )


def reference(expert: FoldedExpert, edges: Surroundings) -> tuple[Tensor, Tensor]:
    """Float64 energies (R,) and gradients (3, E) of the sum of energies, by autograd."""
    vectors = edges.vectors.double().cpu().T.clone().requires_grad_()
    centre, types = edges.centre.cpu(), edges.row_types.cpu().long()
    neighbours = edges.neighbor_types.cpu().long()
    near = vectors.detach().norm(dim=1) < expert.cutoffs[types[centre], neighbours]
    energies = atomic_energies(expert, vectors[near], centre[near], types, neighbours[near])
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    return energies.detach(), gradient.T


def work_list(packs: Sequence[int | Sequence[int]], tile: int, device: str = "cpu") -> WorkList:
    """Packs of rows, a row by itself for a number."""
    rows = [[pack] if isinstance(pack, int) else list(pack) for pack in packs]
    listed = torch.tensor([row + [-1] * (SLOTS - len(row)) for row in rows], dtype=torch.int32)
    count = torch.tensor([len(rows)], dtype=torch.int32, device=device)
    return WorkList(listed.to(device), count, len(rows), tile)


def packed(size: int, edges: Surroundings) -> WorkList:
    """All rows, up to `size` of one type together, in the smallest tile that holds the largest."""
    packs: list[list[int]] = []
    by_type = sorted(range(len(edges.row_types)), key=lambda row: int(edges.row_types[row]))
    for _, alike in itertools.groupby(by_type, key=lambda row: int(edges.row_types[row])):
        rows = list(alike)
        packs += [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    counts = edges.rowptr.diff().tolist()
    most = max(sum(counts[row] for row in pack) for pack in packs)
    return work_list(packs, edge_tile(most), str(edges.vectors.device))


def evaluate(
    expert: FoldedExpert,
    edges: Surroundings,
    work: list[WorkList] | None = None,
    precision: str = "fp32",
    stash_bytes: int = STASH_BYTES,
) -> tuple[Tensor, Tensor]:
    """The kernels' energies and gradients, in outputs that held NaN before."""
    device = edges.vectors.device
    rows = len(edges.row_types)
    kernels = ExpertKernels(pack(expert).to(device), precision, stash_bytes)
    # Stale stash must not reach a result either.
    kernels._stash = torch.full((1 << 20,), torch.nan, dtype=torch.float32, device=device)
    energies = torch.full((rows,), torch.nan, dtype=torch.float64, device=device)
    gradients = torch.full_like(edges.vectors, torch.nan)
    work = work or [packed(kernels.pack_size, edges)]
    kernels.evaluate_rows(edges, work, energies, gradients)
    return energies.cpu(), gradients.cpu()


def relative_errors(
    expert: FoldedExpert, edges: Surroundings, energies: Tensor, gradients: Tensor
) -> tuple[float, float]:
    """Largest error of energies and gradients over the largest that there are.

    Energies are taken without the shifts, which would hide an error.
    """
    exact_energies, exact_gradients = reference(expert, edges)
    binding = exact_energies - expert.shift[edges.row_types.cpu().long()]
    return (
        ((energies - exact_energies).abs().max() / binding.abs().max()).item(),
        ((gradients - exact_gradients).abs().max() / exact_gradients.abs().max()).item(),
    )
