"""The GPU's kernels of linear experts against the float64 reference.

Without a GPU they run in Triton's interpreter. Outputs and scratch hold NaN beforehand.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from duetto.kernels.linear import LinearForm, atomic_energies
from duetto.kernels.triton import linear
from duetto.kernels.triton.expert_launch import WorkList
from duetto.kernels.triton.linear_launch import LinearKernels, passes
from tests.kernels.triton.expert_cases import Surroundings, surroundings, work_list
from tests.linear_experts import SHAPES, random_expert

TOLERANCE = 2e-5
"""Sums of some hundred products of three moments, each good to float32's rounding; the CPU's."""


def reference(form: LinearForm, edges: Surroundings) -> tuple[Tensor, Tensor]:
    """Float64 energies (R,) and gradients (3, E) of the sum of energies, by autograd."""
    vectors = edges.vectors.double().cpu().T.clone().requires_grad_()
    centre, types = edges.centre.cpu(), edges.row_types.cpu().long()
    others = edges.neighbor_types.cpu().long()
    near = vectors.detach().norm(dim=1) < form.cutoffs[types[centre], others]
    energies = atomic_energies(form, vectors[near], centre[near], types, others[near])
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    return energies.detach(), gradient.T


def evaluate(
    form: LinearForm,
    edges: Surroundings,
    work: list[WorkList] | None = None,
    max_centres: int = 65536,
) -> tuple[Tensor, Tensor]:
    """The kernels' energies and gradients, in outputs that held NaN before."""
    device = str(edges.vectors.device)
    rows = len(edges.row_types)
    kernels = LinearKernels(form, device, max_centres)
    for name in ("_moments", "_gradient", "_wall"):
        size = 4096 * form.layout.num_moments if name != "_wall" else 4096
        setattr(kernels, name, torch.full((size,), torch.nan, device=device))
    energies = torch.full((rows,), torch.nan, dtype=torch.float64, device=device)
    gradients = torch.full_like(edges.vectors, torch.nan)
    work = work or [work_list(list(range(rows)), 256, device)]
    kernels.evaluate_rows(edges, work, energies, gradients)
    return energies.cpu(), gradients.cpu()


def errors(
    form: LinearForm, edges: Surroundings, energies: Tensor, gradients: Tensor
) -> tuple[float, float]:
    """Largest error of energies, without the shifts, and gradients over the largest there are."""
    exact, slopes = reference(form, edges)
    binding = exact - form.shift[edges.row_types.cpu().long()]
    return (
        ((energies - exact).abs().max() / binding.abs().max()).item(),
        ((gradients - slopes).abs().max() / slopes.abs().max()).item(),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_matches_the_reference(shape: str, device: str) -> None:
    form = random_expert(shape).form()
    edges = surroundings(form, (18, 0, 25, 1, 12), device=device)
    found = evaluate(form, edges)
    assert max(errors(form, edges, *found)) < TOLERANCE
    assert found[0][1] == form.shift[edges.row_types[1]]


def test_radial_functions_come_in_passes(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form = random_expert("l_max 3, all four-body degrees, wall").form()
    edges = surroundings(form, (18, 7), device=device)
    whole = evaluate(form, edges)
    monkeypatch.setattr(linear, "MOST_REGISTERS", 16)
    assert len(passes(form.layout)) == 4
    parts = evaluate(form, edges)
    assert torch.equal(parts[0], whole[0])
    assert max(errors(form, edges, *parts)) < TOLERANCE


def test_edges_beyond_their_cutoff_contribute_nothing(device: str) -> None:
    form = random_expert("three species, one without moments, wall").form()
    edges = surroundings(form, (24,), device=device)
    _, gradients = evaluate(form, edges)
    _, exact = reference(form, edges)
    beyond = (exact == 0).all(dim=0)
    assert beyond.any()
    assert (gradients[:, beyond] == 0).all()


def test_only_listed_rows_are_written(device: str) -> None:
    form = random_expert("one species, l_max 2").form()
    edges = surroundings(form, (5, 6, 7, 8), device=device)
    listed = work_list([3, 1, 0], 16, device)
    listed.count.fill_(2)
    energies, gradients = evaluate(form, edges, [listed])
    exact, _ = reference(form, edges)
    assert torch.isnan(energies[[0, 2]]).all()
    torch.testing.assert_close(energies[[1, 3]], exact[[1, 3]], rtol=TOLERANCE, atol=TOLERANCE)
    written = (edges.centre.cpu() == 1) | (edges.centre.cpu() == 3)
    assert torch.isfinite(gradients[:, written]).all()
    assert torch.isnan(gradients[:, ~written]).all()


def test_launches_in_parts_give_the_same_bits(device: str) -> None:
    form = random_expert("one species, l_max 2").form()
    edges = surroundings(form, (5, 6, 7, 8, 9), device=device)
    whole, parts = evaluate(form, edges), evaluate(form, edges, max_centres=2)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_larger_scratch_is_another_generation(device: str) -> None:
    form = random_expert("one species, l_max 2").form()
    edges = surroundings(form, (5, 6), device=device)
    kernels = LinearKernels(form, device)
    outputs = torch.zeros(2, dtype=torch.float64, device=device), torch.zeros_like(edges.vectors)
    generations = [kernels.generation]
    for rows in ([0], [0, 1], [1]):
        kernels.evaluate_rows(edges, [work_list(rows, 16, device)], *outputs)
        generations.append(kernels.generation)
    assert generations == [0, 1, 2, 2]
