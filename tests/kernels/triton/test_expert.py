"""The fused expert kernels against the float64 reference.

Without a GPU they run in Triton's interpreter. Outputs and stash hold NaN beforehand.
"""

from __future__ import annotations

import pytest
import torch

from duetto.kernels.triton import expert_launch, expert_math
from duetto.kernels.triton.expert_packing import pack
from duetto.kernels.triton.expert_writer import stash_layout
from tests.kernels.triton.expert_cases import (
    CASES,
    HF,
    LF,
    evaluate,
    folded_expert,
    reference,
    relative_errors,
    surroundings,
    work_list,
)
from tests.tolerances import FLOAT32

FP32_TOLERANCE = FLOAT32


@pytest.mark.parametrize("name", CASES)
def test_float32_matches_the_reference(name: str, device: str) -> None:
    expert = folded_expert(**CASES[name])
    edges = surroundings(expert, (7, 9, 5), device=device)
    errors = relative_errors(expert, edges, *evaluate(expert, edges))
    assert max(errors) < FP32_TOLERANCE, errors


@pytest.mark.parametrize(("l_max", "num_layers"), [(1, 1), (1, 2), (2, 2), (3, 1)])
def test_centres_of_a_program_do_not_see_each_other(
    l_max: int, num_layers: int, device: str
) -> None:
    """As many as fit, one of them without edges, against each by itself."""
    expert = folded_expert(types=("Pt",), l_max=l_max, num_layers=num_layers)
    size = pack(expert).spec.centres
    assert size == {1: 4, 2: 3, 3: 2}[l_max]
    edges = surroundings(expert, (6, 0, 7, 2)[:size], device=device)
    rows = list(range(size))
    together = evaluate(expert, edges, [work_list([rows], 16, device)])
    assert max(relative_errors(expert, edges, *together)) < FP32_TOLERANCE
    for row in rows:
        energies, gradients = evaluate(expert, edges, [work_list([row], 16, device)])
        of_row = edges.centre.cpu() == row
        assert energies[row] == pytest.approx(float(together[0][row]), rel=FP32_TOLERANCE)
        scale = together[1].abs().max()
        difference = (gradients - together[1])[:, of_row].abs()
        assert (difference < FP32_TOLERANCE * scale).all()


@pytest.mark.parametrize(("sizes", "edges_of_centre"), [(LF, 42), (HF, 54)], ids=["LF", "HF"])
def test_float32_matches_at_full_width(
    sizes: dict[str, object], edges_of_centre: int, device: str
) -> None:
    expert = folded_expert(types=("Pt", "C", "O"), **sizes)
    edges = surroundings(expert, (edges_of_centre, 31), device=device)
    errors = relative_errors(expert, edges, *evaluate(expert, edges))
    assert max(errors) < FP32_TOLERANCE, errors


@pytest.mark.parametrize(("sizes", "edges_of_centre"), [(LF, 42), (HF, 54)], ids=["LF", "HF"])
def test_split_bfloat16_keeps_sixteen_bits(
    sizes: dict[str, object], edges_of_centre: int, device: str
) -> None:
    expert = folded_expert(types=("Pt",), **sizes)
    edges = surroundings(expert, (edges_of_centre, 31), device=device)
    energies, gradients = evaluate(expert, edges, precision="bf16x3")
    # A product errs by 2⁻¹⁶ relative (the low parts are rounded to 2⁻¹⁷ each), and from an edge
    # to the energy and back lie at most 10 products per layer, whose errors add up. Products in
    # bfloat16 alone err by 2⁻⁹, in truncated TF32 by 2⁻¹⁰: either would show.
    errors = relative_errors(expert, edges, energies, gradients)
    assert max(errors) < 10 * expert.num_layers * 2**-16, errors


@pytest.mark.parametrize("sizes", [LF, HF], ids=["LF", "HF"])
def test_six_products_are_as_good_as_float32(
    sizes: dict[str, object], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if expert_launch.interpreted():
        six = expert_math.BF16X6 + expert_math.HELD
        monkeypatch.setattr(expert_launch, "precision_constant", lambda _: six)
    expert = folded_expert(types=("Pt",), **sizes)
    edges = surroundings(expert, (42,), device=device)
    errors = relative_errors(expert, edges, *evaluate(expert, edges))
    assert max(errors) < FP32_TOLERANCE, errors


def test_bfloat16_differs_from_float32(device: str) -> None:
    expert = folded_expert(**CASES["l1_one_layer"])
    edges = surroundings(expert, (12,), device=device)
    single, _ = evaluate(expert, edges, precision="fp32")
    split, _ = evaluate(expert, edges, precision="bf16x3")
    assert single[0] != split[0]


@pytest.mark.parametrize("tile", [16, 32, 64])
def test_size_of_the_tile_does_not_matter(tile: int, device: str) -> None:
    expert = folded_expert(num_layers=2)
    edges = surroundings(expert, (16, 3), device=device)
    work = [work_list([0, 1], tile, device)]
    errors = relative_errors(expert, edges, *evaluate(expert, edges, work))
    assert max(errors) < FP32_TOLERANCE, errors


def test_centre_without_neighbours_has_its_shift(device: str) -> None:
    expert = folded_expert(num_layers=2, shifts=(-6.0, -7.5, -5.1))
    edges = surroundings(expert, (0, 5, 0), device=device)
    energies, _ = evaluate(expert, edges)
    shift = expert.shift[edges.row_types.cpu().long()]
    assert energies[0] == shift[0]
    assert energies[2] == shift[2]


def test_edges_beyond_their_cutoff_contribute_nothing(device: str) -> None:
    expert = folded_expert(**CASES["per_type"])
    edges = surroundings(expert, (14, 14, 9, 9), device=device)
    _, gradients = evaluate(expert, edges)
    _, exact = reference(expert, edges)
    beyond = (exact == 0).all(dim=0)
    assert beyond.any()
    assert (gradients[:, beyond] == 0).all()


def test_only_listed_rows_are_written(device: str) -> None:
    expert = folded_expert(num_layers=2)
    edges = surroundings(expert, (5, 6, 7, 8), device=device)
    listed = work_list([3, 1, 0], 16, device)
    listed.count.fill_(2)
    energies, gradients = evaluate(expert, edges, [listed])
    exact, _ = reference(expert, edges)
    centre = edges.centre.cpu()
    assert torch.isnan(energies[[0, 2]]).all()
    assert torch.allclose(energies[[1, 3]], exact[[1, 3]], rtol=FP32_TOLERANCE)
    written = (centre == 1) | (centre == 3)
    assert torch.isfinite(gradients[:, written]).all()
    assert torch.isnan(gradients[:, ~written]).all()


def test_bounded_stash_gives_the_same_bits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of one list in several launches, in the memory of one or two of them."""
    expert = folded_expert(num_layers=2)
    edges = surroundings(expert, (5, 6, 7, 8, 9), device=device)
    kernels = expert_launch.ExpertKernels(pack(expert).to(device), "fp32")
    launches = []
    launch = expert_launch.ExpertKernels._launch
    monkeypatch.setattr(
        expert_launch.ExpertKernels,
        "_launch",
        lambda self, *rest: (launches.append(rest[2:4]), launch(self, *rest)),
    )
    results = []
    one = 4 * stash_layout(kernels.packed.spec).floats_per_program(16)
    for stash_bytes in (expert_launch.STASH_BYTES, 2 * one + 3, 1):
        kernels = expert_launch.ExpertKernels(pack(expert).to(device), "fp32", stash_bytes)
        outputs = edges.row_types.new_zeros(5, dtype=torch.float64), edges.vectors.clone()
        kernels.evaluate_rows(edges, [work_list(range(5), 16, device)], *outputs)
        assert 4 * kernels._stash.numel() <= max(stash_bytes, one)
        results.append(outputs)
    assert launches == [(0, 5), (0, 2), (2, 2), (4, 1), *[(k, 1) for k in range(5)]]
    for energies, gradients in results[1:]:
        assert torch.equal(energies, results[0][0])
        assert torch.equal(gradients, results[0][1])


def test_larger_stash_is_another_generation(device: str) -> None:
    expert = folded_expert(num_layers=2)
    edges = surroundings(expert, (5, 6), device=device)
    kernels = expert_launch.ExpertKernels(pack(expert).to(device), "fp32")
    outputs = torch.zeros(2, dtype=torch.float64, device=device), torch.zeros_like(edges.vectors)
    generations = [kernels.generation]
    for rows in ([0], [0, 1], [1]):
        kernels.evaluate_rows(edges, [work_list(rows, 16, device)], *outputs)
        generations.append(kernels.generation)
    assert generations == [0, 1, 2, 2]


def test_more_edges_than_the_tile_is_no_energy(device: str) -> None:
    expert = folded_expert()
    edges = surroundings(expert, (17, 16, 9, 8), device=device)
    energies, _ = evaluate(expert, edges, [work_list([0, 1, [2, 3]], 16, device)])
    assert torch.isnan(energies[[0, 3]]).all()
    assert torch.isfinite(energies[[1, 2]]).all()


def test_gradient_is_the_slope_of_the_energy(device: str) -> None:
    expert = folded_expert(l_max=2, num_layers=2)
    edges = surroundings(expert, (12,), device=device)
    _, gradients = evaluate(expert, edges)
    # Central differences of float32 energies: rounding 6e-8 |E| / h and truncation h² balance
    # near h = 5e-3 Å, at about 1e-4 of the force scale.
    step = 5e-3
    direction = torch.randn(edges.vectors.shape, generator=torch.Generator().manual_seed(1))
    energies = []
    for sign in (1, -1):
        moved = surroundings(expert, (12,), device=device)
        moved.vectors += sign * step * direction.to(device)
        energies.append(evaluate(expert, moved)[0].sum())
    slope = (energies[0] - energies[1]) / (2 * step)
    scale = gradients.norm() * direction.norm()
    assert abs(slope - (gradients * direction).sum()) < 1e-4 * scale
