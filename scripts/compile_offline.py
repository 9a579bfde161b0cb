"""Compile the expert kernels for chips that need not be here, and hold them against their budgets.

    python scripts/compile_offline.py                      all kernels of the budget file
    python scripts/compile_offline.py lf32/3/whole/64      those whose name begins like this
    python scripts/compile_offline.py --pair my.duetto     the kernels of a pair file, no budget
    python scripts/compile_offline.py --widen              raise limits to what is measured
    python scripts/compile_offline.py --write              set limits to what is measured
    python scripts/compile_offline.py --floors             rewrite the table in docs/gpu.md

A kernel's name is architecture/types/kind/tile/precision/capability. Exit code 1: over budget.
Limits are only ever raised in a commit of their own, with the reason; they hold for the newest
and the oldest Triton that Duetto supports, so after --write with one comes --widen with the other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Triton cannot compile where it interprets.
os.environ.pop("TRITON_INTERPRET", None)

import triton
from expert_floors import write_page

from duetto.bench.architectures import architecture_named
from duetto.files import atomic_write
from duetto.folding import fold, random_weights
from duetto.kernels.triton.expert_launch import kernel_kinds
from duetto.kernels.triton.expert_offline import Resources, compile_kernel
from duetto.kernels.triton.expert_spec import KernelSpec, kernel_spec
from duetto.pair import ExpertPair

BUDGETS = Path(__file__).resolve().parent.parent / "bench" / "budgets" / "expert_kernels.json"
SPECIES = ("Pt", "C", "O")
AT_MOST = ("stack_bytes", "shared_bytes", "instructions")
AT_LEAST = ("resident_warps",)


@dataclass(frozen=True)
class Target:
    """One kernel to compile, named architecture/types/kind/tile/precision/capability."""

    architecture: str
    types: int
    kind: str
    tile: int
    precision: str
    capability: int

    @classmethod
    def named(cls, name: str) -> Target:
        """Inverse of `name`."""
        architecture, types, kind, tile, precision, capability = name.split("/")
        return cls(architecture, int(types), kind, int(tile), precision, int(capability))

    @property
    def name(self) -> str:
        """The key in the budget file."""
        return (
            f"{self.architecture}/{self.types}/{self.kind}/{self.tile}/"
            f"{self.precision}/{self.capability}"
        )

    def spec(self) -> KernelSpec:
        """Structure of the architecture, which does not depend on weights or cutoff."""
        a = architecture_named(self.architecture, 5.0, SPECIES[: self.types])
        return kernel_spec(fold(a, random_weights(a, seed=0)))


def compiled(target: Target, spec: KernelSpec) -> Resources:
    """Compile one kernel and print a line about it."""
    resources, _ = compile_kernel(
        spec, target.kind, target.tile, target.precision, target.capability
    )
    print(
        f"{target.name:<32} {resources.registers:>4} {resources.stack_bytes:>6} "
        f"{resources.shared_bytes:>7} {resources.instructions:>7} {resources.resident_warps:>6} "
        f"{resources.compile_seconds:>8.1f}",
        flush=True,
    )
    return resources


def excess(limits: dict[str, int], resources: Resources) -> Iterator[str]:
    """What of a kernel is over its budget."""
    measured = resources.to_json()
    for key in AT_MOST:
        if measured[key] > limits[key]:
            yield f"{key} {measured[key]} > {limits[key]}"
    for key in AT_LEAST:
        if measured[key] < limits[key]:
            yield f"{key} {measured[key]} < {limits[key]}"


def limits_of(resources: Resources, before: dict[str, int] | None) -> dict[str, int]:
    """Limits that hold for what is measured, and for what was allowed before if given."""
    measured = {key: int(resources.to_json()[key]) for key in (*AT_MOST, *AT_LEAST)}
    if before is not None:
        measured |= {key: max(measured[key], before[key]) for key in AT_MOST}
        measured |= {key: min(measured[key], before[key]) for key in AT_LEAST}
    return measured


def of_pair(path: str) -> list[tuple[Target, KernelSpec]]:
    """The kernels of the experts in a pair file, with tiles for 64 neighbours."""
    pair = ExpertPair.load(path)
    found = []
    for role, expert in (("hf", pair.hf), ("lf", pair.lf)):
        if expert is not None:
            spec = kernel_spec(fold(expert.architecture, expert.weights))
            for kind in kernel_kinds(spec):
                found.append((Target(role, spec.num_types, kind, 64, "bf16x3", 90), spec))
    return found


def main() -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of kernels' names; default all")
    parser.add_argument("--pair", help="a pair file")
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--widen", action="store_true")
    parser.add_argument("--floors", action="store_true")
    arguments = parser.parse_args()
    budgets: dict[str, dict[str, int]] = json.loads(arguments.budgets.read_text())
    if arguments.pair:
        work = of_pair(arguments.pair)
    else:
        chosen = [n for n in budgets if not arguments.names or n.startswith(tuple(arguments.names))]
        work = [(target, target.spec()) for target in map(Target.named, chosen)]
    print(f"Triton {triton.__version__}")
    print(f"{'kernel':<32} regs  stack  shared  instr.  warps  seconds")
    failures, measured = [], {}
    for target, spec in work:
        resources = measured[target.name] = compiled(target, spec)
        if arguments.write or arguments.widen:
            before = budgets[target.name] if arguments.widen else None
            budgets[target.name] = limits_of(resources, before)
        elif not arguments.pair:
            failures += [
                f"{target.name}: {what}" for what in excess(budgets[target.name], resources)
            ]
    if arguments.write or arguments.widen:
        atomic_write(arguments.budgets, json.dumps(budgets, indent=2) + "\n")
    if arguments.floors:
        write_page({name: (Target.named(name).spec(), r) for name, r in measured.items()})
    for failure in failures:
        print(f"over budget: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
