"""Spherical harmonics against e3nn."""

import pytest
import torch

from duetto.kernels.harmonics import spherical_harmonics


@pytest.mark.parametrize("l_max", [0, 1, 2, 3])
def test_equal_e3nn(l_max: int) -> None:
    o3 = pytest.importorskip("e3nn.o3", reason="needs the train extra")
    vectors = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), unit, True, "component")
    torch.testing.assert_close(spherical_harmonics(unit, l_max), expected, rtol=0, atol=1e-13)
