"""What every test run says of itself."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

from tests.interpreter import quicken_interpreter

# Triton's kernels run on the GPU if there is one, else in its interpreter on the CPU: read when a
# kernel is declared, so set before any module with kernels is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

NEED_TRITON = [
    "kernels/triton/*",
    "engine/potential/test_triton.py",
    "engine/md/test_device_dynamics.py",
    "engine/run/test_device_production.py",
    "gpu/*",
]
collect_ignore_glob = [] if find_spec("triton") else NEED_TRITON


def pytest_configure() -> None:
    """Quicken Triton's interpreter, if it is what kernels run in."""
    if os.environ.get("TRITON_INTERPRET") == "1" and not collect_ignore_glob:
        quicken_interpreter()


def pytest_report_header() -> str:
    """Say what is left out."""
    if collect_ignore_glob:
        return f"skipped, for Triton is not installed: {', '.join(NEED_TRITON)}"
    return "Triton is installed: its kernels are tested"


@pytest.fixture(autouse=True)
def _default_dtype(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo, for tests of kernels, what nequip sets once for the whole process: float64.

    nequip's own tests need it to stay, for nequip does not set it again.
    """
    if not any(folder in request.path.parts for folder in ("kernels", "backends")):
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)
