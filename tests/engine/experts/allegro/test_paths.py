"""Tensor products against e3nn and nequip-allegro."""

import pytest
import torch

from duetto.experts.allegro.paths import product_paths, wigner_3j


@pytest.mark.parametrize("l1", range(4))
@pytest.mark.parametrize("l2", range(4))
def test_wigner_3j_equals_e3nn(l1: int, l2: int) -> None:
    o3 = pytest.importorskip("e3nn.o3", reason="needs the train extra")
    for l3 in range(abs(l1 - l2), l1 + l2 + 1):
        expected = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        torch.testing.assert_close(wigner_3j(l1, l2, l3), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_products_are_allegros(l_max: int, parity: bool, num_layers: int) -> None:
    pytest.importorskip("nequip", reason="needs the train extra")
    from tests.architectures import build

    model = build("l1_one_layer", l_max=l_max, parity=parity, num_layers=num_layers)
    products = [m for m in model.modules() if type(m).__name__ == "Contracter"]
    for paths, product in zip(product_paths(l_max, parity, num_layers), products, strict=True):
        w3j = product.w3j.double()
        dense = torch.zeros(
            paths.num_paths, paths.dim_in, paths.dim_environment, paths.dim_out, dtype=torch.float64
        )
        dense[paths.path, paths.i, paths.j, paths.k] = paths.coefficient
        if product.w3j_is_ij_diagonal:
            dense = torch.diagonal(dense, dim1=1, dim2=2).transpose(-1, -2)
        torch.testing.assert_close(dense, w3j.view(dense.shape), rtol=0, atol=1e-13)
