"""The decks that a LAMMPS user starts from run, and mean what they say."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duetto.frontends.lammps.summary import LammpsRun, read_runs
from tests.engine.frontends.lammps.mpi import ROOT, needs_compiler, needs_lammps, on_ranks

pytestmark = [needs_lammps, needs_compiler]
FOLDER = ROOT / "examples" / "ptco" / "lammps"
RUN = """
import sys
from duetto.frontends.lammps.session import session
with session(["-log", "none", "-screen", "none"]) as lammps:
    for deck, log in zip(sys.argv[1::2], sys.argv[2::2]):
        lammps.instance.commands_string(f"clear\\nlog {log}")
        lammps.instance.file(deck)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LammpsRun]:
    """The last run of every deck for one process."""
    folder, words = tmp_path_factory.mktemp("decks"), []
    names = ("own", "npt", "minimize", "respa", "follow")
    for name in names:
        words += [str(FOLDER / f"{name}.in"), str(folder / f"{name}.log")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: read_runs(folder / f"{name}.log")[-1] for name in names}


def test_a_script_of_ones_own_conserves(runs: dict[str, LammpsRun]) -> None:
    """4 fs for bulk platinum: the error of the total energy is some hundredths of meV an atom."""
    energy = runs["own"].table["TotEng"]
    assert np.ptp(energy[1:]) < 1e-4 * 216
    assert runs["own"].rank_ms[0] > 0.0


def test_npt_conserves_what_it_should(runs: dict[str, LammpsRun]) -> None:
    table = runs["npt"].table
    assert np.ptp(table["Volume"]) > 0.02 * table["Volume"].mean()  # it breathes
    # Nosé and Hoover's conserved quantity holds with the true virial alone: the work of this
    # pressure on this volume is some eV.
    assert np.ptp(table["Econserve"]) < 1e-4 * 108


def test_minimisation_converges(runs: dict[str, LammpsRun]) -> None:
    table = runs["minimize"].table
    assert table["Fmax"][-1] < 1e-3 < table["Fmax"][0]
    assert (np.diff(table["PotEng"]) < 0.0).all()


def test_two_time_scales_are_the_mixture(runs: dict[str, LammpsRun]) -> None:
    """The sub-styles add up to the mixture; r-RESPA conserves with 8 fs for the slow one."""
    table = runs["respa"].table
    assert np.ptp(table["TotEng"][1:]) < 1e-4 * 108
    # own.in holds the same crystal twice over, cold at step 0.
    assert table["PotEng"][0] == pytest.approx(runs["own"].table["PotEng"][0] / 2, abs=1e-3)


def test_weights_follow_a_molecule(runs: dict[str, LammpsRun]) -> None:
    """The sum of the weights changes by some tenths, the total energy by far less than 0.1 meV."""
    table = runs["follow"].table
    assert np.ptp(table["c_high"]) > 0.1
    assert 96 + 2 < table["c_high"][0] < 338
    assert np.ptp(table["TotEng"][1:]) < 1e-4 * 338


def test_a_band_climbs_from_where_it_relaxed(tmp_path: Path) -> None:
    """Neighbours are right when LAMMPS starts a second stage without a new init."""
    script = "import sys; from duetto.cli.main import main; sys.exit(main(sys.argv[1:]))"
    quiet = (
        "-partition",
        "3x1",
        "-log",
        str(tmp_path / "log"),
        "-plog",
        "none",
        "-pscreen",
        "none",
    )
    done = on_ranks(3, "-c", script, "lammps", str(FOLDER / "neb.in"), "--", *quiet)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    steps = [row for row in rows if row and row[0].isdecimal() and len(row) > 10]
    relaxed, climbing = next((a, b) for a, b in itertools.pairwise(steps) if a[0] == b[0])
    barrier = float(relaxed[6])
    assert float(climbing[6]) == pytest.approx(barrier, abs=1e-6)
    assert 0.2 < barrier < 2.0  # eV, of a vacancy's jump in a metal
