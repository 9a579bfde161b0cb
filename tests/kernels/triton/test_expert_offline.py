"""The kernels compiled for a chip that is not here, against their committed budgets.

In processes of their own, because this one may be interpreting. All other kernels of the budget
file: `python scripts/compile_offline.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "compile_offline.py"
BUDGETS = ROOT / "bench" / "budgets" / "expert_kernels.json"
LF = "lf32/3/whole/64/bf16x3/90"
HF_FORWARD = "hf64/1/forward/64/bf16x3/90"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


def compile_offline(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_kernels_keep_their_budgets(cache: Path) -> None:
    done = compile_offline(cache, LF, HF_FORWARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert LF in done.stdout
    assert HF_FORWARD in done.stdout


def test_more_than_the_budget_is_noticed(cache: Path, tmp_path: Path) -> None:
    limits = json.loads(BUDGETS.read_text())[LF]
    limits["instructions"] -= 200
    limits["resident_warps"] += 1
    tight = tmp_path / "budgets.json"
    tight.write_text(json.dumps({LF: limits}))
    done = compile_offline(cache, "--budgets", str(tight))
    assert done.returncode == 1
    assert f"{LF}: instructions" in done.stderr
    assert f"{LF}: resident_warps 8 < 9" in done.stderr


def test_budgets_are_what_the_chip_needs() -> None:
    budgets = {
        tuple(name.split("/")): limits for name, limits in json.loads(BUDGETS.read_text()).items()
    }
    for (architecture, _, kind, tile, precision, capability), limits in budgets.items():
        assert limits["resident_warps"] >= 8
        if (tile, precision, capability) != ("64", "bf16x3", "90"):
            continue
        most = {"whole": 0, "forward": 63, "backward": 511}[kind]
        assert limits["stack_bytes"] <= most, (architecture, kind)
