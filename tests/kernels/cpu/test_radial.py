"""Radial bases against the plain-torch ones, slopes against autograd."""

import numpy as np
import pytest
import torch

from duetto.kernels.cpu.radial import bessel, spline, zbl
from duetto.kernels.folded import ZBLPair, zbl_edge_energies
from duetto.kernels.radial import BesselBasis, SplineBasis

CUTOFFS = np.array([4.0, 3.1, 5.2, 4.4])
RELATIVE = {"float32": 3e-5, "float64": 1e-12}
"""Slopes of the basis reach 10 /Å and the recurrences in n multiply rounding by about n² = 64."""


def edges(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 4, 60)
    return (rng.uniform(0.3, 0.999, 60) * CUTOFFS[pair]).astype(dtype), pair


@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize(
    "basis",
    [
        BesselBasis(torch.arange(1.0, 9.0).double(), 6.0),
        BesselBasis(torch.arange(1.0, 9.0).double(), 5.5),
        BesselBasis(torch.tensor([0.9, 2.2, 2.9], dtype=torch.float64), 4.0),
        SplineBasis(9, 5),
    ],
    ids=["regular", "fractional_p", "trained_roots", "spline"],
)
def test_basis_and_slope(basis: BesselBasis | SplineBasis, dtype: str) -> None:
    length, pair = edges(dtype)
    if isinstance(basis, BesselBasis):
        regular = bool(torch.equal(basis.roots, torch.arange(1.0, basis.size + 1).double()))
        kernel = bessel(dtype, basis.size, basis.p, regular)
        roots = basis.roots.numpy().astype(dtype)
    else:
        kernel = spline(dtype, basis.num_splines, basis.spline_span)
        roots = np.zeros(0, dtype)
    B = np.full((basis.size, 60), np.nan, dtype)
    dB = np.full_like(B, np.nan)
    kernel(length, pair, (1 / CUTOFFS).astype(dtype), roots, B, dB)
    r = torch.tensor(length, dtype=torch.float64)
    value, slope = torch.autograd.functional.jvp(
        lambda r: basis(r / torch.tensor(CUTOFFS[pair])), r, torch.ones_like(r)
    )
    for found, expected in ((B, value.numpy().T), (dB, slope.numpy().T)):
        assert np.abs(found - expected).max() < RELATIVE[dtype] * np.abs(expected).max()


def test_zbl_energy_and_slope() -> None:
    length, pair = edges("float64")
    term = ZBLPair(torch.tensor([78, 8]), 6.0)
    rows = np.array([0, 25, 60])
    energy, gr = np.zeros(2), np.zeros(60)
    numbers = term.atomic_numbers.numpy()
    zbl(length, pair, 1 / CUTOFFS, numbers, term.p, rows, energy, gr)
    types, neighbors = torch.tensor(pair // 2), torch.tensor(pair % 2)
    r = torch.tensor(length)
    value, slope = torch.autograd.functional.jvp(
        lambda r: zbl_edge_energies(term, r, r / torch.tensor(CUTOFFS[pair]), types, neighbors),
        r,
        torch.ones_like(r),
    )
    np.testing.assert_allclose(energy, [value[:25].sum(), value[25:].sum()], rtol=1e-12)
    np.testing.assert_allclose(gr, slope.numpy(), rtol=1e-9, atol=1e-12)
