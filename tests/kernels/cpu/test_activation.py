"""Activations and their slopes against torch and autograd."""

import numpy as np
import pytest
import torch

from duetto.kernels.activations import ACTIVATIONS
from duetto.kernels.cpu.activation import activate, activate_adjoint

EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("width", [7, 48])
def test_value_and_slope(name: str | None, dtype: str, width: int) -> None:
    z = np.random.default_rng(0).normal(size=(40, width)) * 4
    z[0, :6] = [0.0, -100.0, 100.0, -88.5, 88.5, 1e-30]
    z = z.astype(dtype)
    h, slope = np.full((43, width + 5), np.nan, dtype), np.full((43, width), np.nan, dtype)
    activate(dtype, name, width)(z, 40, h, 2, 3, slope)
    assert np.isnan(h[[0, 1, 42]]).all()
    assert np.isnan(slope[[0, 1, 42]]).all()
    h, slope = h[2:42], slope[2:42]
    x = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    value = ACTIVATIONS[name](x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    limit = 8 * EPSILON[dtype]  # a few roundings of exp, division and product
    expected = value.detach().numpy()
    np.testing.assert_array_less(np.abs(h[:, 3:-2] - expected), limit * (1 + np.abs(expected)))
    np.testing.assert_array_less(np.abs(slope - gradient.numpy()), limit * (1 + np.abs(z)))
    assert np.isnan(h[:, :3]).all()
    assert np.isnan(h[:, -2:]).all()


@pytest.mark.parametrize("dtype", EPSILON)
def test_not_a_number_stays_visible(dtype: str) -> None:
    z = np.full((1, 4), np.nan, dtype)
    h, slope = np.zeros_like(z), np.zeros_like(z)
    activate(dtype, "silu", 4)(z, 1, h, 0, 0, slope)
    assert np.isnan(h).all()
    assert np.isnan(slope).all()


def test_adjoint_multiplies_and_clears() -> None:
    rng = np.random.default_rng(1)
    gh, slope = rng.normal(size=(7, 9)), rng.normal(size=(7, 4))
    before, gz = gh.copy(), np.full((7, 4), np.nan)
    activate_adjoint("float64", 4)(gh, 1, 6, 2, slope, gz)
    np.testing.assert_array_equal(gz[:5], before[1:6, 2:6] * slope[1:6])
    assert np.isnan(gz[5:]).all()
    expected = before.copy()
    expected[1:6, 2:6] = 0
    np.testing.assert_array_equal(gh, expected)
