"""The kernels compiled for a chip that is not here, against their committed budgets.

In processes of their own, because this one may be interpreting. Here one expert in tiles of every
size, and what runs of the shipped pair launch for most of their atoms. All other kernels of the
budget file: `python scripts/compile_offline.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

from duetto.experts.allegro.folding import fold, random_weights
from duetto.experts.pair import ExpertPair
from duetto.kernels.triton.expert_launch import EDGE_TILES, kernel_kinds
from duetto.kernels.triton.expert_spec import kernel_spec
from duetto.measure.bench.architectures import architecture_named

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "compile_offline.py"
BUDGETS = ROOT / "bench" / "budgets" / "expert_kernels.json"
PAIR = ROOT / "examples" / "ptco" / "ptco.duetto"
VERSION = ".".join(triton.__version__.split(".")[:2])
LF = "lf32/3/whole/64/bf16x3/90"
EVERY_TILE = [f"lf32/3/whole/{tile}/bf16x3/90" for tile in EDGE_TILES]
OF_SHIPPED_PAIR = [f"hf32/3/{kind}/128/bf16x3/90" for kind in ("forward", "backward")]


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
    names = [*EVERY_TILE, *OF_SHIPPED_PAIR]
    done = compile_offline(cache, *names)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in names)


def test_more_than_the_budget_is_noticed(cache: Path, tmp_path: Path) -> None:
    limits = json.loads(BUDGETS.read_text())[VERSION][LF]
    limits["instructions"] -= 200
    limits["resident_warps"] += 1
    tight = tmp_path / "budgets.json"
    tight.write_text(json.dumps({VERSION: {LF: limits}}))
    done = compile_offline(cache, "--budgets", str(tight))
    assert done.returncode == 1
    assert f"{LF}: instructions" in done.stderr
    assert f"{LF}: resident_warps 8 < 9" in done.stderr


def test_kernels_without_a_budget_are_named(cache: Path, tmp_path: Path) -> None:
    none = tmp_path / "budgets.json"
    none.write_text("{}")
    done = compile_offline(cache, "--budgets", str(none), LF)
    assert done.returncode == 2
    assert done.stderr == f"no budget of {LF} with Triton {VERSION}: use --write\n"


@pytest.mark.parametrize("version", sorted(json.loads(BUDGETS.read_text())))
def test_budgets_are_what_the_chip_needs(version: str) -> None:
    budgets = json.loads(BUDGETS.read_text())[version]
    for name, limits in budgets.items():
        _, _, kind, tile, precision, capability = name.split("/")
        assert limits["resident_warps"] >= 8
        if tile not in ("64", "128") or (precision, capability) != ("bf16x3", "90"):
            continue
        # Where most centres go, on the chip that is timed and by the Triton that it has.
        if version == "3.6":
            most = {"whole": 8, "forward": 63, "backward": 511}[kind]
            assert limits["stack_bytes"] <= most, name
        # Any version: what is spilled and read again is little beside what is computed.
        assert limits["local_instructions"] <= limits["instructions"] / 10, name


@pytest.mark.parametrize("role", ["hf", "lf"])
def test_shipped_pair_has_a_budget(role: str) -> None:
    """Its kernels are those of an architecture in the file, for every chip.

    Triton 3.6 cannot compile some of them for capability 10.0, later versions can.
    """
    versions = json.loads(BUDGETS.read_text()).values()
    budgets = {name for version in versions for name in version}
    expert = getattr(ExpertPair.load(PAIR), role)
    spec = kernel_spec(fold(expert.architecture, expert.weights))
    names = {name.split("/")[0] for name in budgets if name.split("/")[1] == "3"}
    for name in sorted(names):
        a = architecture_named(name, 5.0, expert.architecture.type_names)
        if kernel_spec(fold(a, random_weights(a, seed=0))) == spec:
            break
    else:
        pytest.fail(f"no kernel of {sorted(names)} is one of the shipped {role}'s")
    for kind in kernel_kinds(spec):
        for capability in (80, 90, 100):
            assert f"{name}/3/{kind}/64/bf16x3/{capability}" in budgets


def test_every_tile_has_a_budget() -> None:
    """Of both timed experts, forward and backward, by the Triton that the chip's machine has."""
    budgets = json.loads(BUDGETS.read_text())["3.6"]
    for kernel in ("lf32/3/whole", "hf64/3/forward", "hf64/3/backward"):
        assert {f"{kernel}/{tile}/bf16x3/90" for tile in EDGE_TILES} <= set(budgets)
