"""Stages of a run, fixed atoms and relaxation, through the configuration and the files."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms

from duetto.errors import InputError, RunStopped
from duetto.run.checkpoint import load_checkpoint
from duetto.run.config import load_config
from duetto.run.files import CHECKPOINT
from duetto.run.relax import relaxed
from duetto.run.thermo import read_thermo
from tests.engine.md.toy import argon, lj_potential
from tests.engine.run.test_run import folder, output, toy  # noqa: F401

NVE = "{ensemble: nve, steps: 30}"
BATH = "{ensemble: nose_hoover, steps: 40, temperature_K: [40, 80], period_fs: 200}"


def stages(*texts: str) -> str:
    return f"stages=[{', '.join(texts)}]"


def test_killed_in_the_middle_of_a_ramp(folder) -> None:  # noqa: F811
    from tests.engine.run.test_run import killed_process

    toy(folder, stages(BATH, NVE))
    options = (stages(BATH, NVE), "output.dir=killed")
    killed_process(folder, *options, fault="kill:25")
    state, _ = load_checkpoint(folder / "killed" / CHECKPOINT)
    assert 0 < state.step < 40
    assert state.chain is not None
    assert state.chain.any()
    toy(folder, *options, resume=True)
    assert output(folder, "killed") == output(folder)


def test_fixed_by_words_and_by_the_structure(folder) -> None:  # noqa: F811
    atoms = argon(2)
    atoms.set_constraint(FixAtoms([5]))
    ase.io.write(folder / "argon.xyz", atoms)
    toy(folder, "fixed={indices: [0, 1]}", stages(NVE))
    start, *_, end = ase.io.read(folder / "out" / "trajectory.xyz", index=":")
    still = np.abs(end.positions - start.positions).max(axis=1) == 0.0
    assert np.flatnonzero(still).tolist() == [0, 1, 5]
    state, _ = load_checkpoint(folder / "out" / CHECKPOINT)
    assert state.fixed is not None
    assert state.fixed.nonzero().flatten().tolist() == [0, 1, 5]
    table = read_thermo(folder / "out" / "thermo.csv")
    assert table["temperature_K"][0] == pytest.approx(60.0)
    before = output(folder)
    short = ("fixed={indices: [0, 1]}", "output.dir=half")
    toy(folder, *short, stages(NVE.replace("30", "15")))
    toy(folder, *short, stages(NVE), resume=True)
    assert output(folder, "half")["thermo.csv"] == before["thermo.csv"]


def test_nothing_can_move(folder) -> None:  # noqa: F811
    with pytest.raises(InputError, match="all 32 atoms are fixed"):
        toy(folder, "fixed=all", stages(NVE))
    with pytest.raises(InputError, match=r"fixed: .*'slap'.*slab"):
        toy(folder, "fixed={slap: {}}", stages(NVE))


def test_relaxation_goes_to_where_the_forces_vanish(folder) -> None:  # noqa: F811
    atoms = argon(2)
    rng = np.random.default_rng(0)
    atoms.positions += rng.normal(0.0, 0.15, atoms.positions.shape)
    ase.io.write(folder / "argon.xyz", atoms)
    relax = "{ensemble: relax, fmax_eV_per_angstrom: 1e-3}"
    summary, _ = toy(folder, stages(relax, NVE), "initial_temperature_K=0")
    assert summary.step == 30
    table = read_thermo(folder / "out" / "thermo.csv")
    potential = lj_potential(atoms)
    x = torch.tensor(ase.io.read(folder / "argon.xyz").positions)
    before = potential.evaluate(x, torch.tensor(atoms.cell.array))
    assert float(before.forces.norm(dim=1).max()) > 0.05
    assert table["potential_energy_eV"][0] < before.energy - 0.05
    # At rest where forces are 1e-3 eV/Å at most, atoms of 40 amu hardly move in 120 fs.
    assert table["temperature_K"].max() < 1.0


def test_relaxation_that_does_not_arrive_stops() -> None:
    atoms = argon(2)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.15, atoms.positions.shape)
    with pytest.raises(RunStopped, match=r"after 2 steps the force on atom \d+ \(Ar\) is"):
        relaxed(atoms, lj_potential(atoms), fmax_eV_per_angstrom=1e-4, max_steps=2)


def test_relaxation_leaves_fixed_atoms(folder) -> None:  # noqa: F811
    atoms = argon(2)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.1, atoms.positions.shape)
    fixed = np.arange(len(atoms)) < 4
    found = relaxed(
        atoms, lj_potential(atoms), fmax_eV_per_angstrom=0.01, max_steps=500, fixed=fixed
    )
    assert np.array_equal(found.positions[fixed], atoms.positions[fixed])
    assert np.abs(found.positions - atoms.positions)[~fixed].max() > 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (stages(NVE, "{ensemble: relax}"), "relaxation before all dynamics"),
        (stages("{ensemble: relax}"), "at least one stage of dynamics"),
        (stages("{ensemble: langevin, steps: 3, temperature_K: [1, 2, 3]}"), "two: "),
        (stages("{ensemble: langevin, steps: 3, temperature_K: -1}"), "0 to 1e5"),
        (stages("{ensemble: nose_hoover, steps: 3, temperature_K: 0}"), "above 0 K"),
        (stages("{ensemble: nvt, steps: 3}"), "nose_hoover"),
    ],
)
def test_what_a_stage_cannot_be(folder, text: str, message: str) -> None:  # noqa: F811
    with pytest.raises(InputError, match=message):
        load_config(folder / "run.yaml", [text])
