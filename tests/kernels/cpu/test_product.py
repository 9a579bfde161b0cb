"""Products in tiles, layers and sums of vectors against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.kernels.activations import ACTIVATIONS
from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.dense import dense, dense_adjoint
from duetto.kernels.cpu.product import product
from duetto.kernels.cpu.vector import totals

EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}
WIDTHS = (1, 7, 24, 112)
INNER = 19


def _numbers(dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def _limit(dtype: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One rounding for each addition of a row's absolute products."""
    return EPSILON[dtype] * (a.shape[1] + 2) * (np.abs(a) @ np.abs(b) + 1.0)


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("add", [False, True])
def test_product(width: int, add: bool, dtype: str) -> None:
    a, b = _numbers(dtype, 23, INNER + 5), _numbers(dtype, INNER, width)
    c = _numbers(dtype, 40, width + 6)
    expected = c.astype(np.float64)
    left, right = a[2:21, 3 : 3 + INNER].astype(np.float64), b.astype(np.float64)
    expected[9:28, 4:-2] = left @ right + (expected[9:28, 4:-2] if add else 0.0)
    before = c.copy()
    product(dtype, width, add)(a, 2, 21, 3, INNER, b, c, 9, 4)
    assert (np.abs(c - expected)[9:28, 4:-2] < _limit(dtype, left, right) * 3).all()
    untouched = np.ones(c.shape, dtype=bool)
    untouched[9:28, 4:-2] = False
    np.testing.assert_array_equal(c[untouched], before[untouched])


@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("width", [7, 24, 112])
def test_rows_do_not_depend_on_where_they_stand(width: int, dtype: str) -> None:
    a, b = _numbers(dtype, 31, INNER), _numbers(dtype, INNER, width)
    whole, parts = np.zeros((31, width), dtype), np.zeros((31, width), dtype)
    multiply = product(dtype, width)
    multiply(a, 0, 31, 0, INNER, b, whole, 0, 0)
    for begin, end in ((0, 1), (1, 8), (8, 10), (10, 31)):
        multiply(a, begin, end, 0, INNER, b, parts, begin, 0)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("name", [None, "silu", "tanh"])
@pytest.mark.parametrize("rows", [0, 1, 24, 61])
def test_layer_and_its_adjoint(name: str | None, rows: int) -> None:
    x, W = _numbers("float64", rows, INNER + 2), _numbers("float64", INNER, 12) / 4
    h, slope = np.full((rows, 15), np.nan), np.empty((rows, 12))
    dense("float64", name, 12)(x, 1, INNER, W, h, 2, slope)
    inputs = torch.tensor(x[:, 1 : 1 + INNER], requires_grad=True)
    expected = ACTIVATIONS[name](inputs @ torch.tensor(W))
    np.testing.assert_allclose(h[:, 2:14], expected.detach(), rtol=0, atol=1e-13)
    seed = _numbers("float64", rows, 12)
    (gradient,) = torch.autograd.grad(expected, inputs, torch.tensor(seed))
    for add in (False, True):
        # The gradient read lies among the columns that are added to, as in the engine.
        gh = _numbers("float64", rows, INNER + 3)
        gh[:, 5:17] = seed
        before = gh[:, :INNER].copy()
        before[:, 5:17] = 0.0
        target = gh if add else np.full((rows, INNER), np.nan)
        adjoint = dense_adjoint("float64", 12, INNER, add)
        adjoint(gh, 5, slope, np.ascontiguousarray(W.T), target)
        found = target[:, :INNER] - (before if add else 0.0)
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-13)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("count", [4, 9])
@pytest.mark.parametrize("adding", [0, 1])
def test_sums_of_vectors(count: int, lanes: int, adding: int) -> None:
    source, array = _numbers("float64", count, lanes), _numbers("float64", 3, 16)

    @compiled
    def kernel(source: np.ndarray, array: np.ndarray) -> None:
        totals(count, lanes, source, array, 1, adding)

    expected = source.sum(axis=1) + adding * array[1, :count]
    others = array[[0, 2]].copy()
    kernel(source, array)
    np.testing.assert_allclose(array[1, :count], expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(array[[0, 2]], others)
