"""The order of sums is fixed inside, and what the process had set is back outside."""

from __future__ import annotations

import pytest
import torch

from duetto.kernels.fixed_order import sums_in_fixed_order


def settings() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def test_settings_come_back() -> None:
    before = settings()
    with sums_in_fixed_order():
        assert settings() == (True, True)
    assert settings() == before


def test_settings_come_back_after_an_error() -> None:
    before = settings()
    with pytest.raises(ValueError, match="inside"), sums_in_fixed_order():
        raise ValueError("inside")
    assert settings() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_sums_repeat_bit_for_bit() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    terms = torch.randn(100_000, device="cuda", generator=generator)
    index = torch.randint(10, (100_000,), device="cuda", generator=generator)
    with sums_in_fixed_order():
        sums = [torch.zeros(10, device="cuda").index_add_(0, index, terms) for _ in range(20)]
    assert all(torch.equal(other, sums[0]) for other in sums)
