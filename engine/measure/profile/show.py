"""A profile as tables, JSON, a Chrome trace and a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from duetto.files import atomic_write
from duetto.measure.bench.rows import aligned
from duetto.measure.profile.prediction import Move
from duetto.measure.profile.regions import JobProfile, Operation, Profile

PROMISED_OVERHEAD = 0.02
"""What listening may add to a step; above, the times of stages are longer than they are unheard."""

_COLOURS = {
    "neighbours": "#7f7f7f",
    "embedding": "#4c72b0",
    "layer 0": "#dd8452",
    "layer 1": "#c44e52",
    "layer 2": "#937860",
    "readout": "#55a868",
    "scatter": "#8172b3",
    "integration": "#da8bc3",
}


def as_text(profile: Profile, move: Move | None) -> str:
    """Tables for people."""
    peaks = profile.peaks
    parts = [
        f"step {profile.step_ms:.3f} ms ({profile.dtype}, {peaks.threads} threads)",
        _overhead_line(profile),
        f"neighbour list {profile.list_ms:.3f} ms each time it is built, "
        f"integration {profile.integration_ms:.3f} ms a step",
        f"peaks: {peaks.gflops:.0f} GFLOP/s in matrix products, copies {peaks.cache_gbytes:.0f} "
        f"GB/s in cache and {peaks.memory_gbytes:.1f} GB/s in memory",
        f"forces checked against the reference: {profile.force_error:.0e} of the largest",
        _region_table(profile),
    ]
    parts += [_job_table(job) for job in profile.jobs]
    if move is not None:
        parts.append(_move_lines(profile, move))
    return "\n\n".join(("\n".join(parts[:5]), *parts[5:]))


def _overhead_line(profile: Profile) -> str:
    added = f"the timers add {profile.overhead:+.1%} while on ({profile.listened_ms:.3f} ms, of "
    added += f"which {profile.between_ms:.3f} between stages)"
    if profile.overhead <= PROMISED_OVERHEAD:
        return added
    return (
        f"WARNING: {added}, more than the {PROMISED_OVERHEAD:.0%} promised: stages look slower "
        "than they are; more atoms, more --rounds or an idle machine bring it down"
    )


def _move_lines(profile: Profile, move: Move) -> str:
    """Prediction beside result, and which way the prediction goes.

    Two things are known to part them. The stages were timed while listened to, which is charged to
    their edges; and only stages are predicted, while an evaluation with fewer edges also spends
    less between stages.
    """
    predicted, done = move.predicted_saving_ms, move.measured_saving_ms
    line = (
        f"moving the {move.atoms} complex atoms within {move.layer:g} Å of the others to LF: "
        f"predicted {predicted:+.3f} ms, done {done:+.3f} ms\n"
    )
    if round(predicted, 3) == round(done, 3):
        return f"{line}the prediction is right to the last digit shown"
    by = f"by {abs(predicted - done):.3f} ms"
    if done:
        by += f" ({abs(predicted / done - 1.0):.0%})"
    if predicted < done:
        return (
            f"{line}the prediction underestimates the saving {by}: it counts stages alone, and "
            "what is spent between them shrinks with the region, too"
        )
    timers = predicted * max(profile.overhead, 0.0) / (1.0 + max(profile.overhead, 0.0))
    return (
        f"{line}the prediction overestimates the saving {by}: it takes time for proportional to "
        f"edges, but some of it stays with fewer; and timers that were on while stages were timed "
        f"make up about {timers:.3f} ms of what was predicted"
    )


def _region_table(profile: Profile) -> str:
    slots = sum(job.slots for job in profile.jobs)
    lines = [["region", "atoms", "edges", "ms", "share", "µs/atom", "list ms"]]
    total = sum(job.ms for job in profile.jobs)
    for job in profile.jobs:
        lines.append(
            [
                job.name,
                str(job.atoms),
                str(job.edges),
                f"{job.ms:.3f}",
                f"{job.ms / total:.1%}",
                f"{1000 * job.ms / job.atoms:.2f}",
                f"{profile.list_ms * job.slots / slots:.3f}",
            ]
        )
    return aligned(lines)


def _job_table(job: JobProfile) -> str:
    lines = [[job.name, "ms", "share", "ns/edge", "MFLOP", "MB", "GFLOP/s", "floor ms", "of floor"]]
    total = sum(one.ms for one in job.stages())
    for one in job.stages():
        lines.append(
            [
                one.stage,
                f"{one.ms:.3f}",
                f"{one.ms / total:.1%}",
                f"{1e6 * one.ms / max(job.edges, 1):.1f}",
                f"{1e-6 * one.amount.flops:.2f}",
                f"{1e-6 * one.amount.bytes:.2f}",
                f"{1e-6 * one.amount.flops / one.ms:.1f}",
                f"{one.floor_ms:.3f}",
                f"{one.floor_ms / one.ms:.0%}",
            ]
        )
    return aligned(lines)


def as_json(profile: Profile, move: Move | None) -> dict[str, Any]:
    """Plain data, with every operation."""
    return {
        "dtype": profile.dtype,
        "threads": profile.peaks.threads,
        "n_atoms": profile.n_atoms,
        "step_ms": profile.step_ms,
        "listened_ms": profile.listened_ms,
        "overhead": profile.overhead,
        "promised_overhead": PROMISED_OVERHEAD,
        "between_stages_ms": profile.between_ms,
        "neighbor_list_ms": profile.list_ms,
        "integration_ms": profile.integration_ms,
        "force_error": profile.force_error,
        "peaks": profile.peaks.to_dict(),
        "regions": [_job_json(job) for job in profile.jobs],
        "move": None if move is None else move.to_dict(),
    }


def _job_json(job: JobProfile) -> dict[str, Any]:
    return {
        "region": job.region,
        "expert": job.role,
        "atoms": job.atoms,
        "edges": job.edges,
        "ms": job.ms,
        "stages": [_operation_json(one, "stage") for one in job.stages()],
        "operations": [_operation_json(one, "name") for one in job.operations],
    }


def _operation_json(one: Operation, named: str) -> dict[str, Any]:
    name = {"stage": one.stage} | ({"operation": one.name} if named == "name" else {})
    return name | {
        "ms": one.ms,
        "flops": one.amount.flops,
        "product_flops": one.amount.products,
        "bytes": one.amount.bytes,
        "floor_ms": one.floor_ms,
    }


def write_trace(profile: Profile, path: Path) -> None:
    """Write one evaluation as a Chrome trace, which Perfetto and chrome://tracing open."""
    start = min(span.begin_ns for span in profile.spans)
    threads = {ident: k for k, ident in enumerate(sorted({s.thread for s in profile.spans}))}
    events: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": k, "args": {"name": f"thread {k}"}}
        for k in threads.values()
    ]
    for span in profile.spans:
        stage, _, operation = span.stage.partition("/")
        events.append(
            {
                "name": operation,
                "cat": f"{span.job},{stage}",
                "ph": "X",
                "pid": 0,
                "tid": threads[span.thread],
                "ts": (span.begin_ns - start) / 1000.0,
                "dur": (span.end_ns - span.begin_ns) / 1000.0,
                "args": {"region": span.job, "stage": stage},
            }
        )
    atomic_write(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def draw(profile: Profile, path: Path) -> None:
    """Draw stacked bars of the stages: per region, and per atom of each region."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    whole, each = figure.subplots(1, 2)
    for axes, title, per_atom in ((whole, "ms per step", False), (each, "µs per atom", True)):
        for x, job in enumerate(profile.jobs):
            bottom = 0.0
            factor = 1000.0 / job.atoms if per_atom else 1.0
            for one in job.stages():
                height = one.ms * factor
                axes.bar(x, height, bottom=bottom, color=_COLOURS[one.stage], width=0.7)
                bottom += height
            floor = sum(one.floor_ms for one in job.stages()) * factor
            axes.plot([x - 0.4, x + 0.4], [floor, floor], color="black", linestyle="--")
        names = [job.name.replace(" ", "\n") for job in profile.jobs]
        axes.set_xticks(range(len(profile.jobs)), names)
        axes.set_ylabel(title)
    stages = dict.fromkeys(one.stage for job in profile.jobs for one in job.stages())
    handles = [whole.bar(0, 0, color=_COLOURS[stage], label=stage) for stage in stages]
    floor_line = whole.plot([], [], "k--", label="floor of this machine")
    figure.legend(handles=[*handles, *floor_line], loc="outside right upper", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    atomic_write(path, picture.getvalue())
