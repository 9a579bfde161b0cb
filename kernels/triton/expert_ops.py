"""The expert kernels as an operator of torch, for autograd, torch.compile and AOTInductor.

Everything an evaluation depends on is an argument, the structure of the expert as JSON, so that
an exported program needs nothing but this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duetto.kernels.triton.expert_launch import ExpertKernels, WorkList, packs_of_one
from duetto.kernels.triton.expert_packing import PackedExpert
from duetto.kernels.triton.expert_spec import KernelSpec


@dataclass(frozen=True)
class _Rows:
    """Meets the protocol EdgeRows."""

    rowptr: Tensor
    neighbor_types: Tensor
    vectors: Tensor
    row_types: Tensor


@torch.library.custom_op("duetto::expert_energies", mutates_args=())
def _expert_energies(
    vectors: Tensor,
    rowptr: Tensor,
    neighbor_types: Tensor,
    row_types: Tensor,
    rows: Tensor,
    table: Tensor,
    high: Tensor,
    middle: Tensor,
    low: Tensor,
    type_energies: Tensor,
    spec: str,
    precision: str,
    tile: int,
) -> tuple[Tensor, Tensor]:
    structure = KernelSpec.from_json(spec)
    packed = PackedExpert(structure, spec, table, high, middle, low, type_energies)
    energies = vectors.new_zeros(len(row_types), dtype=torch.float64)
    gradients = torch.zeros_like(vectors)
    count = torch.full((1,), len(rows), dtype=torch.int32, device=vectors.device)
    edges = _Rows(rowptr, neighbor_types, vectors.detach(), row_types)
    work = [WorkList(packs_of_one(rows), count, len(rows), tile)]
    ExpertKernels(packed, precision).evaluate_rows(edges, work, energies, gradients)
    return energies, gradients


@_expert_energies.register_fake
def _(vectors: Tensor, rowptr: Tensor, neighbor_types: Tensor, row_types: Tensor, *_: Any) -> Any:
    energies = vectors.new_empty(row_types.shape[0], dtype=torch.float64)
    return energies, torch.empty_like(vectors)


@torch.library.custom_op("duetto::expert_adjoint", mutates_args=())
def _expert_adjoint(vectors: Tensor, gradients: Tensor, weights: Tensor, rowptr: Tensor) -> Tensor:
    """Gradient of Σ weights · energies. The vectors are here for what autograd must know of."""
    slots = torch.arange(vectors.shape[1], device=vectors.device)
    # Slots behind the last row belong to nobody; their gradients are zero.
    row = torch.searchsorted(rowptr, slots, right=True) - 1
    return gradients * weights[row.clamp(max=len(weights) - 1)].to(gradients.dtype)


@_expert_adjoint.register_fake
def _(vectors: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(vectors)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(inputs[0], output[1], inputs[1])


def _backward(ctx: Any, weights: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    vectors, gradients, rowptr = ctx.saved_tensors
    return (_expert_adjoint(vectors, gradients, weights, rowptr), *[None] * 12)


def _refuse(ctx: Any, _: Tensor) -> None:
    raise RuntimeError(
        "the fused expert kernels give first derivatives of the energy only; "
        "evaluate duetto.kernels.folded.atomic_energies for higher ones"
    )


_expert_energies.register_autograd(_backward, setup_context=_save)
_expert_adjoint.register_autograd(_refuse)


def expert_energies(
    packed: PackedExpert,
    vectors: Tensor,
    rowptr: Tensor,
    neighbor_types: Tensor,
    row_types: Tensor,
    rows: Tensor,
    *,
    tile: int,
    precision: str = "bf16x3",
) -> Tensor:
    """Energies of centres by the fused kernels, differentiable once in the vectors.

    The derivative is the analytic one that the kernels compute along with the energy.

    Args:
        packed: the expert, on the vectors' device.
        vectors: (3, E) float32, r_j − r_i, Å, those of one row next to each other.
        rowptr: (R + 1,) int64, where each row begins and ends.
        neighbor_types: (E,) int32.
        row_types: (R,) int32, types of the centres.
        rows: (C,) int32, the rows to evaluate.
        tile: edges that a centre may have, one of `expert_launch.EDGE_TILES`.
        precision: "fp32" or "bf16x3", of matrix products.

    Returns:
        (R,) float64, eV; 0 for rows that are not evaluated, NaN for those with more edges.

    Raises:
        ValueError: an argument has the wrong shape, type or layout.
        RuntimeError: second derivatives were asked for.
    """
    energies, _ = _expert_energies(
        vectors, rowptr, neighbor_types, row_types, rows,
        packed.table, packed.high, packed.middle, packed.low, packed.type_energies,
        packed.structure, precision, tile,
    )  # fmt: skip
    return energies
