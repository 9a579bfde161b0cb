"""What scripts/gpu.sh and its helpers do where there is no GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


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
    check_one_line(gpu_sh(), "no NVIDIA GPU", torch.__version__)


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An interpreter without packages."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    return {"PYTHON": str(python), "PYTHONPATH": ""}


def test_interpreter_without_torch(bare: dict[str, str]) -> None:
    check_one_line(gpu_sh(**bare), "lacks torch, triton", "PYTHONPATH")


def test_dry_run_without_packages(bare: dict[str, str]) -> None:
    """What is lacking is said in one line, and the phases are shown all the same."""
    result = gpu_sh("--dry-run", **bare)
    assert result.returncode == 2
    assert result.stdout.startswith("compile ")
    assert result.stdout.endswith("570 s for all of them\n")
    assert result.stderr.count("\n") == 1
    assert "lacks torch, triton" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--frobnicate"], "--frobnicate"),
        (["--out"], "value"),
        (["--limit", "soon"], "seconds"),
        (["--wheels", "/nowhere"], "no such folder"),
        (["--kernels", "/nowhere"], "no such file"),
    ],
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


def test_dry_run_shows_order_files_and_compile_times() -> None:
    """What checks comes before what is timed, that before the tests; no file is left out."""
    result = gpu_sh("--dry-run")
    assert result.returncode == 0, result.stderr
    phases = re.findall(r"^(\S+) +\d+ s  ", result.stdout, re.MULTILINE)
    checks, timings = ["forces", "graphs", "split"], ["steps", "steps:ptco", "steps:time"]
    assert phases[:8] == ["compile", *checks, *timings, "engines"]
    files = {f"tests:{path.relative_to(ROOT)}" for path in (ROOT / "tests/gpu").glob("test_*.py")}
    assert set(phases[8:]) == files | {"tests:kernels"}
    assert phases[-1] == "tests:tests/gpu/test_sanitizer.py"
    kernels = dict(re.findall(r"^  (\S.*?) +([\d.]+|\?) s$", result.stdout, re.MULTILINE))
    assert {"pt hf backward 128", "pt lf whole 32", "ptco hf forward 32", "step 16"} <= set(kernels)
    # No centre of platinum has so few neighbours, nor so many.
    assert not {"pt lf whole 16", "pt hf backward 32", "pt hf backward 256"} & set(kernels)
    told = re.search(r"(\d+) compilations, (\d+) s on one core", result.stdout)
    known = [float(seconds) for seconds in kernels.values() if seconds != "?"]
    assert (int(told[1]), int(told[2])) == (len(kernels), pytest.approx(sum(known), abs=1))
    missing = len(kernels) - len(known)
    assert (f"and {missing} not recorded" in result.stdout) == (missing > 0)


def test_phases_do_not_gate_each_other(tmp_path: Path) -> None:
    """One fails, one never ends: the next ones are run while there is time, and all is told."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        '#!/bin/sh\ncase "$*" in\n*gpu_compile*) exit 3 ;;\n*graphs*) exec sleep 60 ;;\nesac\n'
    )
    stand_in.chmod(0o755)
    result = gpu_sh("--limit", "7", "--out", str(tmp_path / "out"), PYTHON=str(stand_in))
    assert result.returncode == 1
    told = result.stdout.strip().splitlines()
    lines = {line.split()[0]: line for line in told if line and not line.startswith("==")}
    assert "FAILED (3)" in lines["compile"]
    assert "ok" in lines["forces"]
    assert "out of its" in lines["graphs"]
    assert "not reached" in lines["steps"]
    (kept,) = (tmp_path / "out").glob("phases_*.txt")
    assert kept.read_text().splitlines() == told[-len(kept.read_text().splitlines()) :]


def test_carried_forces_are_those_of_float64() -> None:
    """Computed anew for one case; of the other structure and weights are those of the file."""
    script = (
        "import sys; from gpu_cases import *;"
        "case = case_named('ptco');"
        "found = case.potential(device='cpu', dtype='float64').evaluate(*case.tensors('cpu'));"
        "print(largest_error(found, carried(case)));"
        "found.forces[7, 1] += 1e-3;"
        "print(largest_error(found, carried(case)));"
        "carried(case_named('pt'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=SCRIPTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    same, moved = map(float, done.stdout.split())
    # Sums of some thousand terms in float64, in whatever order.
    assert same < 1e-11
    assert moved > 1e-5


def test_kernels_are_carried_with_the_paths_of_their_new_place(tmp_path: Path) -> None:
    entry = tmp_path / "here" / "KEY1"
    entry.mkdir(parents=True)
    for name in ("kick.cubin", "kick.json", "kick.ptx"):
        (entry / name).write_text(name)
    paths = {name: str(entry / name) for name in ("kick.cubin", "kick.json", "kick.ptx")}
    (entry / "__grp__kick.json").write_text(json.dumps({"child_paths": paths}))
    for arguments in (("pack", "here", "k.tar.gz"), ("unpack", "k.tar.gz", "there")):
        command = [sys.executable, str(SCRIPTS / "kernel_cache.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("1 kernels")
    there = tmp_path / "there" / "KEY1"
    group = json.loads((there / "__grp__kick.json").read_text())["child_paths"]
    assert group == {name: str(there / name) for name in ("kick.cubin", "kick.json")}
    assert {Path(path).read_text() for path in group.values()} == set(group)


def test_wheels_are_of_the_versions_that_were_tested(tmp_path: Path) -> None:
    """Without a network: pip is asked for them, by a stand-in that notes what it was asked."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = -m ] || exec "{sys.executable}" "$@"\n'
        f'echo "$@" >"{tmp_path}/asked"; touch "{tmp_path}/wheels/a.whl"\n'
    )
    stand_in.chmod(0o755)
    command = ["bash", str(SCRIPTS / "gpu_wheels.sh"), str(tmp_path / "wheels")]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHON": str(stand_in)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "--python-version 3.12" in asked
    for name in ("ase", "vesin", "pydantic", "pydantic-core", "typing-inspection"):
        assert re.search(rf" {name}==\d", asked), name


def test_times_of_the_hosts_paths() -> None:
    """A line for each, at a size where they take no time."""
    command = [sys.executable, "bench/host_paths.py", "--atoms", "200", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    lines = re.findall(r"atoms  (.*?) +[\d.]+ s$", done.stdout, re.MULTILINE)
    kept = ["guard, a search", "guard, a look", "neighbours of twelve", "the whole list, sorted"]
    assert lines == kept
