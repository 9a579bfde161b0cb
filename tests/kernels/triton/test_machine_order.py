"""In the code that the compiler makes, barriers stand between threads that exchange numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from duetto.kernels.triton.expert_source import ARGUMENTS
from tests.kernels.triton.machine_order import (
    barriers_of_machine_code,
    barriers_of_ptx,
    races,
    stash_accesses,
)

ROOT = Path(__file__).parents[3]
STASH = ARGUMENTS.index("stash")
NAMES = ("forward 64", "backward 64")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """PTX and machine code by name of the kernel and its tile."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    folder = tmp_path_factory.mktemp("triton")
    environment |= {"TRITON_CACHE_DIR": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "tests.kernels.triton.stash_code", *NAMES]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return {name: tuple(pair) for name, pair in json.loads(result.stdout).items()}


@pytest.mark.parametrize("name", NAMES)
def test_no_thread_is_at_what_another_exchanges(
    name: str, code: dict[str, tuple[str, str]]
) -> None:
    ptx, _ = code[name]
    accesses = stash_accesses(ptx, STASH)
    assert {access.stored for access in accesses} == {True, False}
    assert races(accesses) == []


@pytest.mark.parametrize("name", NAMES)
def test_without_barriers_threads_would_race(name: str, code: dict[str, tuple[str, str]]) -> None:
    """The check sees what it is to see: there are numbers that cross from thread to thread."""
    ptx, _ = code[name]
    bare = re.sub(r"^\s*bar\.(warp\.)?sync.*$", "", ptx, flags=re.MULTILINE)
    assert races(stash_accesses(bare, STASH))


@pytest.mark.parametrize("name", NAMES)
def test_the_assembler_keeps_the_barriers(name: str, code: dict[str, tuple[str, str]]) -> None:
    ptx, machine = code[name]
    assert barriers_of_machine_code(machine) == barriers_of_ptx(ptx) > 0
