"""`multiple_timestep` of a run: on real experts, from the configuration to the files."""

import ase.io
import pytest
from ase.build import bulk

from duetto.cli.main import main
from duetto.experts.pair import ExpertPair
from duetto.run.files import THERMO, TRAJECTORY
from duetto.run.thermo import read_thermo
from tests.pairs import mismatched_pair

CONFIG = """
structure: atoms.xyz
pair: pair.duetto
regions:
  complex: {within: {distance: 3.0, of: {indices: [0]}}}
  blend: {width: 2.0}
guard: warn
device: cpu
dtype: float64
skin_A: 0.3
timestep_fs: 0.5
multiple_timestep: {every: 3}
seed: 3
initial_temperature_K: 600
stages:
  - {ensemble: langevin, steps: 60, temperature_K: 600, friction_per_fs: 0.02}
  - {ensemble: nve, steps: 60}
limits: {temperature_K: null, energy_drift_meV_per_atom: null}
output: {dir: whole, thermo_every: 3, trajectory_every: 30, checkpoint_every: 30}
"""


@pytest.fixture
def folder(tmp_path):
    atoms = bulk("Pt", "fcc", a=4.2, cubic=True).repeat((3, 2, 2))
    atoms.rattle(0.1, seed=1)
    ase.io.write(tmp_path / "atoms.xyz", atoms)
    mismatched_pair(zbl=True).save(tmp_path / "pair.duetto")
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def run(folder, *arguments):
    return main(["run", str(folder / "run.yaml"), *arguments])


def test_a_run_resumes_bit_for_bit(folder):
    assert run(folder) == 0
    assert run(folder, "output.dir=broken", "stages.1.steps=9") == 0
    assert run(folder, "output.dir=broken", "--resume") == 0
    for name in (THERMO, TRAJECTORY):
        assert (folder / "broken" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    table = read_thermo(folder / "whole" / THERMO)
    assert table["step"].tolist() == list(range(0, 121, 3))
    assert table["time_fs"][-1] == 60.0
    assert table["n_rebuilds"][-1] > 1  # a list that moves on is part of it


def test_one_inner_step_writes_what_a_plain_run_writes(folder):
    assert run(folder, "multiple_timestep.every=1") == 0
    assert run(folder, "multiple_timestep=null", "output.dir=plain") == 0
    assert (folder / "plain" / THERMO).read_bytes() == (folder / "whole" / THERMO).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("multiple_timestep.every=0", "multiple_timestep.every: got 0"),
        ("multiple_timestep.every=2.5", "multiple_timestep.every: got 2.5"),
        ("multiple_timestep=4", "multiple_timestep: got 4"),
        ("multiple_timestep.evry=4", "evry"),
        ("stages=[{ensemble: nose_hoover, steps: 31, temperature_K: 300}]",
         "stages[0].steps: got 31"),
        ("output.thermo_every=10", "output.thermo_every: got 10; allowed: a multiple of "
         "multiple_timestep.every, 3, such as 9 or 12"),
        ("output.checkpoint_every=1", "output.checkpoint_every: got 1; allowed: a multiple of "
         "multiple_timestep.every, 3, such as 3"),
        ("stages.1.steps=61", "stages[1].steps: got 61"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(folder, change, message, capsys):
    assert run(folder, change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / "whole").exists()


def test_a_resumed_run_keeps_its_outer_step(folder, capsys):
    assert run(folder, "stages.1.steps=9") == 0
    assert run(folder, "multiple_timestep.every=1", "--resume") == 2
    assert "multiple_timestep.every: the run was started with 3" in capsys.readouterr().err


def test_lf_must_know_every_atom(folder, capsys):
    pair = mismatched_pair(zbl=True)
    provenance = {"lf": {"seen_pairs": [["C", "C"]]}}
    ExpertPair(pair.hf, pair.lf, provenance).save(folder / "pair.duetto")
    assert run(folder) == 2
    error = capsys.readouterr().err
    assert "this lf never met Pt beside Pt" in error
    assert len(error.strip().splitlines()) == 1
    ExpertPair(pair.hf, None).save(folder / "pair.duetto")
    assert run(folder) == 2
    assert "needs the expert lf" in capsys.readouterr().err


def test_beyond_what_was_measured_it_warns(folder, caplog):
    pair = mismatched_pair(zbl=True)
    ExpertPair(pair.hf, pair.lf, {"outer_step_fs": 1.0}).save(folder / "pair.duetto")
    assert run(folder, "stages.0.steps=3", "stages.1.steps=3") == 0
    assert "an outer step of 1.5 fs is beyond the 1 fs" in caplog.text
    caplog.clear()
    assert run(folder, "stages.0.steps=4", "stages.1.steps=4", "multiple_timestep.every=2",
               "output={dir: shorter, thermo_every: 4, trajectory_every: 0}") == 0  # fmt: skip
    assert "is beyond" not in caplog.text
