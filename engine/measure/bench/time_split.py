"""Splitting in space, in time and in both: what a step of dynamics costs each way.

All ways take the same inner step, so that the quotient of the costs per step is the speed-up per
simulated time. How long the outer step may be is a matter of the pair: docs/time.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from duetto.errors import InputError
from duetto.measure.bench.force_check import check_with_reference, tensors
from duetto.measure.bench.settings import Array, BenchSettings, Case, Step
from duetto.measure.bench.sweep import counted_step
from duetto.measure.turns import time_in_turns
from duetto.potential.choice import choose_backend
from duetto.potential.mixture import Term
from duetto.potential.split import SplitPotential


@dataclass(frozen=True)
class SplitRow:
    """One way to take a step, on one structure.

    Attributes:
        system: name of the structure.
        n_atoms: atoms.
        complex_fraction: share of the atoms that HF computes in the mixture.
        way: `full_hf`; `space`, the mixture at every step; `time`, full HF once in k steps; `both`.
        every: k.
        ms_per_step: per inner step, the median of the rounds' whole outer steps over k.
        speedup_vs_full_hf: per simulated time.
        cpu_ms_per_step: processor time of the fastest round, all threads together: what is left of
            it on a busy machine.
        cpu_speedup_vs_full_hf: per simulated time, by processor time.
        hf_ms, lf_ms: of one evaluation of HF on the atoms that it computes, and of LF on all; where
            HF is a correction to LF, of the correction.
        speedup_predicted: from those two, f + (1 − f) c in space, 1/k + c in time, f/k + c in
            both; where HF is a correction of cost d, (f d + c), (d/k + c), (f d/k + c) over d + c.
        force_error: largest error of a force over the largest force, against the reference.
        backend, device, dtype, rounds: how it was measured.
    """

    system: str
    n_atoms: int
    complex_fraction: float
    way: str
    every: int
    ms_per_step: float
    speedup_vs_full_hf: float
    cpu_ms_per_step: float
    cpu_speedup_vs_full_hf: float
    hf_ms: float
    lf_ms: float
    speedup_predicted: float
    force_error: float
    backend: str
    device: str
    dtype: str
    rounds: int


def measure_split(cases: Sequence[Case], settings: BenchSettings, every: int) -> list[SplitRow]:
    """Time every way on every structure and partition, in turns.

    Args:
        cases: structures and partitions.
        settings: what to measure and how; its engines and interfaces do not matter here.
        every: inner steps in an outer one.

    Raises:
        InputError: the pair lacks LF, LF does not know a species, or the backend is triton.
        RunStopped: forces disagree with the reference.
    """
    if settings.pair.lf is None:
        raise InputError("--every: the pair has no expert lf")
    if choose_backend(settings.backend, settings.device, settings.dtype) == "triton":
        raise InputError(
            "--every: is timed where the host takes the steps; use --device cpu, and on a GPU "
            "scripts/gpu_benchmark.py --every"
        )
    for case in cases:
        strange = sorted(set(case.atoms.symbols) - set(settings.pair.lf.species))
        if strange:
            raise InputError(
                f"--every: lf computes all atoms between two evaluations of hf, and this pair's "
                f"does not know {', '.join(strange)} ({case.system}, {len(case.atoms)} atoms); "
                "take a pair such as examples/ptco/ptco_time_linear.duetto, or --system pt"
            )
    return [
        row for case in cases for w in case.partitions for row in _rows(case, w, settings, every)
    ]


def _rows(case: Case, weights: Array, settings: BenchSettings, every: int) -> list[SplitRow]:
    potentials = {"space": _split(case, settings, weights)}
    potentials["time"] = _split(case, settings, np.ones(len(weights)))
    errors = {name: check_with_reference(p, case.atoms) for name, p in potentials.items()}
    tasks = _tasks(case, settings, potentials, every)
    for task in tasks.values():
        task()
    cpu_ms: dict[str, list[float]] = {name: [] for name in tasks}
    with tqdm(total=settings.rounds, desc=f"{len(weights)} atoms", disable=None) as bar:
        counted = {name: counted_step(task, cpu_ms[name]) for name, task in tasks.items()}
        timings = time_in_turns(counted, rounds=settings.rounds, after_round=bar.update)
    cpu = {name: min(found) for name, found in cpu_ms.items()}
    ms = {name: timing.median_ms for name, timing in timings.items()}
    steps = {"full_hf": 1, "space": 1, "time": every, "both": every}
    f = float((weights > 0.0).mean())
    correction = settings.pair.correction
    alone, cheap = ms["hf_all"], ms["lf_all"]
    full = alone + cheap if correction else alone
    predicted = {
        "full_hf": full,
        "space": ms["hf_complex"] + ms["lf_simple"],
        "time": alone / every + cheap,
        "both": ms["hf_complex"] / every + cheap,
    }
    return [
        SplitRow(
            system=case.system,
            n_atoms=len(weights),
            complex_fraction=f,
            way=way,
            every=n,
            ms_per_step=ms[way] / n,
            speedup_vs_full_hf=ms["full_hf"] / (ms[way] / n),
            cpu_ms_per_step=cpu[way] / n,
            cpu_speedup_vs_full_hf=cpu["full_hf"] / (cpu[way] / n),
            hf_ms=alone if way in ("full_hf", "time") else ms["hf_complex"],
            lf_ms={"full_hf": cheap if correction else 0.0, "space": ms["lf_simple"]}.get(
                way, cheap
            ),
            speedup_predicted=full / predicted[way],
            force_error=errors["time" if way in ("full_hf", "time") else "space"],
            backend=potentials["time"].backend.name,
            device=settings.device,
            dtype=settings.dtype,
            rounds=settings.rounds,
        )
        for way, n in steps.items()
    ]


def _split(case: Case, settings: BenchSettings, weights: Array) -> SplitPotential:
    return SplitPotential(
        settings.pair,
        case.atoms.get_chemical_symbols(),
        weights,
        case.atoms.pbc,
        device=settings.device,
        dtype=settings.dtype,
        backend=settings.backend,
    )


def _tasks(
    case: Case, settings: BenchSettings, potentials: dict[str, SplitPotential], every: int
) -> dict[str, Step]:
    """Whole outer steps, plain steps, and each term alone."""
    positions, cell = tensors(case.atoms, settings.device)
    mixture, whole = potentials["space"], potentials["time"]
    ones, w = np.ones(len(mixture.weights)), mixture.weights

    def outer(potential: SplitPotential) -> Step:
        def step() -> None:
            for _ in range(every - 1):
                potential.evaluate_fast(positions, cell)
            potential.evaluate(positions, cell)

        return step

    def terms(potential: SplitPotential, *asked: Term | None) -> Step:
        groups = [[term for term in asked if term is not None]]
        return lambda: potential.evaluate_terms(positions, cell, groups)

    # E^HF − E^LF is a correction alone, and where HF is one, LF computes all atoms.
    less = [Term("lf", -ones), Term("lf", -w)] if settings.pair.correction else [None, None]
    rest = ones if settings.pair.correction else 1.0 - w
    return {
        "full_hf": terms(whole, Term("hf", ones)),
        "space": terms(mixture, Term("hf", w), Term("lf", 1.0 - w)),
        "time": outer(whole),
        "both": outer(mixture),
        "hf_all": terms(whole, Term("hf", ones), less[0]),
        "hf_complex": terms(mixture, Term("hf", w), less[1]),
        "lf_simple": terms(mixture, Term("lf", rest)),
        "lf_all": terms(whole, Term("lf", ones)),
    }


def as_table(rows: Sequence[SplitRow]) -> str:
    """The rows for people: the ways side by side, then what each expert costs."""
    lines = [
        "system    atoms  complex  way        k  ms/step  speed-up  predicted  HF ms  LF ms  "
        "cpu ms  by cpu"
    ]
    lines += [
        f"{row.system:8s} {row.n_atoms:6d} {row.complex_fraction:8.3f}  {row.way:8s} "
        f"{row.every:3d} {row.ms_per_step:8.2f} {row.speedup_vs_full_hf:9.2f} "
        f"{row.speedup_predicted:10.2f} {row.hf_ms:6.1f} {row.lf_ms:6.1f} "
        f"{row.cpu_ms_per_step:7.2f} {row.cpu_speedup_vs_full_hf:7.2f}"
        for row in rows
    ]
    return "\n".join(lines)


def as_json(rows: Sequence[SplitRow]) -> str:
    """The rows as a list of objects."""
    return json.dumps([asdict(row) for row in rows], indent=1)
