"""The expert kernels as a torch operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from duetto.kernels.triton.expert_launch import ExpertKernels
from duetto.kernels.triton.expert_ops import _expert_energies, expert_energies
from duetto.kernels.triton.expert_packing import PackedExpert, pack
from tests.kernels.triton.expert_cases import (
    Surroundings,
    folded_expert,
    reference,
    surroundings,
    work_list,
)
from tests.tolerances import FLOAT32

TOLERANCE = FLOAT32


def energies_of(packed: PackedExpert, vectors: torch.Tensor, edges: Surroundings) -> torch.Tensor:
    rows = torch.arange(len(edges.row_types), dtype=torch.int32, device=vectors.device)
    return expert_energies(
        packed, vectors, edges.rowptr, edges.neighbor_types, edges.row_types, rows,
        tile=16, precision="fp32",
    )  # fmt: skip


def test_gradient_of_weighted_energies(device: str) -> None:
    expert = folded_expert(num_layers=2)
    edges = surroundings(expert, (5, 0, 9), device=device)
    vectors = edges.vectors.clone().requires_grad_()
    weights = torch.tensor([0.3, 1.0, -2.0], dtype=torch.float64, device=device)
    energies = energies_of(pack(expert).to(device), vectors, edges)
    (gradient,) = torch.autograd.grad((weights * energies).sum(), vectors)
    exact_energies, exact = reference(expert, edges)
    exact = exact * weights.cpu()[edges.centre.cpu()]
    assert torch.allclose(energies.cpu(), exact_energies, rtol=TOLERANCE)
    assert (gradient.cpu() - exact).abs().max() < TOLERANCE * exact.abs().max()


def test_second_derivatives_are_refused(device: str) -> None:
    expert = folded_expert()
    edges = surroundings(expert, (6,), device=device)
    vectors = edges.vectors.clone().requires_grad_()
    energies = energies_of(pack(expert).to(device), vectors, edges)
    (gradient,) = torch.autograd.grad(energies.sum(), vectors, create_graph=True)
    # Beside another term that does have a derivative, too: nothing may be left out silently.
    with pytest.raises(RuntimeError, match="first derivatives of the energy only"):
        (gradient.square().sum() + vectors.sum()).backward()


def test_operator_is_sound(device: str) -> None:
    expert = folded_expert()
    packed = pack(expert).to(device)
    edges = surroundings(expert, (6, 3), device=device)
    rows = torch.arange(2, dtype=torch.int32, device=device)
    torch.library.opcheck(
        _expert_energies,
        (
            edges.vectors.clone().requires_grad_(), edges.rowptr, edges.neighbor_types,
            edges.row_types, rows, packed.table, packed.high, packed.middle, packed.low,
            packed.type_energies, packed.structure, "fp32", 16,
        ),
    )  # fmt: skip


def test_compiles_in_one_graph(device: str) -> None:
    expert = folded_expert()
    packed = pack(expert).to(device)
    edges = surroundings(expert, (6, 3), device=device)

    def forces(vectors: torch.Tensor) -> torch.Tensor:
        energies = energies_of(packed, vectors, edges)
        return energies.sum()

    eager, traced = (edges.vectors.clone().requires_grad_() for _ in range(2))
    forces(eager).backward()
    torch.compile(forces, backend="aot_eager", fullgraph=True)(traced).backward()
    assert eager.grad is not None
    assert traced.grad is not None
    assert torch.equal(eager.grad, traced.grad)


WRONG: dict[str, Any] = {
    "vectors": lambda t: t.double(),
    "rowptr": lambda t: t.int(),
    "neighbor_types": lambda t: t[1:],
    "row_types": lambda t: t.long(),
    "energies": lambda t: t.float(),
    "gradients": lambda t: t.T.contiguous().T,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str, device: str) -> None:
    expert = folded_expert()
    edges = surroundings(expert, (6, 3), device=device)
    outputs = {
        "energies": torch.zeros(2, dtype=torch.float64, device=device),
        "gradients": torch.zeros_like(edges.vectors),
    }
    if name in outputs:
        outputs[name] = WRONG[name](outputs[name])
    else:
        setattr(edges, name, WRONG[name](getattr(edges, name)))
    kernels = ExpertKernels(pack(expert).to(device), "fp32")
    with pytest.raises(ValueError, match=f"^{name}:"):
        kernels.evaluate_rows(edges, [work_list([0, 1], 16, device)], **outputs)


def test_wrong_work_lists_are_named(device: str) -> None:
    expert = folded_expert()
    edges = surroundings(expert, (6, 3), device=device)
    kernels = ExpertKernels(pack(expert).to(device), "fp32")
    outputs = (
        torch.zeros(2, dtype=torch.float64, device=device),
        torch.zeros_like(edges.vectors),
    )
    with pytest.raises(ValueError, match="tile 48"):
        kernels.evaluate_rows(edges, [work_list([0], 48, device)], *outputs)
