"""The main job from beginning to end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from duetto.demo.comparison import compare
from duetto.demo.dynamics import NVERecord, begin, nve_steps, run_nve, same_start, warm_up
from duetto.demo.example import LARGE, LINEAR, RUN, example_folder
from duetto.demo.other import compare_other, open_other
from duetto.demo.pictures import draw_pictures
from duetto.demo.result import Demonstration
from duetto.demo.summary import build_report, render_summary
from duetto.demo.timing import measure_speed
from duetto.errors import InputError
from duetto.files import atomic_write
from duetto.md.repartition import between_steps
from duetto.md.state import DrivingPotential, State
from duetto.partition.guard import Guard
from duetto.partition.keeper import Keeper
from duetto.partition.regions import count_regions
from duetto.run.config import RunConfig, load_config
from duetto.run.files import RunFiles
from duetto.run.folder import CHECKPOINT
from duetto.run.prepare import prepare

REPORT = "report.json"
PAGE = "index.html"
SNAPSHOTS = 20
TIMING_ROUNDS = 25


@dataclass(frozen=True)
class DemoSettings:
    """What to demonstrate, and where to.

    Attributes:
        output: folder of all output; made if missing.
        folder: of the example, with `demo.yaml` and `large.yaml`; None: the shipped one.
        device: as in a run's configuration; None: as the example says.
        dtype: likewise.
        pair: another pair file.
        beside: a pair of the same HF with another LF, to compare with; None: the example's linear
            one, unless `pair` is another.
        steps: another number of steps at constant energy.
        timing_rounds: steps to time per potential on the large slab.
    """

    output: Path
    folder: Path | None = None
    device: str | None = None
    dtype: str | None = None
    pair: Path | None = None
    beside: Path | None = None
    steps: int | None = None
    timing_rounds: int = TIMING_ROUNDS

    @property
    def other(self) -> Path | None:
        """The pair to show beside, if there is one."""
        if self.beside is not None or self.pair is not None:
            return self.beside
        linear = (self.folder or example_folder()) / LINEAR
        return linear if linear.is_file() else None

    def load(self, name: str, pair: Path | None = None) -> RunConfig:
        """The configuration `name` of the example, with what these settings change.

        Args:
            name: of its file.
            pair: instead of these settings' own.
        """
        pair = pair or self.pair
        path = (self.folder or example_folder()) / name
        changes = {"device": self.device, "dtype": self.dtype}
        if pair is not None:
            changes["pair"] = str(pair.absolute())
        overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items() if value]
        config = load_config(path, overrides)
        if self.steps is None or self.steps == nve_steps(config):
            return config
        last = len(config.stages) - 1
        return load_config(path, [*overrides, f"stages.{last}.steps={self.steps}"])


def run_demo(settings: DemoSettings, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the demonstration and write its report, pictures and page.

    Args:
        settings: what and where to.
        say: where lines for the user go.

    Returns:
        The report, as in `report.json`.

    Raises:
        InputError: the input cannot be used; nothing has been written.
        RunStopped: a run could not go on.
    """
    began = time.perf_counter()
    config, large = settings.load(RUN), settings.load(LARGE)
    require_free(settings.output)
    demonstration = _compute(settings, config, large, say)
    demonstration = replace(demonstration, seconds=time.perf_counter() - began)
    report = build_report(demonstration)
    say("drawing")
    pictures = draw_pictures(demonstration)
    for name, png in pictures.items():
        atomic_write(settings.output / name, png)
    atomic_write(settings.output / PAGE, render_summary(report, pictures))
    # Written last: whoever finds a report finds all that it speaks of.
    atomic_write(settings.output / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def require_free(folder: Path) -> None:
    """Refuse a folder that holds the run of somebody else; an earlier demo is replaced.

    Raises:
        InputError: it does, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give --out a folder")
    if (folder / CHECKPOINT).exists():
        raise InputError(f"{folder}: holds a run of `duetto run`; give --out another folder")


def _compute(
    settings: DemoSettings, config: RunConfig, large: RunConfig, say: Callable[[str], None]
) -> Demonstration:
    start = prepare(config, standing=True)
    model, atoms = start.model, start.atoms
    beside = settings.other
    rival = None if beside is None else open_other(settings.load(RUN, beside), model)
    counts = count_regions(start.weights)
    mixture, full_hf = start.potential(), start.potential(np.ones(len(atoms)))
    keeper = Keeper.of(Guard.from_config(config.guard), mixture)
    state = begin(config, atoms, mixture, model.device)
    state = between_steps(state, mixture, keeper, rebuilt=True)
    checks = _self_checks(state, mixture=mixture, full_hf=full_hf)
    say(
        f"{config.structure.file.name}: {len(atoms)} atoms, {counts.n_complex} complex, "
        f"{counts.n_blend} blend, {counts.n_simple} simple"
    )
    say(", ".join(f"{name} {value}" for name, value in model.describe().items()))
    records, final = _run_both(settings, config, state, mixture, full_hf, keeper, say)
    say(f"forces of full HF on {SNAPSHOTS} snapshots of the mixture")
    snapshots = records["mixture"].snapshots
    comparison = compare(snapshots, full_hf, state.cell)
    other = None
    if rival is not None:
        other = compare_other(start, rival, snapshots, full_hf, state.cell)
    say("step times on the large slab, in turns")
    speed = measure_speed(
        large,
        model,
        rival,
        steps_per_rebuild=records["mixture"].steps_per_rebuild,
        rounds=settings.timing_rounds,
    )
    return Demonstration(
        config=config,
        model=model,
        atoms=atoms,
        counts=counts,
        final=final,
        mixture=records["mixture"],
        full_hf=records["full_hf"],
        comparison=comparison,
        other=other,
        speed=speed,
        self_checks=checks,
        seconds=0.0,
    )


class CheckedPotential(Protocol):
    """A potential that can compare itself with the reference."""

    def self_check(self, positions: Tensor, cell: Tensor) -> float:
        """Largest error of a force over the largest force."""


def _self_checks(state: State, **potentials: CheckedPotential) -> dict[str, float]:
    """Largest error of a force over the largest force, each backend against the reference."""
    return {
        name: potential.self_check(state.positions, state.cell)
        for name, potential in potentials.items()
    }


def _run_both(
    settings: DemoSettings,
    config: RunConfig,
    state: State,
    mixture: DrivingPotential,
    full_hf: DrivingPotential,
    keeper: Keeper,
    say: Callable[[str], None],
) -> tuple[dict[str, NVERecord], State]:
    """Warm up, then run mixture and full HF from the same positions and velocities."""
    for name in (REPORT, PAGE):  # they would speak of an earlier demo
        (settings.output / name).unlink(missing_ok=True)
    steps, warming = nve_steps(config), sum(stage.steps for stage in config.stages[:-1])
    with closing(_files(config, settings.output)) as files:
        say(f"mixture: warming up for {warming} steps, then {steps} steps at constant energy")
        start = warm_up(config, state, mixture, keeper, files)
        record, final = run_nve(
            config, start, mixture, files, label="mixture", keeper=keeper, snapshots=SNAPSHOTS
        )
    with closing(_files(config, settings.output / "full_hf")) as files:
        say(f"full HF: the same {steps} steps from the same start")
        hf_start = same_start(start, full_hf)
        files.begin(hf_start)
        hf_record, _ = run_nve(config, hf_start, full_hf, files, label="full HF")
    return {"mixture": record, "full_hf": hf_record}, final


def _files(config: RunConfig, folder: Path) -> RunFiles:
    return RunFiles(
        folder,
        thermo_every=config.output.thermo_every,
        trajectory_every=config.output.trajectory_every,
        checkpoint_every=0,
        trajectory_fields=config.output.trajectory_fields,
    )
