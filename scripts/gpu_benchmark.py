"""Time dynamics on the GPU, step by step in graphs and stage by stage, and append the rows to CSV.

    python scripts/gpu_benchmark.py --out bench/results/gpu_steps.csv

For every size and complex fraction: the time of one step of constant-energy dynamics as a run takes
it (captured graphs, rebuilds included), and of each stage launched on its own; with --every K, too,
that of one inner step where the slow forces act once in K of them. Timings are medians
of rounds; each row is written as soon as it is measured. The forces of the kernels that are timed
are checked first, on a small structure against float64 numbers that are carried along; every row
carries the error. Exit code 1: it is too large.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from ase import Atoms, units
from gpu_cases import TOLERANCE, carried, case_named, largest_error, timed_pair

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.kernels.triton.dynamics import Dynamics
from duetto.kernels.triton.mixture import Mixture
from duetto.kernels.triton.multiple_timestep import SplitDynamics
from duetto.md import initial_state
from duetto.md.velocities import maxwell_boltzmann
from duetto.measure.bench.architectures import ARCHITECTURES
from duetto.measure.bench.rows import append_records, provenance
from duetto.measure.bench.systems import build_system, complex_weights
from duetto.potential.base import Start
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitPotential

TEMPERATURE_K = 300.0
SECONDS_PER_ROUND = 1.0
STEPS_TOGETHER = 200
"""Steps from one start: some rebuilds of the list, but no time for atoms to fall together."""


@dataclass(frozen=True)
class Row:
    """One stage of one system.

    Attributes:
        every: steps from one evaluation by both experts to the next; 1 where time is not split.
        stage: "step" for a whole step of dynamics, or an inner one where time is split; "rebuild",
            "edges", "hf", "lf", "forces" for its stages, launched on their own.
        n_edges_hf, n_edges_lf: edges inside the cutoff that each expert evaluates.
        ms_median, ms_min: of one execution.
        ns_per_edge: median over the edges that the stage works on.
        atom_steps_per_s: atoms over the median, of whole steps.
        peak_memory_bytes: of the device, of the whole system.
        rebuilds_per_step: of whole steps.
        force_error: largest error of forces, energies and virial by these kernels on a small
            structure, over the largest force; None where no numbers are carried for the experts.
    """

    system: str
    n_atoms: int
    n_edges_hf: int
    n_edges_lf: int
    complex_fraction: float
    architecture: str
    lf_architecture: str
    precision: str
    every: int
    stage: str
    ms_median: float
    ms_min: float
    ns_per_edge: float
    atom_steps_per_s: float | None
    rebuilds_per_step: float | None
    peak_memory_bytes: int
    rounds: int
    force_error: float | None


def main() -> int:
    """Measure what the command line asks for."""
    args = _arguments()
    if not torch.cuda.is_available():
        print("gpu_benchmark: error: torch sees no CUDA device", file=sys.stderr)
        return 2
    extra = provenance() | _gpu()
    error = _force_error(args)
    if error is not None:
        print(f"forces are off by {error:.1e} of the largest", flush=True)
    for n_atoms in args.atoms:
        for fraction in args.complex_fraction:
            try:
                for row in measure(args, n_atoms, fraction, error):
                    append(args.out, [row], extra)
                    _show(row)
            except torch.OutOfMemoryError:
                print(f"{n_atoms} atoms, {fraction:g} complex: out of memory, left out", flush=True)
                torch.cuda.empty_cache()
    return 0 if error is None or error < TOLERANCE else 1


def _show(row: Row) -> None:
    rate = f", {row.atom_steps_per_s:.3g} atom·steps/s" if row.atom_steps_per_s else ""
    print(
        f"{row.n_atoms:8d} atoms  {row.complex_fraction:4g} complex  k {row.every}  {row.stage:8s}"
        f"{row.ms_median:10.3f} ms  {row.ns_per_edge:8.2f} ns/edge{rate}",
        flush=True,
    )


def _pair(args: argparse.Namespace) -> ExpertPair:
    if args.pair is not None:
        return ExpertPair.load(args.pair)
    return timed_pair(args.architecture, args.lf_architecture, args.r_max, args.lf_r_max)


def _force_error(args: argparse.Namespace) -> float | None:
    """Of the experts that are timed, None where no numbers of them are carried along."""
    case = case_named("ptco" if args.pair is not None else "pt")
    if case.pair.content_hash != _pair(args).content_hash:
        return None
    potential = case.potential(device="cuda", backend="triton", precision=args.precision)
    return largest_error(potential.evaluate(*case.tensors("cuda")), carried(case))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="CSV")
    parser.add_argument("--system", default="pt", help="pt or ptco")
    parser.add_argument(
        "--atoms", type=int, nargs="+", default=[500, 4000, 32000, 256000], metavar="N"
    )
    parser.add_argument(
        "--complex-fraction", type=float, nargs="+", default=[0.0, 0.1, 1.0], metavar="F"
    )
    parser.add_argument("--pair", type=Path, metavar="FILE", help="default: random weights")
    parser.add_argument("--architecture", default="hf64", choices=ARCHITECTURES)
    parser.add_argument("--lf-architecture", default="lf32", choices=ARCHITECTURES)
    parser.add_argument("--r-max", type=float, default=5.0, metavar="Å")
    parser.add_argument("--lf-r-max", type=float, default=4.5, metavar="Å")
    parser.add_argument("--precision", default="bf16x3", choices=("fp32", "bf16x3"))
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument(
        "--every", type=int, nargs="+", default=[], metavar="K",
        help="time outer steps of K inner ones, too",
    )  # fmt: skip
    return parser.parse_args()


def measure(
    args: argparse.Namespace, n_atoms: int, fraction: float, force_error: float | None
) -> Iterator[Row]:
    """Rows of one system, each once it is measured."""
    torch.cuda.reset_peak_memory_stats()
    atoms = build_system(args.system, n_atoms)
    pair = _pair(args)
    potential = Potential(
        pair,
        atoms.get_chemical_symbols(),
        complex_weights(atoms, fraction),
        atoms.pbc,
        device="cuda",
        backend="triton",
        precision=args.precision,
    )
    x = torch.tensor(atoms.positions, device="cuda")
    cell = torch.tensor(atoms.cell.array, device="cuda")
    potential.rebuild(x, cell)
    mixture: Mixture = potential.neighbor_list.mixture
    masses = torch.tensor(atoms.get_masses())
    velocities = maxwell_boltzmann(masses, TEMPERATURE_K, seed=0)
    run = Dynamics(mixture, x, velocities, cell, units.fs**2 / masses, 1.0)
    run.run(30)
    edges = _count_edges(mixture)
    named = args.pair.name if args.pair is not None else None

    def row(stage: str, times: list[float], worked_on: int, every: int = 1, **more: float) -> Row:
        median = statistics.median(times)
        return Row(
            system=args.system,
            n_atoms=len(atoms),
            n_edges_hf=edges[0],
            n_edges_lf=edges[1],
            complex_fraction=fraction,
            architecture=named or args.architecture,
            lf_architecture=named or args.lf_architecture,
            precision=args.precision,
            every=every,
            stage=stage,
            ms_median=median,
            ms_min=min(times),
            ns_per_edge=1e6 * median / max(worked_on, 1),
            atom_steps_per_s=1e3 * len(atoms) / median if stage == "step" else None,
            rebuilds_per_step=more.get("rebuilds_per_step"),
            peak_memory_bytes=torch.cuda.max_memory_allocated(),
            rounds=args.rounds,
            force_error=force_error,
        )

    steps, rebuilds = _time_steps(run, args.rounds)
    yield row("step", steps, sum(edges), rebuilds_per_step=rebuilds)
    for stage, (launch, worked_on) in _stages(mixture, run.positions, edges).items():
        yield row(stage, _time_stage(launch, args.rounds), worked_on)
    for every in args.every:
        split = _split_run(args, atoms, pair, fraction, every)
        steps, rebuilds = _time_steps(split, args.rounds, every)
        in_all = _count_edges(split.mixture)
        worked = round(in_all[0] / every + in_all[1])
        yield row("step", steps, worked, every, rebuilds_per_step=rebuilds)


def _split_run(
    args: argparse.Namespace, atoms: Atoms, pair: ExpertPair, fraction: float, every: int
) -> SplitDynamics:
    """The same system with the slow forces once in `every` steps."""
    potential = SplitPotential(
        pair,
        atoms.get_chemical_symbols(),
        complex_weights(atoms, fraction),
        atoms.pbc,
        device="cuda",
        backend="triton",
        precision=args.precision,
    )
    state = initial_state(atoms, potential, temperature_K=TEMPERATURE_K, device="cuda")
    start = Start(
        state.positions, state.velocities, state.forces, state.cell, state.response, 0,
        state.slow_forces,
    )  # fmt: skip
    run: SplitDynamics = potential.propagator(start, 1.0, None, every)
    run.run(-(-30 // every) * every)
    return run


def _count_edges(mixture: Mixture) -> tuple[int, int]:
    """Edges inside the cutoff of each expert."""
    rowptr = mixture.neighbors.edges().rowptr
    counts = rowptr[1::2] - rowptr[:-1:2]
    n_first = mixture.neighbors.n_first
    return int(counts[:n_first].sum()), int(counts[n_first:].sum())


def _time_steps(run: Dynamics, rounds: int, every: int = 1) -> tuple[list[float], float]:
    """Milliseconds per step of each round, and rebuilds per step; whole outer steps of `every`.

    Experts with random weights have no repulsion that keeps atoms apart, so after a while the
    atoms go back to where they were.
    """
    start = run.positions.clone(), run.velocities.clone()

    def timed(n_steps: int) -> tuple[float, int]:
        run.positions.copy_(start[0])
        run.velocities.copy_(start[1])
        run.refresh()
        before = run.neighbors.n_rebuilds
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run.run(n_steps)
        torch.cuda.synchronize()
        return time.perf_counter() - begin, run.neighbors.n_rebuilds - before

    few = -(-20 // every) * every
    timed(few)
    per_step = timed(few)[0] / few
    parts = min(max(round(SECONDS_PER_ROUND / per_step / STEPS_TOGETHER), 1), 20)
    n_steps = STEPS_TOGETHER if per_step * STEPS_TOGETHER < 4 * SECONDS_PER_ROUND else 40
    n_steps = -(-n_steps // every) * every
    times, rebuilds = [], 0
    for _ in range(rounds):
        measured = [timed(n_steps) for _ in range(parts)]
        times.append(1e3 * sum(seconds for seconds, _ in measured) / (parts * n_steps))
        rebuilds += sum(count for _, count in measured)
    return times, rebuilds / (rounds * parts * n_steps)


def _stages(
    mixture: Mixture, x: torch.Tensor, edges: tuple[int, int]
) -> dict[str, tuple[Callable[[], object], int]]:
    """Launches of each stage, and how many edges it works on."""
    neighbors = mixture.neighbors
    stages: dict[str, tuple[Callable[[], object], int]] = {
        "rebuild": (lambda: neighbors.rebuild(x), sum(edges)),
        "edges": (lambda: neighbors.update(x), sum(edges)),
        "forces": (mixture.gather, sum(edges)),
    }
    for index, name in enumerate(("hf", "lf")):
        if edges[index]:
            stages[name] = (lambda i=index: mixture.evaluate_expert(i), edges[index])
    return stages


def _time_stage(launch: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of one execution, by events on the device, each round the mean of ten."""
    launch()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            launch()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 10)
    return times


def _gpu() -> dict[str, str | None]:
    """The GPU, its driver and its clocks, as nvidia-smi tells them."""
    query = "driver_version,clocks.sm,clocks.mem,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        values = [value.strip() for value in output.splitlines()[0].split(",")]
    except (OSError, subprocess.CalledProcessError, IndexError):
        values = [None] * 4
    names = ("driver", "sm_clock", "memory_clock", "power_limit")
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        **dict(zip(names, values, strict=True)),
    }


def append(path: Path, rows: list[Row], extra: dict[str, object]) -> None:
    """Add rows with their provenance to a CSV file, which is made if it is missing.

    Raises:
        InputError: the file has other columns.
    """
    columns = [field.name for field in fields(Row)] + list(extra)
    path.parent.mkdir(parents=True, exist_ok=True)
    append_records(path, columns, [{**asdict(row), **extra} for row in rows])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"gpu_benchmark: error: {error}", file=sys.stderr)
        sys.exit(2)
