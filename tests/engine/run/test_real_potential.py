"""The loop on two real experts: what the toy cannot show."""

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk

from duetto.cli.main import main
from duetto.experts.pair import ExpertPair
from duetto.md import initial_state
from duetto.potential.mixture import Potential
from duetto.run.folder import THERMO, TRAJECTORY
from duetto.run.thermo import read_thermo
from tests.engine.run.killed import run_and_kill
from tests.pairs import mismatched_pair

CONFIG = """
structure: atoms.xyz
pair: pair.duetto
regions:
  complex: {within: {distance: 3.0, of: {indices: [0]}}}
  blend: {width: 2.0}
guard: warn
device: cpu
skin_A: 0.3
timestep_fs: 1
seed: 3
initial_temperature_K: 600
stages:
  - {ensemble: langevin, steps: 60, temperature_K: 600, friction_per_fs: 0.02}
  - {ensemble: nve, steps: 1}
limits: {temperature_K: null, energy_drift_meV_per_atom: null}
output: {dir: whole, thermo_every: 1, trajectory_every: 20, checkpoint_every: 30}
"""


def atoms():
    structure = bulk("Pt", "fcc", a=4.2, cubic=True).repeat((3, 2, 2))
    structure.symbols[[1, 10, 20]] = "C"
    structure.symbols[[5, 30]] = "O"
    structure.rattle(0.1, seed=1)
    return structure


@pytest.fixture
def folder(tmp_path):
    ase.io.write(tmp_path / "atoms.xyz", atoms())
    mismatched_pair(zbl=True).save(tmp_path / "pair.duetto")
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def output(folder, name):
    return {file: (folder / name / file).read_bytes() for file in (THERMO, TRAJECTORY)}


def test_killed_from_outside_and_resumed_it_is_the_same_run(folder):
    config = str(folder / "run.yaml")
    thermo = folder / "killed" / THERMO
    run_and_kill([config, "output.dir=killed", "stages.1.steps=1000000"], thermo, 80)

    # Both end 40 steps after the kill, whenever it came.
    end = f"stages.1.steps={int(read_thermo(thermo)['step'][-1]) - 60 + 40}"
    assert main(["run", config, "output.dir=killed", end, "--resume"]) == 0
    assert main(["run", config, "output.dir=whole", end]) == 0
    assert output(folder, "killed") == output(folder, "whole")
    # The list has been built anew several times, so its reference matters.
    assert read_thermo(folder / "whole" / THERMO)["n_rebuilds"][-1] > 3


def test_pressure_of_the_mixture_is_the_derivative_by_volume():
    pair = mismatched_pair(zbl=True)
    structure = atoms()
    weights = np.linspace(0.0, 1.0, len(structure)).round(1)

    def state(strain):
        strained = structure.copy()
        strained.set_cell(structure.cell * (1.0 + strain), scale_atoms=True)
        symbols = strained.get_chemical_symbols()
        potential = Potential(pair, symbols, weights, [True] * 3, dtype="float64")
        return initial_state(strained, potential, temperature_K=0.0)

    slope = (state(1e-4).energy - state(-1e-4).energy) / 2e-4
    expected = -slope / (3.0 * structure.get_volume()) / units.GPa
    # Truncation of the central difference: (1e-4)² of a third derivative of order 10² times the
    # first where ZBL is steep.
    assert state(0.0).pressure_GPa(0.0) == pytest.approx(expected, rel=1e-5)


def test_promotions_are_booked_and_survive_resuming(folder):
    """Atoms promoted during the run change the energy, not what is conserved."""
    pair = mismatched_pair(zbl=True)
    # LF met only platinum: platinum that comes within LF's cutoff, 3.6 Å, of C is promoted. The
    # second shell is at 3.7 Å.
    seen = {"lf": {"seen_pairs": [["Pt", "Pt"]]}}
    ExpertPair(pair.hf, pair.lf, seen).save(folder / "pair.duetto")
    structure = bulk("Pt", "fcc", a=3.7, cubic=True).repeat((3, 2, 2))
    structure.symbols[9] = "C"
    structure.rattle(0.02, seed=1)
    ase.io.write(folder / "atoms.xyz", structure)
    keys = [
        "regions={complex: {species: C}}",
        "guard=promote",
        "dtype=float64",
        "stages.1.steps=150",
    ]
    config = str(folder / "run.yaml")
    assert main(["run", config, *keys]) == 0

    table = read_thermo(folder / "whole" / THERMO)
    nve = table["step"] >= 60
    booked = np.abs(np.diff(table["e_repartition_eV"][nve]))
    change = np.abs(np.diff(table["conserved_eV"][nve]))
    promotions = booked > 0.0
    assert promotions.sum() >= 2
    assert booked[promotions].min() > 1.0  # eV
    # No step with a promotion stands out: what is left is velocity Verlet's own error.
    assert change[promotions].max() < 3.0 * change[~promotions].max()

    between = int(table["step"][nve][1:][promotions][0]) + 10
    assert main(["run", config, *keys[:3], f"stages.1.steps={between - 60}", "output.dir=cut"]) == 0
    assert main(["run", config, *keys, "output.dir=cut", "--resume"]) == 0
    assert output(folder, "cut") == output(folder, "whole")
