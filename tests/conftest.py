"""What every test run says of itself."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

NEED_TRITON = [
    "kernels/triton/*",
    "engine/backends/test_triton.py",
    "engine/backends/test_device_dynamics.py",
    "gpu/*",
]
collect_ignore_glob = [] if find_spec("triton") else NEED_TRITON


def pytest_report_header() -> str:
    """Say what is left out."""
    if collect_ignore_glob:
        return f"skipped, for Triton is not installed: {', '.join(NEED_TRITON)}"
    return "Triton is installed: its kernels are tested"


@pytest.fixture(autouse=True)
def _torch_defaults() -> Iterator[None]:
    """Undo what nequip sets for the whole process: its models are built in float64."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)
