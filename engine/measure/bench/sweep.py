"""The measurement: every engine checked first, then all timed in turns, structure by structure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from duetto.errors import InputError
from duetto.experts.base import max_cutoff
from duetto.measure.bench.edges import count_edges
from duetto.measure.bench.foreign_engines import ForeignEngines
from duetto.measure.bench.memory import memory_per_atom
from duetto.measure.bench.own_engines import own_engines
from duetto.measure.bench.rows import Row
from duetto.measure.bench.settings import BenchSettings, Candidate, Case, Say, Step
from duetto.measure.turns import Timing, time_in_turns

_LIST_ROUNDS = 3


@dataclass(frozen=True)
class NequipBest:
    """nequip's fastest engine through one interface.

    Attributes:
        us_per_edge: median.
        n_atoms: on how many atoms.
    """

    us_per_edge: float
    n_atoms: int


@dataclass(frozen=True)
class Timed:
    """A candidate with its times; `list_ms` None where it has no list apart from the step."""

    candidate: Candidate
    step: Timing
    cpu_ms: float
    list_ms: float | None


def measure(cases: Sequence[Case], settings: BenchSettings, say: Say = print) -> list[Row]:
    """Check and time every engine on every structure, smaller structures first.

    Args:
        cases: structures and partitions.
        settings: what to measure and how.
        say: told what is left out and why, and what takes long.

    Raises:
        InputError: the pair does not know a species, lacks an expert that is asked for, or every
            engine is left out.
        RunStopped: forces disagree; see `duetto.measure.bench.force_check`.
    """
    if settings.pair.lf is None and {"mixture", "full_lf"} & set(settings.engines):
        say("mixture and full_lf are left out: the pair has no expert lf")
    for line in _lf_left_out(cases, settings):
        say(line)
    foreign = ForeignEngines(settings, say)
    best: dict[tuple[str, str], NequipBest] = {}
    rows = []
    for case in sorted(cases, key=lambda case: len(case.atoms)):
        counts = count_edges(settings.pair, case.atoms)
        candidates = own_engines(case, settings, counts)
        candidates += foreign.candidates(case, int(counts["hf"].sum()))
        if not candidates:
            raise InputError("nothing to time: every engine is left out")
        timed = _time(candidates, settings, f"{len(case.atoms)} atoms")
        for name, found in _best(timed, len(case.atoms)).items():
            best[case.system, name] = found
        here = {name: found for (system, name), found in best.items() if system == case.system}
        hf_edges = int(counts["hf"].sum())
        rows += [_row(case, settings, one, timed, here, hf_edges) for one in timed]
    return rows


def _time(candidates: Sequence[Candidate], settings: BenchSettings, what: str) -> list[Timed]:
    """Time lists and steps, each kind in turns; all has run once before, in the checks."""
    synchronize = torch.cuda.synchronize if settings.device != "cpu" else (lambda: None)
    searches = {
        (k, name): search
        for k, candidate in enumerate(candidates)
        for name, search in candidate.lists.items()
    }
    keys = {f"{k} {name}": (k, name) for k, name in searches}
    lists: dict[int, list[float]] = {}
    if searches:
        found = time_in_turns(
            {text: searches[key] for text, key in keys.items()},
            rounds=_LIST_ROUNDS,
            synchronize=synchronize,
        )
        for text, (k, _) in keys.items():
            lists.setdefault(k, []).append(found[text].median_ms)
    for candidate in candidates:
        candidate.step()  # with the list just built, whatever it prepares is prepared
    cpu_ms: list[list[float]] = [[] for _ in candidates]
    with tqdm(total=settings.rounds, desc=what, disable=None, leave=False) as bar:
        steps = time_in_turns(
            {str(k): counted_step(c.step, cpu_ms[k]) for k, c in enumerate(candidates)},
            rounds=settings.rounds,
            synchronize=synchronize,
            after_round=bar.update,
        )
    return [
        Timed(candidate, steps[str(k)], min(cpu_ms[k]), min(lists[k]) if k in lists else None)
        for k, candidate in enumerate(candidates)
    ]


def counted_step(step: Step, cpu_ms: list[float]) -> Step:
    """The same step, which also notes the processor time it took."""

    def counted() -> None:
        began = time.process_time()
        step()
        cpu_ms.append(1000.0 * (time.process_time() - began))

    return counted


def _us_per_edge(timed: Timed) -> float:
    return 1000.0 * timed.step.median_ms / max(timed.candidate.n_edges, 1)


def _best(timed: Sequence[Timed], n_atoms: int) -> dict[str, NequipBest]:
    """nequip's best by interface."""
    best: dict[str, NequipBest] = {}
    for one in timed:
        if one.candidate.engine.startswith("nequip"):
            interface, found = one.candidate.interface, NequipBest(_us_per_edge(one), n_atoms)
            if interface not in best or found.us_per_edge < best[interface].us_per_edge:
                best[interface] = found
    return best


def _row(
    case: Case,
    settings: BenchSettings,
    timed: Timed,
    others: Sequence[Timed],
    best: Mapping[str, NequipBest],
    hf_edges: int,
) -> Row:
    candidate, step_ms = timed.candidate, timed.step.median_ms
    full = {
        other.candidate.engine: other
        for other in others
        if other.candidate.interface == candidate.interface
    }
    nequip = best.get(candidate.interface)
    nequip_ms = None if nequip is None else nequip.us_per_edge * hf_edges / 1000.0
    ideal_ms = _ideal_ms(candidate, full)
    full_hf_ms = full["full_hf"].step.median_ms if "full_hf" in full else None
    return Row(
        system=case.system,
        n_atoms=len(case.atoms),
        n_edges=candidate.n_edges,
        complex_fraction=candidate.complex_fraction,
        engine=candidate.engine,
        interface=candidate.interface,
        backend=candidate.backend,
        step_ms_median=step_ms,
        step_ms_min=timed.step.minimum_ms,
        cpu_ms_min=timed.cpu_ms if settings.device == "cpu" else None,
        us_per_edge=_us_per_edge(timed),
        neighbor_list_ms=timed.list_ms,
        speedup_vs_nequip_best=_quotient(nequip_ms, step_ms),
        nequip_n_atoms=None if nequip is None else nequip.n_atoms,
        speedup_vs_full_hf=_quotient(full_hf_ms, step_ms),
        speedup_ideal=_quotient(full_hf_ms, ideal_ms),
        share_of_ideal=_quotient(ideal_ms, step_ms),
        memory_bytes_per_atom=_memory(case, settings, candidate),
        force_error=candidate.force_error,
        checked_against=candidate.checked_against,
        rounds=settings.rounds,
        allocator=settings.allocator,
        **_conditions(settings),
    )


def _lf_left_out(cases: Sequence[Case], settings: BenchSettings) -> list[str]:
    """On which systems LF cannot compute all atoms, and why."""
    lf = settings.pair.lf
    if lf is None or "full_lf" not in settings.engines:
        return []
    strange = {case.system: sorted(set(case.atoms.symbols) - set(lf.species)) for case in cases}
    return [
        f"{system}: full_lf is left out: the expert lf does not know {', '.join(symbols)}"
        for system, symbols in strange.items()
        if symbols
    ]


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def _ideal_ms(candidate: Candidate, full: Mapping[str, Timed]) -> float | None:
    """A mixture's time if each edge cost what it costs in the full run of its expert, ms."""
    if candidate.engine != "mixture" or not {"full_hf", "full_lf"} <= set(full):
        return None
    whole, edges = full["full_hf"], full["full_hf"].candidate.edges_by_role
    per_edge = {"lf": _us_per_edge(full["full_lf"])}
    # Full HF has LF's edges, too, where HF is a correction to LF.
    of_hf = 1000.0 * whole.step.median_ms - edges.get("lf", 0) * per_edge["lf"]
    per_edge["hf"] = of_hf / max(edges["hf"], 1)
    return sum(n * per_edge[role] for role, n in candidate.edges_by_role.items()) / 1000.0


def _memory(case: Case, settings: BenchSettings, candidate: Candidate) -> float | None:
    if not settings.memory or candidate.weights is None or candidate.interface != "model":
        return None
    options = {
        "device": settings.device,
        "dtype": settings.dtype,
        "backend": settings.backend,
        "threads": torch.get_num_threads(),
    }
    return memory_per_atom(settings.pair, case.atoms, candidate.weights, options)


def _conditions(settings: BenchSettings) -> dict[str, Any]:
    r_max = {role: max_cutoff(e) for role, e in settings.pair.experts.items()}
    return {
        "architecture": settings.architecture,
        "lf_architecture": settings.lf_architecture,
        "r_max": r_max["hf"],
        "lf_r_max": r_max.get("lf"),
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": torch.get_num_threads(),
    }
