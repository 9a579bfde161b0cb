"""The kernels of linear experts compiled for a chip that is not here, against their budgets.

In processes of their own, because this one may be interpreting.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

ROOT = Path(__file__).resolve().parents[3]
BUDGETS = ROOT / "bench" / "budgets" / "linear_kernels.json"
VERSION = ".".join(triton.__version__.split(".")[:2])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


def compile_linear(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "compile_linear.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_kernels_keep_their_budgets(cache: Path, tmp_path: Path) -> None:
    done = compile_linear(cache, "5-5-5")
    assert done.returncode == 0, done.stdout + done.stderr
    # The same again, out of Triton's cache, with a limit that is too tight.
    budgets = json.loads(BUDGETS.read_text())
    budgets[VERSION]["5-5-5/adjoint/90"]["instructions"] -= 100
    tight = tmp_path / "budgets.json"
    tight.write_text(json.dumps(budgets))
    done = compile_linear(cache, "5-5-5", "--budgets", str(tight))
    assert done.returncode == 1
    assert "over budget: 5-5-5/adjoint/90: instructions" in done.stderr


@pytest.mark.parametrize("version", sorted(json.loads(BUDGETS.read_text())))
def test_nothing_spills(version: str) -> None:
    for name, limits in json.loads(BUDGETS.read_text())[version].items():
        assert limits["stack_bytes"] == limits["local_instructions"] == 0, name
        # Latency of loads is hidden by other warps of the SM's four schedulers.
        assert limits["resident_warps"] >= 8, name
