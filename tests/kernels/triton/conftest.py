"""Where the kernels run: on the GPU if there is one, else in Triton's interpreter on the CPU."""

import os
from collections.abc import Iterator

import pytest
import torch

# Read when a kernel is declared, so it must be set before any module with kernels is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session", autouse=True)
def _generated_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep generated kernels out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
