"""compute-sanitizer over every kernel: no access out of bounds, no race in shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOUND = 86
"""Exit code by which compute-sanitizer says that it found something."""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_nothing_is_found(tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed (it comes with the CUDA toolkit)")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND)]
    result = subprocess.run(
        [*command, sys.executable, "-m", "tests.gpu.sanitized"],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=540,
    )
    output = result.stdout + result.stderr
    if "Device not supported" in output:
        pytest.skip("compute-sanitizer does not support this device in this environment")
    assert result.returncode == 0, output[-4000:]
    assert "finished" in output
