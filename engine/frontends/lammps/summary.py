"""What a run on LAMMPS leaves to say, read from its log."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duetto.frontends.lammps.deck import LOG, Plan
from duetto.frontends.lammps.system import System

_LOOP = re.compile(r"Loop time of (\S+) on (\d+) procs for (\d+) steps")
_RANKS = re.compile(r"Duetto: ms per step on each rank:((?: \S+)+); longest over mean: (\S+)")


@dataclass(frozen=True)
class LammpsRun:
    """One `run` of a log.

    Attributes:
        table: thermo columns by name.
        steps: how many.
        seconds: LAMMPS's loop time.
        rank_ms: milliseconds per step that each rank spent in the pair style.
        imbalance: the longest of them over their mean.
    """

    table: dict[str, NDArray[np.float64]]
    steps: int
    seconds: float
    rank_ms: tuple[float, ...]
    imbalance: float


@dataclass(frozen=True)
class LammpsSummary:
    """A run in numbers.

    Attributes:
        output: the folder of its files.
        n_atoms: atoms in all.
        ranks: MPI ranks.
        steps: of all stages.
        seconds_per_step: LAMMPS's loop time over them.
        nve_drift_meV_per_atom_per_ps: straight line through the total energy of the last NVE
            stage; None where there is none of two rows.
        costs: of a step of an atom of each type, the cheapest being 1; empty on one rank.
        rank_ms_before: ms of the pair style per step and rank, equal volumes; None on one rank.
        rank_ms_after: the same with equal work.
        imbalance_before: the longest over the mean.
        imbalance_after: the same with equal work.
    """

    output: str
    n_atoms: int
    ranks: int
    steps: int
    seconds_per_step: float
    nve_drift_meV_per_atom_per_ps: float | None
    costs: dict[str, float]
    rank_ms_before: tuple[float, ...] | None
    rank_ms_after: tuple[float, ...] | None
    imbalance_before: float | None
    imbalance_after: float | None

    def to_json(self) -> str:
        """The summary as JSON."""
        return json.dumps(asdict(self), indent=2)

    def sentence(self) -> str:
        """The summary in one line."""
        text = f"{self.n_atoms} atoms, {self.steps} steps on {self.ranks} ranks, "
        text += f"{1000.0 * self.seconds_per_step:.3g} ms per step"
        if self.nve_drift_meV_per_atom_per_ps is not None:
            text += f", NVE drift {self.nve_drift_meV_per_atom_per_ps:.2e} meV/atom/ps"
        if self.imbalance_before is not None:
            text += f", longest rank over mean {self.imbalance_before:.2f} by volume and "
            text += f"{self.imbalance_after:.2f} by cost"
        return text


def read_runs(path: Path) -> list[LammpsRun]:
    """Every `run` of a LAMMPS log."""
    runs: list[LammpsRun] = []
    names: list[str] = []
    rows: list[list[float]] = []
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            names, rows = words, []
        elif names and len(words) == len(names) and _are_numbers(words):
            rows.append([float(word) for word in words])
        elif match := _LOOP.match(line):
            columns = np.array(rows, dtype=np.float64).reshape(-1, len(names)).T
            table = dict(zip(names, columns, strict=True))
            runs.append(LammpsRun(table, int(match[3]), float(match[1]), (), 1.0))
            names = []
        elif (match := _RANKS.match(line)) and runs:
            last = runs[-1]
            times = tuple(float(word) for word in match[1].split())
            runs[-1] = LammpsRun(last.table, last.steps, last.seconds, times, float(match[2]))
    return runs


def _are_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def summarize(system: System, plan: Plan, folder: Path, n_ranks: int) -> LammpsSummary:
    """Sum up a run whose log is in `folder`."""
    runs = read_runs(folder / LOG)
    stages = runs[-len(plan.stages) :]
    before, after = runs[1:3] if plan.costs else (None, None)
    n = len(system.atoms)
    drift = None
    for stage, run in zip(plan.stages, stages, strict=True):
        if stage.temperature_K is None and len(run.table["Step"]) > 1:
            slope = np.polyfit(run.table["Time"], run.table["TotEng"], 1)[0]
            drift = float(1000.0 * slope / n)
    steps = plan.every * sum(run.steps for run in stages)
    return LammpsSummary(
        output=str(folder),
        n_atoms=n,
        ranks=n_ranks,
        steps=steps,
        seconds_per_step=sum(run.seconds for run in stages) / steps,
        nve_drift_meV_per_atom_per_ps=drift,
        costs=dict(zip(system.names, plan.costs, strict=False)),
        rank_ms_before=before.rank_ms if before else None,
        rank_ms_after=after.rank_ms if after else None,
        imbalance_before=before.imbalance if before else None,
        imbalance_after=after.imbalance if after else None,
    )
