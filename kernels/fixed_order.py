"""Sums of PyTorch in an order that does not change from run to run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def sums_in_fixed_order() -> Iterator[None]:
    """On CUDA, have `index_add` sort its terms instead of adding them as threads come along."""
    before = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        # Products vary between streams only, and here is one.
        warnings.filterwarnings("ignore", message=".*CuBLAS")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned_only)
