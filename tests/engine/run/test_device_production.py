"""Whole runs, with files, that stay on the device: one record behind, and nothing shows it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from ase import Atoms

from duetto.md import loop
from duetto.potential.kinds import standing_kind
from duetto.potential.mixture import Potential
from duetto.run.checkpoint import load_checkpoint
from duetto.run.files import RunFiles
from duetto.run.folder import CHECKPOINT, THERMO, TRAJECTORY
from duetto.run.run import run
from tests.engine.potential.test_triton import DEVICE, covered_by_torch, potential, some
from tests.waiting import wait_for_every_record

CONFIG = """
structure: atoms.xyz
pair: none.duetto
regions: {complex: {indices: [0, 1]}}
guard: warn
timestep_fs: 1
seed: 3
initial_temperature_K: 1500
skin_A: 0.03
limits: {temperature_K: 1.0e+6, energy_drift_meV_per_atom: null}
stages:
  - {ensemble: langevin, steps: 4, temperature_K: 1500, friction_per_fs: 0.05}
  - {ensemble: nve, steps: 2}
output:
  {dir: whole, thermo_every: 2, trajectory_every: 2, checkpoint_every: 4,
   trajectory_fields: [velocities, forces, energies]}
"""


class Interpreted:
    """A pair of random weights on the triton backend, wherever that runs here."""

    device = torch.device(DEVICE)
    content_hash = "random"

    def __init__(self, config: Any) -> None:
        self.kind = standing_kind(split=config.multiple_timestep is not None)
        self.pair = covered_by_torch()
        self.species = self.pair.species
        self.skin = config.skin_A

    def potential(self, species: Sequence[str], weights: Any, pbc: Sequence[bool]) -> Potential:
        return potential(Atoms(species, pbc=pbc), weights, self.pair, self.skin, self.kind)

    def describe(self) -> dict[str, str]:
        return {"device": DEVICE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "atoms.xyz", some("triclinic", 5))
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def go(folder: Path, out: str, *overrides: str, **options: Any) -> str | None:
    summary = run(
        folder / "run.yaml",
        overrides=[f"output.dir={folder / out}", *overrides],
        potential_factory=Interpreted,
        say=lambda line: None,
        **options,
    )
    return summary.stopped_by


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupt the run when the state of `step` is written."""
    record = RunFiles.record

    def interrupted(self: RunFiles, state: Any) -> None:
        record(self, state)
        if state.step == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFiles, "record", interrupted)


def output(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (THERMO, TRAJECTORY)}


def same_checkpoint(one: Path, other: Path) -> dict[str, Any]:
    """What two equal checkpoints record beside the state."""
    (a, first), (b, second) = (load_checkpoint(p / CHECKPOINT, DEVICE) for p in (one, other))
    for name in ("positions", "velocities", "forces", "energies", "virial", "list_reference"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("step", "energy", "n_rebuilds", "time_fs", "thermostat_work", "stage_conserved"):
        assert getattr(a, name) == getattr(b, name), name
    assert first["partition"] == second["partition"]
    return first


def test_files_are_those_of_a_run_that_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is interrupted while the device is ahead, and resumed, against whole ones."""
    with monkeypatch.context() as waiting:
        waiting.setattr(loop, "_one_record_behind", wait_for_every_record)
        assert go(folder, "whole") is None
        stop_after(waiting, 2)
        assert go(folder, "waited") == "SIGINT"
    with monkeypatch.context() as interrupted:
        stop_after(interrupted, 2)
        assert go(folder, "resumed") == "SIGINT"
    record = same_checkpoint(folder / "waited", folder / "resumed")
    assert record["partition"]["step"] <= 2
    assert output(folder / "waited") == output(folder / "resumed")
    assert go(folder, "resumed", resume=True) is None
    record = same_checkpoint(folder / "whole", folder / "resumed")
    assert record["partition"]["step"] > 2
    assert output(folder / "whole") == output(folder / "resumed")


def test_time_that_is_split_resumes_bit_for_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the configuration to the files: outer steps of two, stopped between two records."""
    split = ("multiple_timestep.every=2",)
    assert go(folder, "whole", *split) is None
    with monkeypatch.context() as interrupted:
        stop_after(interrupted, 2)
        assert go(folder, "resumed", *split) == "SIGINT"
    state, _ = load_checkpoint(folder / "resumed" / CHECKPOINT, DEVICE)
    assert state.step == 2
    assert state.slow_forces is not None
    assert go(folder, "resumed", *split, resume=True) is None
    same_checkpoint(folder / "whole", folder / "resumed")
    assert output(folder / "whole") == output(folder / "resumed")
