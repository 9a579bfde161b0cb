"""Step times of mixture, full HF and full LF on the large slab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from duetto.demo.dynamics import begin, progress
from duetto.errors import InputError
from duetto.md.loop import Langevin, run_md
from duetto.md.state import DrivingPotential, State
from duetto.measure.turns import StepTimes, time_steps
from duetto.partition.regions import RegionCounts, count_regions
from duetto.run.config import LangevinStage, RunConfig
from duetto.run.pair_model import PairModel
from duetto.run.prepare import prepare
from duetto.run.run import limits_of

NAMES = ("mixture", "full_hf", "full_lf")
OTHER = "other_mixture"
WARM_UP_STEPS = 40


@dataclass(frozen=True)
class Speed:
    """Step times and what follows from them.

    Attributes:
        counts: atoms per region.
        times: all that was measured.
        steps_per_rebuild: how long a neighbour list lasts at this temperature.
    """

    counts: RegionCounts
    times: StepTimes
    steps_per_rebuild: float

    def step_ms(self) -> dict[str, float]:
        """Median step time with its share of the neighbour list, ms."""
        return {
            name: self.times.milliseconds(name, self.steps_per_rebuild)
            for name in (*NAMES, OTHER)
            if name in self.times.step
        }

    @property
    def speedup(self) -> float:
        """How many times faster a step of the mixture is than one of full HF."""
        step = self.step_ms()
        return step["full_hf"] / step["mixture"]

    @property
    def other_speedup(self) -> float | None:
        """The same of the mixture with the other LF, where there is one."""
        step = self.step_ms()
        return step["full_hf"] / step[OTHER] if OTHER in step else None

    @property
    def cost_ratio(self) -> float | None:
        """Full LF's step time over full HF's, c; None where LF does not know every species."""
        step = self.step_ms()
        if "full_lf" not in step:
            return None
        return step["full_lf"] / step["full_hf"]

    @property
    def ideal_speedup(self) -> float | None:
        """1 / (f_HF + f_LF c) with the shares of atoms that each expert computes.

        Without a blend layer, where no atom is computed twice, it is 1 / (f + (1 − f) c). None
        where c was not measured.
        """
        if self.cost_ratio is None:
            return None
        atoms = sum(self.counts)
        hf = (self.counts.n_complex + self.counts.n_blend) / atoms
        lf = (self.counts.n_simple + self.counts.n_blend) / atoms
        return 1.0 / (hf + lf * self.cost_ratio)

    @property
    def share_of_ideal(self) -> float | None:
        """Reached over ideal speedup; None where that is unknown."""
        return None if self.ideal_speedup is None else self.speedup / self.ideal_speedup

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "n_atoms": sum(self.counts),
            **self.counts._asdict(),
            "step_ms": self.step_ms(),
            "step_without_list_ms": _plain(self.times.step),
            "neighbor_list_ms": _plain(self.times.rebuild),
            "steps_per_neighbor_list": self.steps_per_rebuild,
            "cost_ratio": self.cost_ratio,
            "speedup_vs_full_hf": self.speedup,
            "speedup_ideal": self.ideal_speedup,
            "share_of_ideal": self.share_of_ideal,
        }


def _plain(timings: dict[str, Any]) -> dict[str, Any]:
    return {name: timing.to_dict() for name, timing in timings.items()}


def measure_speed(
    config: RunConfig,
    model: PairModel,
    other: PairModel | None = None,
    *,
    steps_per_rebuild: float,
    rounds: int,
) -> Speed:
    """Warm the structure up with the mixture, then time all potentials in turns.

    Full LF is left out where LF does not know every species.

    Args:
        config: structure, regions and temperature.
        model: the pair.
        other: one of the same HF with another LF, whose mixture is timed, too.
        steps_per_rebuild: how long a neighbour list lasts, from a longer run.
        rounds: steps to time per potential.
    """
    start = prepare(config, model, standing=True)
    atoms, weights = start.atoms, start.weights
    of_all = {
        "mixture": weights,
        "full_hf": np.ones(len(atoms)),
    }
    if set(atoms.get_chemical_symbols()) <= set(model.pair.experts["lf"].species):
        of_all["full_lf"] = np.zeros(len(atoms))
    potentials = {name: start.potential(w) for name, w in of_all.items()}
    if other is not None:
        potentials[OTHER] = replace(start, model=other).potential()
    state = _warm(config, begin(config, atoms, potentials["mixture"], model.device), potentials)
    with tqdm(total=rounds, desc="timing", unit="round", disable=None, leave=False) as bar:
        times = time_steps(
            state, potentials, timestep_fs=config.timestep_fs, rounds=rounds, after_round=bar.update
        )
    return Speed(count_regions(weights), times, steps_per_rebuild)


def _warm(config: RunConfig, state: State, potentials: Mapping[str, DrivingPotential]) -> State:
    """A few steps with the mixture, so that the atoms have left their lattice sites."""
    baths = [stage for stage in config.stages if isinstance(stage, LangevinStage)]
    if not baths:
        raise InputError(f"stages: none is langevin, to warm up {config.structure.file.name}")
    stage = Langevin(WARM_UP_STEPS, baths[0].temperatures_K[0], baths[0].friction_per_fs)
    warming = run_md(
        state,
        potentials["mixture"],
        [stage],
        timestep_fs=config.timestep_fs,
        limits=limits_of(config),
    )
    *_, warm = progress(warming, WARM_UP_STEPS, "warming up the large slab")
    return warm
