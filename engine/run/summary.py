"""What a run leaves to say at its end."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from duetto.md.state import State
from duetto.partition.regions import count_regions
from duetto.run.config import NVEStage, RunConfig
from duetto.run.folder import THERMO
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps, read_thermo


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers.

    Attributes:
        output: the folder of its files.
        n_atoms: atoms in all.
        n_complex: atoms with w = 1.
        n_blend: atoms with w in between.
        n_simple: atoms with w = 0.
        step: last step.
        total_steps: steps that the configuration asks for.
        time_fs: simulated time, fs.
        temperature_K: at the last step.
        nve_drift_meV_per_atom_per_ps: straight line through the conserved energy of the last NVE
            stage begun, None where its table has fewer than two rows.
        e_repartition_eV: booked by changed weights.
        e_returned_eV: part of it that velocities have paid (`regions.update.return`).
        e_repartition_eV_per_ps: what was booked, by simulated time: how good the pair is, and how
            well the partition is chosen; None before time has passed.
        repartition_work_eV_per_ps: Σ |Δw_i (E_i^HF − E_i^LF)| by simulated time, in which terms of
            either sign do not cancel.
        partition_changes_per_atom: how often an atom has entered or left, None where the partition
            is not updated.
        n_rebuilds: of the neighbour list.
        steps_measured: steps since the start or resumption, to which the seconds refer.
        seconds: wall time of those steps, output included.
        seconds_per_step: their quotient, None where there was no step.
        stopped_by: the signal that stopped the run, or None.
        computed_with: device, dtype, backend.
        versions: of what computed it.
    """

    output: str
    n_atoms: int
    n_complex: int
    n_blend: int
    n_simple: int
    step: int
    total_steps: int
    time_fs: float
    temperature_K: float
    nve_drift_meV_per_atom_per_ps: float | None
    e_repartition_eV: float
    e_returned_eV: float
    e_repartition_eV_per_ps: float | None
    repartition_work_eV_per_ps: float | None
    partition_changes_per_atom: float | None
    n_rebuilds: int
    steps_measured: int
    seconds: float
    seconds_per_step: float | None
    stopped_by: str | None
    computed_with: dict[str, str]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The summary as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def sentence(self) -> str:
        """The summary in one line."""
        text = f"step {self.step} of {self.total_steps}, {self.time_fs:g} fs, "
        text += f"{self.temperature_K:.1f} K"
        if self.nve_drift_meV_per_atom_per_ps is not None:
            text += f", NVE drift {self.nve_drift_meV_per_atom_per_ps:.2e} meV/atom/ps"
        if self.repartition_work_eV_per_ps:
            text += f", {self.e_repartition_eV_per_ps:.3g} eV/ps booked by changed weights"
        if self.seconds_per_step is not None:
            text += f", {1000.0 * self.seconds_per_step:.3g} ms per step"
        return text


def summarize(
    config: RunConfig,
    state: State,
    computed_with: dict[str, str],
    *,
    kept: dict[str, Any],
    steps: int,
    seconds: float,
    stopped_by: str | None,
) -> RunSummary:
    """Sum up a run at `state`, after `steps` steps that took `seconds`.

    `kept` is what the keeper of the partition knows there.
    """
    picoseconds = state.time_fs / 1000.0
    ledger, ramp = kept["ledger"], kept.get("ramp")
    booked, work = ledger["e_repartition"], ledger["work"]
    counts = count_regions(state.weights.cpu().numpy())
    return RunSummary(
        output=str(config.output.dir),
        n_atoms=state.n_atoms,
        n_complex=counts.n_complex,
        n_blend=counts.n_blend,
        n_simple=counts.n_simple,
        step=state.step,
        total_steps=sum(stage.steps for stage in config.stages),
        time_fs=state.time_fs,
        temperature_K=state.temperature(state.kinetic_energy),
        nve_drift_meV_per_atom_per_ps=_nve_drift(config, state),
        e_repartition_eV=booked,
        e_returned_eV=ledger["returned"],
        e_repartition_eV_per_ps=booked / picoseconds if picoseconds else None,
        repartition_work_eV_per_ps=work / picoseconds if picoseconds else None,
        partition_changes_per_atom=(
            None if ramp is None else float(ramp["updating"]["switches"].mean())
        ),
        n_rebuilds=state.n_rebuilds,
        steps_measured=steps,
        seconds=seconds,
        seconds_per_step=seconds / steps if steps else None,
        stopped_by=stopped_by,
        computed_with=computed_with,
        versions={
            "duetto": version("duetto"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )


def _nve_drift(config: RunConfig, state: State) -> float | None:
    end, span = 0, None
    for stage in config.stages:
        begin, end = end, end + stage.steps
        if isinstance(stage, NVEStage) and begin < state.step:
            span = (begin, min(end, state.step))
    if span is None:
        return None
    table = read_thermo(config.output.dir / THERMO)
    rows = (table["step"] >= span[0]) & (table["step"] <= span[1])
    if rows.sum() < 2:
        return None
    drift = energy_drift_meV_per_atom_per_ps(
        table["time_fs"][rows], table["conserved_eV"][rows], state.n_atoms
    )
    return drift if math.isfinite(drift) else None
