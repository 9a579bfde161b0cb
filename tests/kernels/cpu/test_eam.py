"""The embedded-atom kernel against autograd of the plain-torch reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.kernels.cpu.eam import CPUEam
from duetto.kernels.cpu.expert import Chunk, Workspace
from duetto.kernels.eam import EamTables, eam_site_energies, spline_coefficients

T, C, K, M = 3, 20, 50, 30
CUTOFF = 5.0
RELATIVE = {torch.float32: 2e-6, torch.float64: 1e-12}
"""Sums are double precision; float32 rounds vectors, of which the functions' relative slopes make
some ten times their rounding, and gradients."""


def tables(generator: np.random.Generator, scale: float) -> EamTables:
    """Rough tables: every rule for their ends matters, unlike in those that fade out."""
    product = generator.normal(size=(T, T, K))
    return EamTables(
        torch.tensor(generator.normal(size=(T, M))),
        torch.tensor(generator.normal(size=(T, T, K)) + 0.2),
        torch.tensor(product + product.transpose(1, 0, 2)),
        drho=0.3,
        dr=scale * CUTOFF / (K + 2),  # the cutoff is three intervals beyond the last point
        distance_scale=scale,
        energy_scale=1.7,
        shift=torch.tensor(generator.normal(size=T)),
    )


@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_energies_and_gradients(scale: float, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    known = tables(generator, scale)
    counts = generator.integers(0, 40, C)
    counts[3] = 0
    rows = np.concatenate([[0], np.cumsum(counts)])
    E = int(rows[-1])
    directions = generator.normal(size=(E, 3))
    lengths = generator.uniform(0.02, CUTOFF, (E, 1))
    vectors = directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths
    x = torch.tensor(vectors, dtype=dtype)
    types, others = generator.integers(0, T, C), generator.integers(0, T, E)
    row = np.repeat(np.arange(C), counts)
    reference = x.double().clone().requires_grad_()
    expected = eam_site_energies(
        known, reference, torch.tensor(row), torch.tensor(types), torch.tensor(others)
    )
    (slopes,) = torch.autograd.grad(expected.sum(), reference)

    kernel = CPUEam(known, CUTOFF, dtype)
    energy = np.full(C, np.nan)
    gradient = np.full((E, 3), np.nan, kernel.numpy_dtype)
    chunk = Chunk(rows, types[row] * T + others, types, x.numpy())
    kernel.evaluate(Workspace(dtype), chunk, energy, gradient)
    for found, wanted in ((energy, expected.detach().numpy()), (gradient, slopes.numpy())):
        assert np.abs(found - wanted).max() < RELATIVE[dtype] * np.abs(wanted).max()
    assert energy[3] == pytest.approx(
        1.7 * float(known.embedding[types[3], 0]) + float(known.shift[types[3]])
    )


def test_splines_go_through_their_points_with_one_slope() -> None:
    values = torch.randn(4, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = spline_coefficients(values)
    end = c[:, :-1].sum(-1)
    assert torch.allclose(end, values[:, 1:])
    slope = 3 * c[:, :-2, 0] + 2 * c[:, :-2, 1] + c[:, :-2, 2]
    assert torch.allclose(slope, c[:, 1:-1, 2])


def test_cubics_are_exact_inside() -> None:
    x = torch.linspace(0, 1, 30, dtype=torch.float64)
    c = spline_coefficients(x**3)
    middle = 0.125 * c[2:-3, 0] + 0.25 * c[2:-3, 1] + 0.5 * c[2:-3, 2] + c[2:-3, 3]
    assert torch.allclose(middle, ((x[2:-3] + x[3:-2]) / 2) ** 3, atol=1e-14)
