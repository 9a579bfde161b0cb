"""A run finds in Triton's cache what was compiled without its chip, and asks for it once.

In processes of their own, because this one may be interpreting.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import triton

ROOT = Path(__file__).parents[3]
EXPERTS = {"whole", "forward", "backward"}
LINEAR = {"moments", "polynomial", "adjoint"}


def asked_for(what: str, cache: Path) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(cache / "sources")}
    result = subprocess.run(
        [sys.executable, "-m", "tests.kernels.triton.absent_chip", what],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="module")
def offline(cache: Path) -> dict[str, Any]:
    return asked_for("offline", cache)


@pytest.fixture(scope="module")
def run(
    offline: dict[str, Any], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """With the kernels carried to another place in one file."""
    there = tmp_path_factory.mktemp("carried")
    file = there / "kernels.tar.gz"
    for arguments in (("pack", cache, file), ("unpack", file, there)):
        command = [sys.executable, str(ROOT / "scripts" / "kernel_cache.py"), *arguments]
        subprocess.run(command, check=True)
    return asked_for("run", there)


def launched_names() -> set[str]:
    """Functions that are launched somewhere in the source: `name[grid](...)`."""
    found = set()
    for path in (ROOT / "kernels" / "triton").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                launched = node.func.value
                if isinstance(launched, ast.Name | ast.Attribute):
                    found.add(launched.id if isinstance(launched, ast.Name) else launched.attr)
    # Of the experts' the name is data.
    return found | EXPERTS


def test_a_run_finds_what_was_compiled_offline(
    offline: dict[str, Any], run: dict[str, Any]
) -> None:
    compiled = {kernel["key"]: kernel["name"] for kernel in offline["kernels"]}
    assert not any(kernel["cached"] for kernel in offline["kernels"])
    assert [kernel["name"] for kernel in run["kernels"] if not kernel["cached"]] == []
    assert {kernel["key"]: kernel["name"] for kernel in run["kernels"]} == compiled


def test_sizes_are_no_part_of_the_code(run: dict[str, Any]) -> None:
    """After the first size nothing is asked for any more."""
    assert run["counts"] == [run["counts"][0]] * len(run["counts"])
    assert run["counts"][0] > 0


def test_no_integer_of_any_kernel_is_specialised(run: dict[str, Any]) -> None:
    assert set(run["arguments"]) == launched_names()
    for name, seen in run["arguments"].items():
        assert seen["integers"], name
        assert seen["specialised"] == [], name


def test_step_compiles_without_spills(offline: dict[str, Any]) -> None:
    """All kernels but the experts', which have budgets of their own."""
    seen = set()
    for kernel in offline["kernels"]:
        if kernel["name"] in EXPERTS | LINEAR:
            continue
        seen.add(kernel["name"])
        usage, code = (
            disassembled(kernel["files"]["cubin"], option)
            for option in ("--dump-resource-usage", "-sass")
        )
        # 128 registers let 16 warps live on an SM, enough to hide the latency of loads.
        assert int(re.search(r"REG:(\d+)", usage)[1]) <= 128, kernel
        assert not re.findall(r"\b(?:LDL|STL)\b", code), kernel
        # What atomics add up is read by later kernels only. Unless told so, Triton fences each.
        assert not re.findall(r"\bMEMBAR\b", code), kernel
    assert seen == launched_names() - EXPERTS - LINEAR


def disassembled(cubin: str, option: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    done = subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True)
    return done.stdout
