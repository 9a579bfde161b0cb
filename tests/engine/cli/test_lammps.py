"""`duetto lammps`, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.neighborlist import neighbor_list

from duetto.cli.main import main
from duetto.potential.mixture import Potential
from tests.engine.frontends.lammps.mpi import ROOT, needs_compiler, needs_lammps, on_ranks
from tests.pairs import mismatched_pair

MAIN = "import sys; from duetto.cli.main import main; sys.exit(main(sys.argv[1:]))"
CONFIG = """
structure: start.extxyz
pair: p.duetto
regions:
  complex: {slab: {axis: z, min: 8.0}}
  blend: {width: 3.0}
dtype: float64
timestep_fs: 1.0
initial_temperature_K: 300
stages:
  - {ensemble: langevin, steps: 4, temperature_K: 300}
  - {ensemble: nve, steps: 40}
output: {dir: out, thermo_every: 4, trajectory_every: 8}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A crystal with a complex part, a blend and a simple part."""
    atoms = bulk("Pt", "fcc", a=4.3, cubic=True).repeat((2, 2, 4))
    atoms.positions += np.random.default_rng(0).normal(size=atoms.positions.shape) * 0.05
    ase.io.write(tmp_path / "start.extxyz", atoms)
    mismatched_pair(zbl=True).save(tmp_path / "p.duetto")
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path / "run.yaml"


def test_inputs_are_written_without_lammps(config: Path) -> None:
    assert main(["lammps", str(config), "--write"]) == 0
    folder = config.parent / "out"
    atoms = ase.io.read(config.parent / "start.extxyz")
    text = (folder / "system.data").read_text()
    (folder / "plain.data").write_text(text.split("Weights")[0])  # a section ASE does not know
    written = ase.io.read(folder / "plain.data", format="lammps-data", atom_style="atomic")
    # ASE converts units to and fro, in the last bit.
    np.testing.assert_allclose(written.positions, atoms.positions, rtol=1e-14)
    np.testing.assert_allclose(written.cell, atoms.cell, rtol=1e-14)
    labels = text.split("Atom Type Labels")[1].split("Masses")[0].split()
    assert labels[1::2] == ["Pt", "Pt_blend", "Pt_simple"]
    assert "run             40" in (folder / "in.lammps").read_text()
    assert main(["lammps", str(config), "--write"]) == 2  # a run is there
    assert main(["lammps", str(config), "--write", "--overwrite"]) == 0


def test_two_time_scales_become_respa(config: Path) -> None:
    assert main(["lammps", str(config), "--write", "multiple_timestep={every: 4}"]) == 0
    deck = (config.parent / "out" / "in.lammps").read_text()
    assert "run_style       respa 2 4 hybrid 1 2" in deck
    assert "timestep        0.004" in deck
    assert "run             10\n" in deck


@needs_lammps
@needs_compiler
def test_a_run_on_two_ranks(config: Path) -> None:
    done = on_ranks(2, "-c", MAIN, "lammps", str(config), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ranks"] == 2
    assert summary["steps"] == 44
    assert set(summary["costs"]) == {"Pt", "Pt_blend", "Pt_simple"}
    assert min(summary["costs"].values()) == 1.0
    assert summary["costs"]["Pt_blend"] > summary["costs"]["Pt_simple"]
    assert len(summary["rank_ms_before"]) == len(summary["rank_ms_after"]) == 2
    assert min(summary["rank_ms_before"]) > 0.0
    # 40 fs of some 10⁻⁵ eV an atom to and fro: a wrong force would be off by orders more.
    assert abs(summary["nve_drift_meV_per_atom_per_ps"]) < 5.0
    frames = ase.io.read(config.parent / "out" / "trajectory.lammpstrj", index=":")
    assert len(frames[-1]) == 64
    for name in ("restart.last", "last.data", "log.lammps"):
        assert (config.parent / "out" / name).is_file()


@needs_lammps
@needs_compiler
def test_the_check_passes_and_leaves_nothing(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "lammps", str(config), "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["agree"]
    assert found["atoms"] == 64
    assert not (config.parent / "out").exists()


def test_the_export_speaks_lammps_interface(config: Path) -> None:
    """Loaded as LAMMPS loads it, with edges as LAMMPS hands them over, against the engine."""
    target = config.parent / "p.mliap.pt"
    words = ["regions.blend=null", "--export", "mliap", "-o", str(target)]
    assert main(["lammps", str(config), *words]) == 0
    unified = torch.load(target, weights_only=False)
    assert unified.element_types == ["Pt", "Pt_simple"]
    atoms = ase.io.read(config.parent / "start.extxyz")
    weights = (atoms.positions[:, 2] >= 8.0).astype(float)
    data, took = _edge_data(atoms, weights, 2.0 * unified.rcutfac)
    unified.compute_forces(data)
    potential = Potential(
        mismatched_pair(zbl=True), ["Pt"] * 64, weights, [True] * 3, dtype="float64"
    )
    expected = potential.evaluate(
        torch.from_numpy(atoms.positions), torch.from_numpy(np.array(atoms.cell))
    )
    assert data.energy == pytest.approx(expected.energy, abs=1e-10)
    np.testing.assert_allclose(data.eatoms, expected.energies, atol=1e-10)
    forces = np.zeros((64, 3))
    np.add.at(forces, data.pair_i, took[0])
    np.subtract.at(forces, data.pair_j, took[0])
    np.testing.assert_allclose(forces, expected.forces, atol=1e-10)


def _edge_data(atoms: Any, weights: np.ndarray, cutoff: float) -> tuple[Any, list[np.ndarray]]:
    """LAMMPS's data of one rank, and the list that its forces go into."""
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    took: list[np.ndarray] = []
    data = SimpleNamespace(
        ntotal=len(atoms),
        nlistatoms=len(atoms),
        npairs=len(i),
        iatoms=np.arange(len(atoms), dtype=np.int32),
        elems=np.where(weights > 0, 0, 1).astype(np.int32),
        pair_i=i.astype(np.int32),
        pair_j=j.astype(np.int32),
        rij=vectors,
        eatoms=None,
        energy=None,
        update_pair_forces=took.append,
    )
    return data, took


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.in"], "no such configuration or LAMMPS script"),
        (["no.in", "--check"], "want a configuration"),
        (["no.yaml"], "no.yaml"),
    ],
)
def test_bad_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lammps", *words]) == 2
    assert message in capsys.readouterr().err


FOLLOW = "regions.follow={seeds: {indices: [0, 60]}, core: 3.0, blend: 2.5}"


@needs_lammps
@needs_compiler
@pytest.mark.parametrize("every", [1, 4])
def test_a_partition_that_follows(config: Path, every: int) -> None:
    """The same configuration on two ranks as in one process; with time split, too."""
    time = f"multiple_timestep={{every: {every}}}"
    stages, one = "stages=[{ensemble: nve, steps: 40}]", config.parent / "one"
    assert main(["run", str(config), FOLLOW, time, stages, f"output.dir={one}"]) == 0
    done = on_ranks(2, "-c", MAIN, "lammps", str(config), FOLLOW, time, stages, "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["costs"]) == {"Pt_seed", "Pt", "Pt_blend", "Pt_simple"}
    frame = ase.io.read(config.parent / "out" / "trajectory.lammpstrj", index=-1)
    expected = ase.io.read(one / "trajectory.xyz", index=-1)
    # LAMMPS writes six digits.
    np.testing.assert_allclose(frame.positions, expected.positions, atol=1e-4)


def test_the_deck_of_a_partition_that_follows(config: Path) -> None:
    assert main(["lammps", str(config), FOLLOW, "--write"]) == 0
    deck = (config.parent / "out" / "in.lammps").read_text()
    assert " follow 3 2.5\n" in deck
    assert "p.duetto Pt_seed Pt Pt_blend Pt_simple" in deck
    assert "type element xu yu zu vx vy vz d_duetto d_duetto_now" in deck


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["regions.blend=null", "regions.update={every: 5}"], "regions.update: not translated"),
        ([FOLLOW, "--export", "mliap"], "--export mliap: regions.follow needs all seeds"),
    ],
)
def test_partitions_that_cannot_move_are_refused(
    config: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lammps", str(config), *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


def test_export_wants_a_name_that_lammps_knows(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--export", "mliap", "-o", str(config.parent / "p.bin")]
    assert main(["lammps", str(config), *words]) == 2
    assert "end in .pt" in capsys.readouterr().err
