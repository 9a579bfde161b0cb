"""Runs whose partition moves: what they conserve, and that a cut in the middle leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.run.checkpoint import load_checkpoint
from duetto.run.files import CHECKPOINT, SUMMARY, THERMO, TRAJECTORY
from duetto.run.run import run
from duetto.run.thermo import read_thermo
from tests.engine.run.killed import run_and_kill
from tests.pairs import mismatched_pair

CONFIG = """
structure: atoms.xyz
pair: pair.duetto
regions: {regions}
guard: warn
device: cpu
dtype: float64
skin_A: 0.4
timestep_fs: 0.5
seed: 3
initial_temperature_K: 900
stages: [{ensemble: nve, steps: 60}]
limits: {temperature_K: null, energy_drift_meV_per_atom: null}
output: {dir: whole, thermo_every: 1, trajectory_every: 20, checkpoint_every: 0}
"""

PARTITIONS = {
    "follow": "{follow: {seeds: {indices: [0, 1]}, core: 1.5, blend: 2.0}}",
    "within": (
        "{complex: {within: {distance: 2.9, of: {indices: [0]}}}, blend: {width: 1.5}, "
        "update: {every: 5, average: 10, ramp: 7, enter: 0.6, leave: 0.4}}"
    ),
    "coordination": (
        "{complex: {within: {distance: 2.0, of: seeds}}, update: {every: 6, average: 6, ramp: 9, "
        "seeds: {coordination: {cutoff: 3.0}}, enter: {min: 8}, leave: {min: 7}}}"
    ),
    "disagreement": (
        "{complex: seeds, update: {every: 8, ramp: 5, seeds: {disagreement: {of: forces, "
        "shell: 3.5}}, enter: {min: 0.8}, leave: {min: 0.7}}}"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    atoms = bulk("Pt", "fcc", a=4.2, cubic=True).repeat((3, 2, 2))
    atoms.symbols[[1, 10, 20]] = "C"
    atoms.rattle(0.1, seed=1)
    ase.io.write(tmp_path / "atoms.xyz", atoms)
    mismatched_pair(zbl=True).save(tmp_path / "pair.duetto")
    return tmp_path


def go(folder: Path, partition: str, out: str, *overrides: str, **options: Any) -> Any:
    (folder / "run.yaml").write_text(CONFIG.replace("{regions}", PARTITIONS[partition]))
    return run(
        folder / "run.yaml",
        overrides=[f"output.dir={folder / out}", *overrides],
        say=lambda line: None,
        **options,
    )


def output(folder: Path, name: str) -> dict[str, bytes]:
    return {file: (folder / name / file).read_bytes() for file in (THERMO, TRAJECTORY)}


@pytest.mark.parametrize("partition", list(PARTITIONS))
def test_energy_less_what_was_booked_is_conserved_and_a_cut_leaves_no_trace(
    folder: Path, partition: str
) -> None:
    summary = go(folder, partition, "whole")
    table = read_thermo(folder / "whole" / THERMO)
    booked, kept = table["e_repartition_eV"], table["conserved_eV"]
    assert table["n_rebuilds"][-1] > 0
    if partition == "follow":
        assert not booked.any()
        exchanged = np.ptp(table["kinetic_energy_eV"])
    else:
        written = json.loads((folder / "whole" / SUMMARY).read_text())
        assert (booked != 0.0).sum() > 10
        assert written["repartition_work_eV_per_ps"] > 1.0
        assert written["e_repartition_eV_per_ps"] == pytest.approx(booked[-1] / 0.03, rel=1e-12)
        assert summary.partition_changes_per_atom > 0.0
        exchanged = np.ptp(booked)
    # Velocity Verlet's own error, not a share of what the weights gave or took.
    assert np.ptp(kept) < 0.01 * exchanged
    # Between two updates, in the middle of a ramp.
    for stop in (17, 41):
        go(folder, partition, "cut", f"stages.0.steps={stop}", overwrite=True)
        go(folder, partition, "cut", resume=True)
        assert output(folder, "cut") == output(folder, "whole"), stop


@pytest.mark.parametrize("partition", ["follow", "within", "coordination"])
def test_killed_in_the_middle_of_a_ramp_it_is_the_same_run(folder: Path, partition: str) -> None:
    settings = ["output.checkpoint_every=4", "stages.0.steps=100000"]
    if partition != "follow":
        settings += ["regions.update.ramp=60"]
    (folder / "run.yaml").write_text(CONFIG.replace("{regions}", PARTITIONS[partition]))
    words = [str(folder / "run.yaml"), f"output.dir={folder / 'killed'}", *settings]
    run_and_kill(words, folder / "killed" / THERMO, 24)

    state, record = load_checkpoint(folder / "killed" / CHECKPOINT)
    assert state.step >= 20
    if partition != "follow":
        target = record["partition"]["ramp"]["updating"]["target"]
        assert (np.abs(target - state.weights.numpy()) > 0.01).any()
    settings[1] = f"stages.0.steps={state.step + 16}"
    go(folder, partition, "killed", *settings, resume=True)
    go(folder, partition, "whole", *settings)
    assert output(folder, "killed") == output(folder, "whole")


def test_what_was_booked_is_returned_on_the_spot(folder: Path) -> None:
    """Kinetic and potential energy alone are kept, as they are where nothing changes."""
    settings = ["regions.update.return={within: 6.0}", "timestep_fs=0.25", "stages.0.steps=80"]
    summary = go(folder, "within", "whole", *settings)
    assert summary.partition_changes_per_atom > 0.0
    assert summary.e_returned_eV == pytest.approx(summary.e_repartition_eV, rel=1e-12)
    table = read_thermo(folder / "whole" / THERMO)
    assert np.abs(table["e_repartition_eV"]).max() < 1e-12
    assert np.ptp(table["total_energy_eV"]) < 0.01 * summary.repartition_work_eV_per_ps * 0.02
    first, last = (ase.io.read(folder / "whole" / TRAJECTORY, index=i) for i in ("0", "-1"))
    momenta = (frame.get_momenta().sum(axis=0) for frame in (first, last))
    # The trajectory has eight decimals of 48 atoms.
    np.testing.assert_allclose(*momenta, atol=48 * 5e-9)
    go(folder, "within", "cut", *settings, "stages.0.steps=23")
    go(folder, "within", "cut", *settings, resume=True)
    assert output(folder, "cut") == output(folder, "whole")


@pytest.mark.parametrize("partition", ["follow", "within", "disagreement"])
def test_time_is_split_where_regions_move(folder: Path, partition: str) -> None:
    settings = ["multiple_timestep={every: 2}", "timestep_fs=0.25"]
    settings += ["output.thermo_every=2", "stages.0.steps=120"]
    if partition == "within":
        with pytest.raises(InputError, match=r"regions.update.every: got 5; allowed: a multiple"):
            go(folder, partition, "whole", *settings)
        settings.append("regions.update.every=4")
    go(folder, partition, "whole", *settings)
    table = read_thermo(folder / "whole" / THERMO)
    booked, kept = table["e_repartition_eV"], table["conserved_eV"]
    exchanged = np.ptp(table["kinetic_energy_eV"] if partition == "follow" else booked)
    assert booked.any() == (partition != "follow")
    assert np.ptp(kept) < 0.01 * exchanged
    go(folder, partition, "cut", *settings, "stages.0.steps=34")
    go(folder, partition, "cut", *settings, resume=True)
    assert output(folder, "cut") == output(folder, "whole")


@pytest.mark.parametrize(("least", "word"), [(0, "all"), (100, "none")])
def test_everything_or_nothing_is_a_seed(folder: Path, least: int, word: str) -> None:
    """The run of one expert, to the last bit."""
    PARTITIONS["update"] = (
        "{complex: seeds, update: {every: 5, seeds: {coordination: {cutoff: 3.0}}, "
        f"enter: {{min: {least}}}}}}}"
    )
    PARTITIONS["plain"] = f"{{complex: {word}}}"
    try:
        for partition in ("update", "plain"):
            go(folder, partition, partition, "stages.0.steps=12")
    finally:
        del PARTITIONS["update"], PARTITIONS["plain"]
    assert output(folder, "update") == output(folder, "plain")


def test_what_moves_twice_or_not_at_all_is_refused(folder: Path) -> None:
    both = "{complex: all, follow: {seeds: all, core: 2, blend: 2}, update: {every: 3}}"
    misspelt = "update: {every: 5, seeds: {cordination: {cutoff: 3}}, enter: {min: 1}}"
    for text, message in {
        "{follow: {seeds: {species: Au}, core: 2, blend: 2}}": "no Au in the structure",
        "{follow: {seeds: none, core: 2, blend: 2}}": r"regions.follow.seeds: holds no atom",
        "{follow: {seeds: all, core: -1, blend: 2}}": r"regions.follow.core: got -1",
        "{complex: seeds}": r"regions.complex: got seeds, which only regions.update.seeds picks",
        both: "both follow and update",
        "{complex: all, update: {every: 0}}": r"regions.update.every: got 0",
        "{complex: all, update: {every: 5, enter: 0.4, leave: 0.5}}": "narrower than enter",
        f"{{complex: seeds, {misspelt}}}": 'did you mean "coordination"',
        "{complex: seeds, update: {every: 5, seeds: {array: {name: q}}, enter: {min: 1}}}": (
            "got 'q'; allowed: an array of the structure"
        ),
    }.items():
        PARTITIONS["bad"] = text
        try:
            with pytest.raises(InputError, match=message):
                go(folder, "bad", "bad")
        finally:
            del PARTITIONS["bad"]
        assert not (folder / "bad" / THERMO).exists()


@pytest.mark.parametrize("partition", ["follow", "within"])
def test_promotion_is_booked_where_regions_move_too(folder: Path, partition: str) -> None:
    """LF met platinum alone, so platinum beside a C that is not followed is promoted for good."""
    pair = mismatched_pair(zbl=True)
    seen = {"lf": {"seen_pairs": [["Pt", "Pt"], ["C", "Pt"], ["C", "C"]]}}
    ExpertPair(pair.hf, pair.lf, seen).save(folder / "pair.duetto")
    atoms = bulk("Pt", "fcc", a=4.2, cubic=True).repeat((3, 2, 2))
    atoms.symbols[40] = "C"
    atoms.rattle(0.1, seed=1)
    ase.io.write(folder / "atoms.xyz", atoms)
    go(folder, partition, "whole", "guard=promote")
    table = read_thermo(folder / "whole" / THERMO)
    booked, kept = table["e_repartition_eV"], table["conserved_eV"]
    assert np.abs(booked[0]) > 1.0  # at the first look
    assert np.ptp(kept) < 0.01 * np.abs(booked[0])
    weights = ase.io.read(folder / "whole" / TRAJECTORY, index="-1").arrays["w"]
    beside = atoms.get_distances(40, range(len(atoms)), mic=True) < 3.3
    beside[40] = False
    assert (weights[beside] == 1.0).all()
    go(folder, partition, "cut", "guard=promote", "stages.0.steps=23")
    go(folder, partition, "cut", "guard=promote", resume=True)
    assert output(folder, "cut") == output(folder, "whole")
