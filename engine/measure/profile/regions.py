"""The profile of a mixture: every region's stages, timed on the running engine.

Stages count the time that their threads were running, so that what else the machine does is not
taken for theirs. Of several rounds the fastest is kept, whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from duetto.errors import InputError
from duetto.kernels.cpu.expert import Listener
from duetto.md.integrators import velocity_verlet
from duetto.md.state import initial_state
from duetto.measure.bench.edges import count_edges
from duetto.measure.bench.force_check import check_with_reference, expert_work, tensors
from duetto.measure.profile.cost import Amount, StageCost, stage_costs
from duetto.measure.profile.peaks import Peaks, measure_peaks
from duetto.measure.profile.recorder import Recorder, Span, milliseconds
from duetto.measure.turns import time_in_turns
from duetto.potential.base import Evaluation
from duetto.potential.cpu import CPUBackend
from duetto.potential.mixture import Potential
from duetto.potential.terms import ExpertWork

REGIONS = ("complex", "blend", "simple")
_TEMPERATURE_K = 300.0


@dataclass(frozen=True)
class Operation:
    """One operation of one job.

    Attributes:
        stage, name: what it is part of, and what it is.
        ms: time that its threads were running, over the number of threads.
        amount: what it does.
        floor_ms: the shortest time for that on this machine.
    """

    stage: str
    name: str
    ms: float
    amount: Amount
    floor_ms: float


@dataclass(frozen=True)
class JobProfile:
    """One region's share of one expert.

    Attributes:
        region: "complex", "blend" or "simple".
        role: "hf" or "lf".
        atoms, edges, slots: centres, pairs within the cutoff, pairs in the list.
        operations: of the evaluation, in the order in which they run.
        integration: velocity Verlet of these atoms; None for a region's second expert.
    """

    region: str
    role: str
    atoms: int
    edges: int
    slots: int
    operations: tuple[Operation, ...]
    integration: Operation | None

    @property
    def name(self) -> str:
        """Region and expert."""
        return f"{self.region} {self.role.upper()}"

    @property
    def ms(self) -> float:
        """Time of the evaluation."""
        return sum(operation.ms for operation in self.operations)

    def stages(self) -> list[Operation]:
        """Operations of a stage added up, the stages in the order in which they begin."""
        sums: dict[str, Operation] = {}
        last = () if self.integration is None else (self.integration,)
        for one in (*self.operations, *last):
            so_far = sums.get(one.stage)
            sums[one.stage] = replace(
                one,
                name=one.stage,
                ms=one.ms + (so_far.ms if so_far else 0.0),
                amount=one.amount + (so_far.amount if so_far else Amount()),
                floor_ms=one.floor_ms + (so_far.floor_ms if so_far else 0.0),
            )
        return list(sums.values())


@dataclass(frozen=True)
class Profile:
    """What a step costs and where.

    Attributes:
        jobs: each region's share of each expert.
        n_atoms: atoms by region.
        step_ms: one evaluation, nobody listening.
        listened_ms: one evaluation while every stage was timed.
        list_ms: building the neighbour list; not part of the step.
        integration_ms: what velocity Verlet adds to the evaluation.
        peaks: the machine's best rates.
        dtype: of the arithmetic.
        force_error: of the check made before, over the largest force.
        spans: every stage of every chunk of one evaluation.
    """

    jobs: tuple[JobProfile, ...]
    n_atoms: dict[str, int]
    step_ms: float
    listened_ms: float
    list_ms: float
    integration_ms: float
    peaks: Peaks
    dtype: str
    force_error: float
    spans: tuple[Span, ...]

    @property
    def overhead(self) -> float:
        """What listening adds to an evaluation, over one that nobody listens to."""
        return self.listened_ms / self.step_ms - 1.0

    @property
    def between_ms(self) -> float:
        """Time of an evaluation that no stage accounts for.

        Planning, Python between chunks, waiting for the last thread or for a busy machine.
        """
        return self.listened_ms - sum(job.ms for job in self.jobs)


def region_masks(weights: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Atoms (A,) bool with w = 1, in between, and w = 0, by the region's name."""
    masks = (weights == 1.0, (weights > 0.0) & (weights < 1.0), weights == 0.0)
    return dict(zip(REGIONS, masks, strict=True))


def profile(potential: Potential, atoms: Atoms, rounds: int = 5) -> Profile:
    """Time every stage of every region.

    Args:
        potential: on the CPU.
        atoms: its atoms.
        rounds: evaluations with and without timers, in turns; the fastest of each counts.

    Raises:
        InputError: the potential is not on the CPU.
        RunStopped: its forces disagree with the reference.
    """
    backend = potential.backend
    if not isinstance(backend, CPUBackend):
        raise InputError(f"device {potential.device}: stages are timed on cpu; use --device cpu")
    error = check_with_reference(potential, atoms)
    positions, cell = tensors(atoms, potential.device)
    jobs = _jobs(potential)
    names = {id(job): name for name, job in jobs.items()}
    rounds_of_spans: list[tuple[Span, ...]] = []

    def evaluate() -> Evaluation:
        return backend.evaluate(positions, cell, potential.neighbor_list, list(jobs.values()))[0]

    def listened() -> None:
        recorder = Recorder(names)
        backend.listen(recorder)
        try:
            evaluate()
        finally:
            backend.listen(Listener())
        rounds_of_spans.append(tuple(recorder.spans))

    listened()
    evaluate()
    rounds_of_spans.clear()
    timings = time_in_turns({"silent": evaluate, "listened": listened}, rounds=rounds)
    other = _apart(potential, atoms, evaluate(), rounds)
    peaks = measure_peaks(backend.dtype, backend.threads)
    walls = timings["listened"].samples_ms
    spans = rounds_of_spans[walls.index(min(walls))]
    return Profile(
        jobs=_job_profiles(potential, atoms, jobs, spans, peaks, other["integration"]),
        n_atoms={name: int(mask.sum()) for name, mask in region_masks(potential.weights).items()},
        step_ms=timings["silent"].minimum_ms,
        listened_ms=timings["listened"].minimum_ms,
        list_ms=other["list"],
        integration_ms=other["integration"],
        peaks=peaks,
        dtype=potential.dtype,
        force_error=error,
        spans=spans,
    )


def _jobs(potential: Potential) -> dict[str, ExpertWork]:
    """Each region's work of each expert, by `JobProfile.name`."""
    jobs = {}
    for region, mask in region_masks(potential.weights).items():
        for job in expert_work(potential.pair, potential.species, potential.weights, mask):
            jobs[f"{region} {job.role.upper()}"] = job
    return jobs


class _KnownForces:
    """A potential that has its answer ready: what then takes time is the integrator."""

    takes_steps_on_device = False

    def __init__(self, potential: Potential, evaluation: Evaluation) -> None:
        self.weights = potential.weights
        self.n_rebuilds = 0
        self._evaluation = evaluation

    def evaluate(self, positions: torch.Tensor, cell: torch.Tensor) -> Evaluation:
        return self._evaluation

    def set_weights(self, weights: ArrayLike) -> None:
        self.weights = np.asarray(weights)

    def list_reference(self) -> None:
        return None

    def rebuild(self, positions: torch.Tensor, cell: torch.Tensor) -> None:
        return None

    def self_check(self, positions: torch.Tensor, cell: torch.Tensor) -> float:
        return 0.0


def _apart(
    potential: Potential, atoms: Atoms, evaluation: Evaluation, rounds: int
) -> dict[str, float]:
    """Shortest times of the list and of the integrator without forces, ms."""
    known = _KnownForces(potential, evaluation)
    state = initial_state(atoms, known, temperature_K=_TEMPERATURE_K)
    positions, cell = tensors(atoms, potential.device)
    timings = time_in_turns(
        {
            "integration": lambda: velocity_verlet(state, known, 1.0),
            "list": lambda: potential.rebuild(positions, cell),
        },
        rounds=rounds,
    )
    return {name: timing.minimum_ms for name, timing in timings.items()}


def _job_profiles(
    potential: Potential,
    atoms: Atoms,
    jobs: dict[str, ExpertWork],
    spans: tuple[Span, ...],
    peaks: Peaks,
    integration_ms: float,
) -> tuple[JobProfile, ...]:
    backend = potential.backend
    assert isinstance(backend, CPUBackend)
    counts = count_edges(potential.pair, atoms)
    slots = np.diff(potential.neighbor_list.first)
    times = milliseconds(spans)
    profiles = []
    for name, job in jobs.items():
        edges, in_list = int(counts[job.role][job.centres].sum()), int(slots[job.centres].sum())
        costs = stage_costs(backend.experts[job.role])
        operations = []
        for stage in (stage for owner, stage in times if owner == name):
            group, _, operation = stage.partition("/")
            cost = costs.get(stage, StageCost())
            amount = cost.total(edges, len(job.centres), in_list)
            operations.append(
                Operation(
                    stage=group,
                    name=operation,
                    ms=times[name, stage] / backend.threads,
                    amount=amount,
                    floor_ms=peaks.floor_ms(amount.flops, amount.bytes, cost.streams),
                )
            )
        region, n = name.split()[0], len(job.centres)
        second = job.role == "lf" and f"{region} HF" in jobs
        integration = None if second else _integration(n, n / len(atoms) * integration_ms, peaks)
        profiles.append(
            JobProfile(region, job.role, n, edges, in_list, tuple(operations), integration)
        )
    return tuple(profiles)


def _integration(atoms: int, ms: float, peaks: Peaks) -> Operation:
    """Velocity Verlet: per coordinate ten operations; r, v, F, m read, r and v written."""
    amount = Amount(flops=30.0, bytes=3 * 5 * 8 + 8) * atoms
    floor_ms = peaks.floor_ms(amount.flops, amount.bytes, streams=True)
    return Operation("integration", "velocity_verlet", ms, amount, floor_ms)
