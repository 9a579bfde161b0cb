"""Short checks on a GPU, of the very kernels that are timed after them.

    python scripts/gpu_check.py forces     against the float64 numbers that are carried along
    python scripts/gpu_check.py graphs     graphs against single launches, and repeats: equal bits
    python scripts/gpu_check.py split      multiple time steps against those of the CPU in float64,
                                           and graphs against single launches

One line per check, also appended to FILE (--out). Exit code 1: one has failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from ase import units
from gpu_cases import (
    EVERY,
    NAMES,
    OUTER_STEPS,
    TIMESTEP_FS,
    TOLERANCE,
    Case,
    carried,
    case_named,
    largest_error,
    split_case,
    split_potential,
    split_states,
)

from duetto.kernels.triton.dynamics import Dynamics
from duetto.md import initial_state
from duetto.md.velocities import maxwell_boltzmann
from duetto.potential.base import Start

REPEATS = 50
STEPS = 60

Check = tuple[str, bool, str]
"""Name, whether it holds, and what was seen."""


def forces(case: Case) -> Iterator[Check]:
    """Forces, energies and virial against float64."""
    numbers = carried(case)
    got = case.potential(device="cuda", backend="triton").evaluate(*case.tensors("cuda"))
    error = largest_error(got, numbers)
    yield f"forces {case.name}", error < TOLERANCE, f"{error:.1e} of the largest"


def graphs(case: Case) -> Iterator[Check]:
    """Captured steps against launched ones, and one evaluation many times."""
    captured, launched = (_run(case, capturable) for capturable in (True, False))
    same = all(
        torch.equal(getattr(captured, name), getattr(launched, name))
        for name in ("positions", "velocities")
    )
    rebuilds = captured.neighbors.n_rebuilds
    used = captured._graphs is not None and launched._graphs is None
    seen = f"{STEPS} steps, {rebuilds} lists{'' if same else ', other bits'}"
    yield f"graphs {case.name}", same and used, seen + ("" if used else ", not captured")
    potential = case.potential(device="cuda", backend="triton")
    x, cell = case.tensors("cuda")
    first = potential.evaluate(x, cell).forces
    differ = sum(not torch.equal(potential.evaluate(x, cell).forces, first) for _ in range(REPEATS))
    yield f"repeats {case.name}", differ == 0, f"{differ} of {REPEATS} differ"


def _run(case: Case, capturable: bool) -> Dynamics:
    potential = case.potential(device="cuda", backend="triton")
    x, cell = case.tensors("cuda")
    potential.rebuild(x, cell)
    masses = torch.tensor(case.atoms.get_masses())
    mixture = potential.neighbor_list.mixture
    mixture.capturable = capturable
    velocities = maxwell_boltzmann(masses, 600.0, seed=0)
    run = Dynamics(mixture, x, velocities, cell, units.fs**2 / masses, 1.0)
    for _ in range(4):
        run.run(STEPS // 4)
    return run


def split(case: Case) -> Iterator[Check]:
    """Whole outer steps against the CPU's, and captured ones against launched ones."""
    # Plain torch: nothing has to be compiled for twelve steps.
    on_cpu = split_potential(case, device="cpu", dtype="float64", backend="reference")
    begin, *_, expected = split_states(case, on_cpu, OUTER_STEPS)
    on_gpu = split_potential(case, device="cuda", backend="triton")
    *_, last = split_states(case, on_gpu, OUTER_STEPS)
    error = float((last.positions.cpu() - expected.positions).abs().max())
    # An error of the forces, of which the slow ones act `EVERY` times as strongly, for all the time
    # on the lightest atom.
    time_fs = OUTER_STEPS * EVERY * TIMESTEP_FS
    wrong = TOLERANCE * float(begin.forces.abs().max()) * EVERY
    allowed = wrong * 0.5 * time_fs**2 * float(begin.response.max())
    moved = float((expected.positions - begin.positions).abs().max())
    seen = f"{error:.1e} Å after {time_fs:g} fs, {allowed:.1e} allowed, {moved:.2f} moved"
    yield f"split {case.name}", error < allowed < 0.1 * moved, seen
    captured, launched = (_split_run(case, capturable) for capturable in (True, False))
    same = all(
        torch.equal(getattr(captured, name), getattr(launched, name))
        for name in ("positions", "velocities", "slow_forces")
    )
    used = captured._graphs is not None and launched._graphs is None
    lists = captured.neighbors.n_rebuilds
    seen = f"{STEPS} steps, {lists} lists{'' if same else ', other bits'}"
    yield f"split graphs {case.name}", same and used, seen + ("" if used else ", not captured")


def _split_run(case: Case, capturable: bool) -> Dynamics:
    potential = split_potential(case, device="cuda", backend="triton", skin=0.1)
    state = initial_state(case.atoms, potential, device="cuda")
    potential.neighbor_list.mixture.capturable = capturable
    start = Start(
        state.positions, state.velocities, state.forces, state.cell, state.response, 0,
        state.slow_forces,
    )  # fmt: skip
    run: Dynamics = potential.propagator(start, TIMESTEP_FS, None, EVERY)
    for _ in range(4):
        run.run(STEPS // 4)
    return run


def main() -> int:
    """Run the checks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=("forces", "graphs", "split"))
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_check: error: torch sees no CUDA device", file=sys.stderr)
        return 2
    failed = 0
    check = {"forces": forces, "graphs": graphs, "split": split}[arguments.check]
    cases = [split_case()] if check is split else [case_named(name) for name in NAMES]
    for case in cases:
        began = time.perf_counter()
        for what, holds, seen in check(case):
            seconds = time.perf_counter() - began
            line = f"{what}: {'ok' if holds else 'FAILED'}, {seen} ({seconds:.1f} s)"
            print(line, flush=True)
            if arguments.out is not None:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                with arguments.out.open("a") as file:
                    file.write(line + "\n")
            failed += not holds
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
