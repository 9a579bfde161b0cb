"""Compiled harmonics and their gradient against plain torch, which is held against e3nn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.kernels.cpu import edges
from duetto.kernels.harmonics import spherical_harmonics


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_harmonics_and_gradient(l_max: int, dtype: str) -> None:
    E, D = 7, (l_max + 1) ** 2
    rng = np.random.default_rng(l_max)
    vectors, g = rng.normal(size=(E, 3)).astype(dtype), rng.normal(size=(E, D)).astype(dtype)
    length = np.linalg.norm(vectors, axis=1)
    Y, gradient = np.full((E, D), np.nan, dtype), np.full((E, 3), np.nan, dtype)
    edges.harmonics(dtype, l_max)(vectors, length, Y)
    edges.edge_gradients(dtype, l_max)(vectors, length, g, length, gradient)

    r = torch.tensor(vectors, dtype=torch.float64, requires_grad=True)
    norm = r.norm(dim=1)
    expected = spherical_harmonics(r / norm[:, None], l_max)
    # ∂E/∂|r| was given as |r|.
    energy = (expected * torch.tensor(g)).sum() + 0.5 * (norm**2).sum()
    # Products of up to four factors of some units each, up to 16 sums: some ten roundings.
    rounding = 16 * np.finfo(dtype).eps
    assert np.abs(Y - expected.detach().numpy()).max() < rounding * 4
    slope = torch.autograd.grad(energy, r)[0].numpy()
    assert np.abs(gradient - slope).max() < rounding * np.abs(slope).max()
