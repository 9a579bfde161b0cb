"""Compile, several at once, what the round on a GPU launches; or say what that is and how long.

    python scripts/gpu_compile.py                       for the GPU that is here
    python scripts/gpu_compile.py --capability 90       for one that is not
    python scripts/gpu_compile.py --dry-run             the kernels, and the seconds last recorded
    python scripts/gpu_compile.py --record              into bench/gpu/, those not recorded yet

What lies in Triton's cache (TRITON_CACHE_DIR) is not compiled again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

# Triton cannot compile where it interprets.
os.environ.pop("TRITON_INTERPRET", None)

import numpy as np
import torch
import triton
from gpu_cases import NAMES, ROOT, case_named

from duetto.experts.allegro.folding import fold
from duetto.files import atomic_write
from duetto.kernels.triton.expert_launch import EDGE_TILES, kernel_kinds, pack_tile
from duetto.kernels.triton.expert_offline import compile_kernel
from duetto.kernels.triton.expert_spec import KernelSpec, kernel_spec
from duetto.kernels.triton.offline import compiling_for
from duetto.kernels.triton.step_offline import CELL_CAPACITIES, compile_step
from duetto.measure.bench.edges import count_edges

SECONDS = ROOT / "bench" / "gpu" / "compile_seconds.json"
PRECISION = "bf16x3"
FEWER = 0.8
"""Neighbours that centres keep, one of a million in motion, of those that one has in the case."""

Job = tuple[str, KernelSpec | None, str, int]
"""Name, structure of the expert, kind and tile; without an expert, the cells' capacity."""


def jobs() -> list[Job]:
    """All that has to be compiled; a kernel that two cases launch, once."""
    found: dict[tuple[KernelSpec | None, str, int], Job] = {}
    for name in NAMES:
        case = case_named(name)
        counts = count_edges(case.pair, case.atoms)
        for role, expert in case.pair.experts.items():
            spec = kernel_spec(fold(expert.architecture, expert.weights))
            fewest, most = np.min(counts[role]), np.max(counts[role])
            tiles = pack_tile(int(FEWER * fewest)), pack_tile(int(most))
            for tile in (t for t in EDGE_TILES if tiles[0] <= t <= tiles[1]):
                for kind in kernel_kinds(spec):
                    job = (f"{name} {role} {kind} {tile}", spec, kind, tile)
                    found.setdefault((spec, kind, tile), job)
    for capacity in CELL_CAPACITIES:
        found[None, "", capacity] = (f"step {capacity}", None, "", capacity)
    return list(found.values())


def compile_job(job: Job, capability: int) -> tuple[str, float, int]:
    """Name, processor time, and how many of its kernels were not in the cache."""
    name, spec, kind, size = job
    began = _processor_seconds()
    if spec is None:
        compiled = compile_step(capability, cell_capacities=(size,))
    else:
        with compiling_for(capability) as compiled:
            compile_kernel(spec, kind, size, PRECISION, capability)
    return name, _processor_seconds() - began, sum(not kernel.cached for kernel in compiled)


def _processor_seconds() -> float:
    """Of this process and of the assemblers that it ran: however busy the machine is."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def show(wanted: list[Job]) -> None:
    """Print what would be compiled, and how long that took when it was recorded."""
    recorded = _recorded()
    known: dict[str, float] = recorded["seconds"]
    for name, *_ in wanted:
        print(f"  {name:<28}{known[name]:>8.1f} s" if name in known else f"  {name:<28}       ? s")
    times = [known[name] for name, *_ in wanted if name in known]
    missing = len(wanted) - len(times)
    print(
        f"  {len(wanted)} compilations, {sum(times):.0f} s on one core with Triton "
        f"{recorded['triton']}" + (f" and {missing} not recorded" if missing else "")
    )


def _recorded() -> dict[str, Any]:
    if not SECONDS.is_file():
        return {"triton": triton.__version__, "seconds": {}}
    found: dict[str, Any] = json.loads(SECONDS.read_text())
    return found


def record(wanted: list[Job], capability: int) -> None:
    """Compile one after the other what this version of Triton has no time of, and note it."""
    recorded = _recorded()
    if (recorded["triton"], recorded.get("capability")) != (triton.__version__, capability):
        recorded = {"triton": triton.__version__, "capability": capability, "seconds": {}}
    known: dict[str, float] = recorded["seconds"]
    recorded["seconds"] = known = {job[0]: known[job[0]] for job in wanted if job[0] in known}
    SECONDS.parent.mkdir(parents=True, exist_ok=True)
    for job in wanted:
        if job[0] not in known:
            known |= compile_all([job], capability, 1)
            atomic_write(SECONDS, json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def compile_all(wanted: list[Job], capability: int, workers: int) -> dict[str, float]:
    """Processor time of each, s."""
    seconds: dict[str, float] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        running = [pool.submit(compile_job, job, capability) for job in wanted]
        for done in as_completed(running):
            name, took, new = done.result()
            seconds[name] = round(took, 1)
            print(f"  {name:<28}{took:>8.1f} s  {new or 'none'} new", flush=True)
    return seconds


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, metavar="N", help="such as 90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    wanted = jobs()
    if arguments.dry_run:
        show(wanted)
        return 0
    capability = arguments.capability
    if capability is None:
        if not torch.cuda.is_available():
            print("gpu_compile: error: no CUDA device; name one: --capability 90", file=sys.stderr)
            return 2
        major, minor = torch.cuda.get_device_capability()
        capability = 10 * major + minor
    if arguments.record:
        record(wanted, capability)
    else:
        compile_all(wanted, capability, arguments.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
