"""The kernels of the device step compile for the chip they are meant for, without one at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHIPS = ("90",)


def test_step_compiles_without_spills(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_step.py")
    result = subprocess.run(
        [sys.executable, script, *CHIPS], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) == 15 * len(CHIPS)
    for row in rows:
        # 128 registers let 16 warps live on an SM, enough to hide the latency of loads.
        assert row["registers"] <= 128, row
        assert row["stack_instructions"] == 0, row
        # What atomics add up is read by later kernels only. Unless told so, Triton fences each.
        assert row["fences"] == 0, row
