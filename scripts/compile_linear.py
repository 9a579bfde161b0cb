"""Compile the kernels of linear experts for a chip that need not be here; hold them to a budget.

    python scripts/compile_linear.py                       against bench/budgets/linear_kernels.json
    python scripts/compile_linear.py --pair my.duetto      of the linear experts of a pair file
    python scripts/compile_linear.py 5-5-5                 one shape of them
    python scripts/compile_linear.py --write               set limits to what is measured

Names are radial functions of each degree, kernel and compute capability. Exit code 1: over budget.
Every version of Triton has limits of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Triton cannot compile where it interprets.
os.environ.pop("TRITON_INTERPRET", None)

import triton

from duetto.experts.linear.expert import LinearExpert
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.kernels.linear import MomentLayout
from duetto.kernels.triton.linear_offline import KINDS, compile_linear

BUDGETS = Path(__file__).resolve().parent.parent / "bench" / "budgets" / "linear_kernels.json"
AT_MOST = ("stack_bytes", "local_instructions", "instructions")
AT_LEAST = ("resident_warps",)
SHAPES = ("5-5-5", "8-8-8-8")


def layout_of(shape: str) -> MomentLayout:
    """Moments of one species; more are more rounds of the same machine code."""
    return MomentLayout(tuple(int(n) for n in shape.split("-")), 1)


def measured(shapes: list[str], capability: int) -> dict[str, dict[str, int]]:
    """What each kernel takes, printed as a table."""
    print(f"Triton {triton.__version__}")
    print(f"{'kernel':<24} regs  stack  spills  instr.  warps  seconds")
    found = {}
    for shape in shapes:
        for kind in KINDS:
            r = compile_linear(layout_of(shape), kind, capability=capability)
            name = f"{shape}/{kind}/{capability}"
            print(
                f"{name:<24} {r.registers:>4} {r.stack_bytes:>6} {r.local_instructions:>7} "
                f"{r.instructions:>7} {r.resident_warps:>6} {r.compile_seconds:>8.1f}",
                flush=True,
            )
            numbers = r.to_json()
            found[name] = {key: int(numbers[key]) for key in (*AT_MOST, *AT_LEAST)}
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shapes", nargs="*", default=SHAPES, help="radial functions by degree")
    parser.add_argument("--pair", help="a pair file")
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.pair:
        experts = ExpertPair.load(arguments.pair).experts.values()
        linear = [e for e in experts if isinstance(e, LinearExpert)]
        measured(["-".join(map(str, e.description.radials)) for e in linear], arguments.capability)
        return 0
    version = ".".join(triton.__version__.split(".")[:2])
    budgets = json.loads(arguments.budgets.read_text()) if arguments.budgets.exists() else {}
    found = measured(list(arguments.shapes), arguments.capability)
    if arguments.write:
        budgets[version] = budgets.get(version, {}) | found
        atomic_write(arguments.budgets, json.dumps(budgets, indent=2, sort_keys=True) + "\n")
        return 0
    limits, failures = budgets.get(version, {}), []
    for name, numbers in found.items():
        if name not in limits:
            print(f"no budget of {name} with Triton {version}: use --write", file=sys.stderr)
            return 2
        failures += [
            f"{name}: {key} {numbers[key]}, limit {limits[name][key]}"
            for key in numbers
            if (numbers[key] > limits[name][key]) == (key in AT_MOST)
            and numbers[key] != limits[name][key]
        ]
    for failure in failures:
        print(f"over budget: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
