"""The linear form's reference against finite differences and the symmetries of space."""

import numpy as np
import pytest
import torch

from duetto.kernels.linear import (
    COMPRESSION,
    LinearForm,
    atomic_energies,
    compressed,
    radial_functions,
)
from tests.linear_experts import SHAPES, Box, random_expert


def energies(form: LinearForm, box: Box, vectors: torch.Tensor) -> torch.Tensor:
    types = torch.from_numpy(box.types)
    return atomic_energies(form, vectors, box.i, types, types[box.j])


@pytest.fixture(params=SHAPES)
def case(request: pytest.FixtureRequest) -> tuple[LinearForm, Box, torch.Tensor]:
    form = random_expert(request.param).form()
    box = Box(form)
    return form, box, box.vectors_of(torch.from_numpy(box.positions))[box.near]


def test_energies_do_not_change_under_rotation_and_reflection(
    case: tuple[LinearForm, Box, torch.Tensor],
) -> None:
    form, box, vectors = case
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    before = energies(form, box, vectors)
    for matrix in (torch.from_numpy(q), -torch.eye(3, dtype=torch.float64)):
        torch.testing.assert_close(
            energies(form, box, vectors @ matrix), before, rtol=1e-12, atol=1e-12
        )


def test_energies_do_not_depend_on_the_order_of_neighbors(
    case: tuple[LinearForm, Box, torch.Tensor],
) -> None:
    form, box, vectors = case
    before = energies(form, box, vectors)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    types = torch.from_numpy(box.types)
    after = atomic_energies(form, vectors[order], box.i[order], types, types[box.j[order]])
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences(
    case: tuple[LinearForm, Box, torch.Tensor],
) -> None:
    form, box, vectors = case
    leaf = vectors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energies(form, box, leaf).sum(), leaf)
    step = 1e-4
    for edge in range(0, len(vectors), len(vectors) // 12):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = vectors.clone()
                moved[edge, axis] += sign * step
                ends.append(energies(form, box, moved).sum())
            # Truncation: third derivatives times step² / 6.
            expected = (ends[0] - ends[1]) / (2 * step)
            scale = gradient.abs().max()
            assert abs(gradient[edge, axis] - expected) < 1e-6 * scale


def test_radial_functions_end_smoothly() -> None:
    cutoff = torch.tensor([4.5], dtype=torch.float64)
    inner = torch.tensor([2.2], dtype=torch.float64)

    def derivatives(r: float) -> list[torch.Tensor]:
        length = torch.tensor([r], dtype=torch.float64, requires_grad=True)
        found = [radial_functions(length, cutoff, inner, 6)[0]]
        for _ in range(2):
            rows = [
                torch.autograd.grad(value, length, create_graph=True)[0][0]
                if value.requires_grad
                else value * 0
                for value in found[-1]
            ]
            found.append(torch.stack(rows))
        return found

    for order in derivatives(4.5 - 1e-9):
        # Of (1 − x)³ T_n(y) the second derivative falls as 6 (1 − x) n^0 / r_c².
        assert order.abs().max() < 1e-8
    below, above = derivatives(2.2 - 1e-9), derivatives(2.2 + 1e-9)
    for one, other in zip(below, above, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_distances_are_compressed_to_a_constant() -> None:
    inner = torch.tensor([2.2], dtype=torch.float64)
    r = torch.linspace(0.1, 2.2 - COMPRESSION, 5, dtype=torch.float64)
    torch.testing.assert_close(
        compressed(r, inner), torch.full_like(r, 2.2 - COMPRESSION / 2), rtol=0, atol=1e-15
    )
    far = torch.linspace(2.2, 5.0, 5, dtype=torch.float64)
    assert torch.equal(compressed(far, inner), far)
