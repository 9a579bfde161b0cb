"""Short checks on a GPU, of the very kernels that are timed after them.

    python scripts/gpu_check.py forces     against the float64 numbers that are carried along
    python scripts/gpu_check.py graphs     graphs against single launches, and repeats: equal bits

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
from gpu_cases import NAMES, TOLERANCE, Case, carried, case_named, largest_error

from duetto.kernels.triton.dynamics import Dynamics
from duetto.md.velocities import maxwell_boltzmann

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


def main() -> int:
    """Run the checks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=("forces", "graphs"))
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_check: error: torch sees no CUDA device", file=sys.stderr)
        return 2
    failed = 0
    for name in NAMES:
        began = time.perf_counter()
        for what, holds, seen in {"forces": forces, "graphs": graphs}[arguments.check](
            case_named(name)
        ):
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
