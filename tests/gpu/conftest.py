"""These tests need an NVIDIA GPU and are skipped, with the reason, where there is none."""

import os
from pathlib import Path

import pytest
import torch

# Read when a kernel is declared: tests elsewhere interpret kernels where there is no GPU, and
# collecting these must not declare them otherwise.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "torch sees no CUDA device"
    if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") == "1":
        reason = "TRITON_INTERPRET=1: kernels are interpreted, not compiled"
    absent = not torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.gpu)
            if absent:
                item.add_marker(pytest.mark.skip(reason=reason))
