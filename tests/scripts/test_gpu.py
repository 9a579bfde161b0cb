"""What scripts/gpu.sh says on a machine that cannot run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


def gpu_sh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPTS / "gpu.sh", *arguments],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
    )


def check_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_machine_without_a_gpu() -> None:
    check_one_line(gpu_sh("--tests"), "no NVIDIA GPU", torch.__version__)


def test_interpreter_without_torch(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    check_one_line(gpu_sh(PYTHON=str(bare), PYTHONPATH=""), "lacks torch, triton", "PYTHONPATH")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--frobnicate"], "--frobnicate"), (["--out"], "folder"), (["--tests", "--bench"], "both")],
)
def test_bad_options(arguments: list[str], word: str) -> None:
    check_one_line(gpu_sh(*arguments), word)


def test_missing_interpreter() -> None:
    check_one_line(gpu_sh(PYTHON="no-such-python"), "no-such-python")


def test_help() -> None:
    result = gpu_sh("--help")
    assert result.returncode == 0
    assert "--quick" in result.stdout
    assert "set -e" not in result.stdout
