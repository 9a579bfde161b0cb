"""Warming up, and the two runs of constant energy from one start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from duetto.errors import InputError
from duetto.md.loop import NVE, run_md
from duetto.md.state import DrivingPotential, State, initial_state, with_forces
from duetto.partition.keeper import Keeper
from duetto.run.config import NVEStage, RunConfig
from duetto.run.files import RunFiles
from duetto.run.run import limits_of, stages_of
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """One instant of the mixture's run: what a comparison needs."""

    positions: Tensor  # (A, 3) Å
    forces: Tensor  # (A, 3) eV/Å
    energy: float  # eV


@dataclass
class NVERecord:
    """A run of constant energy, step by step."""

    n_atoms: int
    time_fs: list[float] = field(default_factory=list)
    conserved_eV: list[float] = field(default_factory=list)
    temperature_K: list[float] = field(default_factory=list)
    momentum: list[float] = field(default_factory=list)  # amu Å/fs
    snapshots: list[Snapshot] = field(default_factory=list)
    n_rebuilds: int = 0

    def add(self, state: State) -> None:
        """Note one step."""
        kinetic_energy = state.kinetic_energy
        self.time_fs.append(state.time_fs)
        self.conserved_eV.append(state.conserved(kinetic_energy))
        self.temperature_K.append(state.temperature(kinetic_energy))
        total = (state.masses[:, None] * state.velocities).sum(0)
        self.momentum.append(float(torch.linalg.vector_norm(total)))

    @property
    def steps(self) -> int:
        """Steps after the start."""
        return len(self.time_fs) - 1

    @property
    def elapsed_ps(self) -> npt.NDArray[np.float64]:
        """Time since the start, ps."""
        return (np.array(self.time_fs) - self.time_fs[0]) / 1000.0

    @property
    def deviation_meV_per_atom(self) -> npt.NDArray[np.float64]:
        """Change of the conserved energy since the start, meV/atom."""
        energy = np.array(self.conserved_eV)
        return (energy - energy[0]) * 1000.0 / self.n_atoms

    @property
    def drift_meV_per_atom_per_ps(self) -> float:
        """Slope of a straight line through the conserved energy, meV/atom/ps."""
        return energy_drift_meV_per_atom_per_ps(
            np.array(self.time_fs), np.array(self.conserved_eV), self.n_atoms
        )

    @property
    def steps_per_rebuild(self) -> float:
        """Steps that a neighbour list lasts; all of them where it was never built anew."""
        return self.steps / max(self.n_rebuilds, 1)


def nve_steps(config: RunConfig) -> int:
    """Steps of the last stage, which has to be one of constant energy.

    Raises:
        InputError: it is not.
    """
    last = config.stages[-1]
    if not isinstance(last, NVEStage):
        raise InputError("stages: the last must be nve, to be compared with full HF")
    return last.steps


def warm_up(
    config: RunConfig, state: State, potential: DrivingPotential, keeper: Keeper, files: RunFiles
) -> State:
    """Run all stages but the last; return the state from which both runs start."""
    stages = stages_of(config)[:-1]
    files.begin(state)
    states = run_md(
        state,
        potential,
        stages,
        timestep_fs=config.timestep_fs,
        limits=limits_of(config),
        partition=keeper,
    )
    total = sum(stage.steps for stage in stages)
    for state in progress(states, total, "warming up"):
        files.record(state)
    return state


def run_nve(
    config: RunConfig,
    state: State,
    potential: DrivingPotential,
    files: RunFiles,
    *,
    label: str,
    keeper: Keeper | None = None,
    snapshots: int = 0,
) -> tuple[NVERecord, State]:
    """Run the last stage from `state`; return its record and its last state.

    Args:
        config: the run's configuration.
        state: the start, with forces of `potential`.
        potential: what computes the forces.
        files: where the table and the trajectory go.
        label: of the progress bar.
        keeper: keeps the partition, if somebody does.
        snapshots: how many to keep, evenly spaced, the last step among them.
    """
    record = NVERecord(state.n_atoms)
    record.add(state)
    steps = nve_steps(config)
    kept = set(np.linspace(0, steps, snapshots + 1).astype(int)[1:].tolist())
    rebuilds_before = state.n_rebuilds
    states = run_md(
        state,
        potential,
        [NVE(steps)],
        timestep_fs=config.timestep_fs,
        limits=limits_of(config),
        partition=keeper,
    )
    for state in progress(states, steps, label):
        record.add(state)
        files.record(state)
        if record.steps in kept:
            record.snapshots.append(Snapshot(state.positions, state.forces, state.energy))
    record.n_rebuilds = state.n_rebuilds - rebuilds_before
    return record, state


def begin(
    config: RunConfig, atoms: Atoms, potential: DrivingPotential, device: torch.device
) -> State:
    """State of `atoms` at step 0, as `duetto run` begins."""
    return initial_state(
        atoms,
        potential,
        temperature_K=config.initial_temperature_K,
        exact_temperature=config.exact_initial_temperature,
        seed=config.seed,
        device=device,
    )


def same_start(state: State, potential: DrivingPotential) -> State:
    """The same positions and velocities with the forces of another potential."""
    return with_forces(replace(state, e_repartition=0.0, thermostat_work=0.0), potential)


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The same items, with a progress bar on a terminal where they last more than 2 s."""
    with (
        logging_redirect_tqdm(),
        tqdm(total=total, desc=label, unit="step", delay=2.0, disable=None, leave=False) as bar,
    ):
        for item in items:
            yield item
            bar.update()
