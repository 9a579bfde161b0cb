"""A run from its configuration to its files: start or resume, record, stop in good order."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, assert_never

import torch
from ase import Atoms
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from duetto.atoms.structure import fixed_atoms
from duetto.errors import InputError, RunStopped
from duetto.folders import claimed
from duetto.md.limits import Limits, check
from duetto.md.loop import NVE, Langevin, NoseHoover, Stage, run_md
from duetto.md.multiple_timestep import split_stage
from duetto.md.repartition import between_steps
from duetto.md.state import DrivingPotential, State, initial_state
from duetto.partition.guard import Guard
from duetto.partition.keeper import Keeper
from duetto.partition.regions import count_regions
from duetto.partition.update import Updating
from duetto.potential.following import Following
from duetto.run.append import OutputStopped
from duetto.run.checkpoint import load_checkpoint
from duetto.run.config import (
    LangevinStage,
    NoseHooverStage,
    NVEStage,
    RelaxStage,
    RunConfig,
    load_config,
)
from duetto.run.doubts import doubts
from duetto.run.files import RunFiles
from duetto.run.folder import CHECKPOINT, THERMO, require_unused
from duetto.run.multiple_timestep import inner_steps
from duetto.run.pair_model import PairModel, cost_of_regions
from duetto.run.relax import relaxed
from duetto.run.resume import require_same_run
from duetto.run.signals import StopSignals
from duetto.run.summary import RunSummary, summarize

log = logging.getLogger(__name__)


class Model(Protocol):
    """A pair of experts, ready to become the potential of given atoms."""

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that it knows."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def content_hash(self) -> str:
        """Equal for equal potentials."""

    def potential(
        self,
        species: Sequence[str],
        weights: Any,
        pbc: Sequence[bool],
        following: Following | None = None,
    ) -> DrivingPotential:
        """The potential of atoms of `species` with `weights` (A,) and periodicity (3,).

        Where weights follow atoms, it is given `following` besides.
        """

    def describe(self) -> dict[str, str]:
        """Device, dtype, backend: what to tell the user."""


@dataclass
class _Run:
    """A run under way."""

    config: RunConfig
    model: Model
    potential: DrivingPotential
    keeper: Keeper
    kept: dict[str, Any]  # what the keeper knew at `state`, which it may already be past
    state: State
    structure_digest: str  # SHA-256 of the structure file
    seeds: Any = None  # (S,) the atoms that the weights follow, None where they do not
    sizes: dict[str, int] | None = None  # bytes of the output files, None for a new run

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        return {
            "config": self.config.model_dump(mode="json"),
            "pair": self.model.content_hash,
            "structure": self.structure_digest,
            "partition": self.kept,
            "seeds": self.seeds,
            "threads": torch.get_num_threads(),
        }


def run(
    config_path: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    potential_factory: Callable[[RunConfig], Model] = PairModel,
    say: Callable[[str], None] = print,
) -> RunSummary:
    """Run, or resume, what a configuration describes.

    SIGINT and SIGTERM end the step, write a checkpoint and return; `stopped_by` names the signal.

    Args:
        config_path: the YAML file.
        resume: continue from the checkpoint in `output.dir`, bit for bit.
        overwrite: replace a run that is already in `output.dir`.
        overrides: `key.sub=value` on top of the file.
        potential_factory: opens the pair that the configuration names.
        say: where lines for the user go.

    Raises:
        InputError: the input cannot be used; nothing has been written.
        RunStopped: the run could not go on; the message names the last checkpoint.
    """
    config = load_config(config_path, overrides)
    # Whatever is looked at in the folder stays as it is until this run has ended.
    with claimed(config.output.dir):
        if not (resume or overwrite):
            require_unused(config.output.dir)
        summary = _run(config, str(config_path), resume, potential_factory, say)
    say(summary.sentence())
    if summary.stopped_by is not None:
        command = shlex.join(["duetto", "run", str(config_path), *overrides, "--resume"])
        say(f"stopped by {summary.stopped_by} after step {summary.step}; continue with: {command}")
    return summary


def _run(
    config: RunConfig,
    where: str,
    resume: bool,
    potential_factory: Callable[[RunConfig], Model],
    say: Callable[[str], None],
) -> RunSummary:
    """Run in a folder that is this process's own."""
    model = potential_factory(config)
    under_way = _resume(config, model, where) if resume else _start(config, model)
    _introduce(under_way, say)
    files = RunFiles(
        config.output.dir,
        thermo_every=config.output.thermo_every,
        trajectory_every=config.output.trajectory_every,
        checkpoint_every=config.output.checkpoint_every,
        trajectory_fields=config.output.trajectory_fields,
        sizes=under_way.sizes,
    )
    with closing(files), StopSignals() as signals:
        summary = _drive(under_way, files, signals)
        files.summary(summary.to_json())
    return summary


def _start(config: RunConfig, model: Model) -> _Run:
    structure = config.structure
    atoms = structure.read(model.species)
    for line in doubts(config, atoms):
        log.warning("%s", line)
    regions, updating = config.regions, None
    if regions.update is None:
        weights = regions.static_weights(atoms)
    else:
        updating = Updating(regions, atoms, inner_steps(config))
        updating.begin()
        weights = updating.target
    seeds = None if regions.follow is None else regions.follow.select(atoms)
    species, pbc = atoms.get_chemical_symbols(), atoms.pbc.tolist()
    potential = _potential(config, model, species, weights, pbc, seeds)
    keeper = Keeper.of(Guard.from_config(config.guard), potential, updating)
    keeper.begin(potential)
    fixed = fixed_atoms(atoms, config.fixed)
    for stage in (stage for stage in config.stages if isinstance(stage, RelaxStage)):
        atoms = relaxed(
            atoms,
            potential,
            fmax_eV_per_angstrom=stage.fmax_eV_per_angstrom,
            max_steps=stage.max_steps,
            fixed=fixed,
            device=model.device,
        )
    state = initial_state(
        atoms,
        potential,
        temperature_K=config.initial_temperature_K,
        exact_temperature=config.exact_initial_temperature,
        seed=config.seed,
        device=model.device,
        fixed=fixed,
    )
    state = between_steps(state, potential, keeper, rebuilt=True)
    check(state, limits_of(config), constant_energy=False)
    potential.self_check(state.positions, state.cell)
    digest = _digest(structure.file)
    return _Run(config, model, potential, keeper, keeper.state_dict(), state, digest, seeds)


def _resume(config: RunConfig, model: Model, where: str) -> _Run:
    path = config.output.dir / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path}: there is no checkpoint to resume; run without --resume")
    state, record = load_checkpoint(path, model.device)
    require_same_run(record["config"], config.model_dump(mode="json"), state.step, where)
    if record["pair"] != model.content_hash:
        raise InputError(
            f"{config.pair or config.pair_name}: this is not the pair that the run was started "
            "with; put that one back, or start another run in another output.dir"
        )
    # The atoms are in the checkpoint: the file may be gone, but not be another.
    structure = config.structure.file
    if structure.is_file() and _digest(structure) != record["structure"]:
        raise InputError(
            f"{structure}: the file has changed since the run was started; put it back, or start "
            "another run in another output.dir"
        )
    if record["threads"] != torch.get_num_threads():
        log.warning(
            "the run was started with %d threads, now there are %d: it goes on, but sums over "
            "many atoms may differ in the last bit",
            record["threads"],
            torch.get_num_threads(),
        )
    kept, seeds = record["partition"], record["seeds"]
    weights = kept.get("static", state.weights.cpu().numpy())
    potential = _potential(config, model, state.species, weights, state.pbc, seeds)
    updating = None
    if config.regions.update is not None:
        updating = Updating(config.regions, _atoms_of(state), inner_steps(config))
    keeper = Keeper.of(Guard.from_config(config.guard), potential, updating)
    keeper.load_state_dict(kept)
    keeper.restore(potential)
    if state.list_reference is not None:
        potential.rebuild(state.list_reference, state.cell)
    potential.self_check(state.positions, state.cell)
    return _Run(
        config,
        model,
        potential,
        keeper,
        keeper.state_dict(),
        state,
        record["structure"],
        seeds,
        record["sizes"],
    )


def _potential(
    config: RunConfig,
    model: Model,
    species: Sequence[str],
    weights: Any,
    pbc: Sequence[bool],
    seeds: Any,
) -> Any:
    """The potential of a run, which follows `seeds` (S,) where the partition says so."""
    follow = config.regions.follow
    if follow is None:
        return model.potential(species, weights, pbc)
    following = Following(seeds, follow.core, follow.blend)
    return model.potential(species, weights, pbc, following=following)


def _atoms_of(state: State) -> Atoms:
    positions, cell = state.positions.cpu().numpy(), state.cell.cpu().numpy()
    return Atoms(list(state.species), positions, cell=cell, pbc=state.pbc)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _introduce(run: _Run, say: Callable[[str], None]) -> None:
    config, state = run.config, run.state
    counts = count_regions(state.weights.cpu().numpy())
    say(
        f"{config.structure.file.name}: {state.n_atoms} atoms, {counts.n_complex} complex, "
        f"{counts.n_blend} blend, {counts.n_simple} simple"
    )
    say(", ".join(f"{name} {value}" for name, value in run.model.describe().items()))
    total = sum(stage.steps for stage in config.stages)
    for line in cost_of_regions(run.potential, state, total):
        say(line)
    begun = f", from step {state.step}" if run.sizes is not None else ""
    every = inner_steps(config)
    slow = f", hf at every {every}th" if every > 1 else ""
    say(f"{total} steps of {config.timestep_fs:g} fs{slow}{begun}; output in {config.output.dir}")


def _drive(run: _Run, files: RunFiles, signals: StopSignals) -> RunSummary:
    """Advance to the end or a signal; `run.state` is the last good state all the way."""
    if not run.sizes or not run.sizes[THERMO]:  # new, or killed before its first row
        files.begin(run.state, run.record())
    files.last_checkpoint = first_step = run.state.step
    began = time.perf_counter()
    states = run_md(
        run.state,
        run.potential,
        stages_of(run.config),
        timestep_fs=run.config.timestep_fs,
        limits=limits_of(run.config),
        partition=run.keeper,
        first_step=0,
        every=math.gcd(files.thermo_every, files.trajectory_every, files.checkpoint_every),
    )
    try:
        for state in _with_progress(states, run):
            run.state, run.kept = state, run.keeper.state_dict()
            files.record(state)
            if files.checkpoint_due(state):
                files.checkpoint(state, run.record())
            if signals.received is not None:
                break
    except OutputStopped:
        raise
    except RunStopped as stop:
        files.checkpoint(run.state, run.record())
        raise RunStopped(
            f"{stop}; the last good step, {run.state.step}, is in {files.folder / CHECKPOINT}"
        ) from stop
    seconds = time.perf_counter() - began
    if files.last_checkpoint != run.state.step:
        files.checkpoint(run.state, run.record())
    if run.state.step == sum(stage.steps for stage in run.config.stages):
        files.end(run.state)
    return summarize(
        run.config,
        run.state,
        run.model.describe(),
        kept=run.kept,
        steps=run.state.step - first_step,
        seconds=seconds,
        stopped_by=None if signals.received is None else signals.received.name,
    )


def _with_progress(states: Iterator[State], run: _Run) -> Iterator[State]:
    """The same states, with a progress bar on a terminal where they last more than 2 s."""
    with (
        logging_redirect_tqdm(),
        tqdm(
            total=sum(stage.steps for stage in run.config.stages),
            initial=run.state.step,
            unit="step",
            delay=2.0,
            disable=None,  # not on a terminal
        ) as bar,
    ):
        for state in states:
            yield state
            bar.update(state.step - bar.n)


def stages_of(config: RunConfig) -> list[Stage]:
    """The stages that a configuration describes."""
    every = inner_steps(config)
    stages: list[Stage] = []
    for stage in config.stages:
        if isinstance(stage, RelaxStage):
            continue
        if isinstance(stage, NVEStage):
            stages.append(NVE(stage.steps))
            continue
        start, end = stage.temperatures_K
        if isinstance(stage, LangevinStage):
            friction = stage.friction_per_fs
            stages.append(Langevin(stage.steps, start, friction, final_temperature_K=end))
        elif isinstance(stage, NoseHooverStage):
            period = stage.period_fs
            stages.append(NoseHoover(stage.steps, start, period, final_temperature_K=end))
        else:
            assert_never(stage)
    return stages if every == 1 else [split_stage(stage, every) for stage in stages]


def limits_of(config: RunConfig) -> Limits:
    """The limits that a configuration sets."""
    return Limits(config.temperature_limit_K, config.limits.energy_drift_meV_per_atom)
