"""Compile the expert kernels for chips that need not be here, and hold them against their budgets.

    python scripts/compile_offline.py                      all kernels of the budget file
    python scripts/compile_offline.py lf32/3/whole/64      those whose name begins like this
    python scripts/compile_offline.py --pair my.duetto     the kernels of a pair file, no budget
    python scripts/compile_offline.py --write              set limits to what is measured
    python scripts/compile_offline.py --floors             rewrite the table in docs/gpu.md

A kernel's name is architecture/types/kind/tile/precision/capability. Exit code 1: over budget.
Every version of Triton has limits of its own: compilers differ by more than a regression would.
They are only ever raised in a commit of their own, with the reason. What Triton has compiled
before it takes from its cache, so that a run that was interrupted is soon where it was.
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

from duetto.experts.allegro.folding import fold, random_weights
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.kernels.triton.expert_launch import kernel_kinds
from duetto.kernels.triton.expert_offline import Resources, compile_kernel
from duetto.kernels.triton.expert_spec import KernelSpec, kernel_spec
from duetto.measure.bench.architectures import architecture_named

BUDGETS = Path(__file__).resolve().parent.parent / "bench" / "budgets" / "expert_kernels.json"
SPECIES = ("Pt", "C", "O")
AT_MOST = ("stack_bytes", "local_instructions", "shared_bytes", "instructions")
AT_LEAST = ("resident_warps",)

Budgets = dict[str, dict[str, dict[str, int]]]
"""Limits by version of Triton and name of the kernel."""


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
        if key in limits and measured[key] > limits[key]:
            yield f"{key} {measured[key]} > {limits[key]}"
    for key in AT_LEAST:
        if measured[key] < limits[key]:
            yield f"{key} {measured[key]} < {limits[key]}"


def limits_of(resources: Resources) -> dict[str, int]:
    """Limits that just hold for what is measured."""
    return {key: int(resources.to_json()[key]) for key in (*AT_MOST, *AT_LEAST)}


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


def chosen_names(beginnings: list[str], budgets: dict[str, dict[str, int]]) -> list[str]:
    """Kernels with a budget whose names begin so, and those that are named in full."""
    whole = [name for name in beginnings if name.count("/") == 5 and name not in budgets]
    return [n for n in budgets if not beginnings or n.startswith(tuple(beginnings))] + whole


def parse_arguments() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of kernels' names; default all")
    parser.add_argument("--pair", help="a pair file")
    parser.add_argument("--budgets", type=Path, default=BUDGETS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--floors", action="store_true")
    arguments = parser.parse_args()
    if arguments.pair and (arguments.write or arguments.floors):
        parser.error("--pair has no budget and no place in the table")
    return arguments


def main() -> int:
    """Run the command line."""
    arguments = parse_arguments()
    version = ".".join(triton.__version__.split(".")[:2])
    by_version: Budgets = json.loads(arguments.budgets.read_text())
    budgets = by_version.setdefault(version, {})
    if arguments.pair:
        work = of_pair(arguments.pair)
    else:
        names = chosen_names(arguments.names, budgets)
        unknown = [name for name in names if name not in budgets]
        if not names or (unknown and not arguments.write):
            what = unknown[0] if unknown else "any kernel"
            print(f"no budget of {what} with Triton {version}: use --write", file=sys.stderr)
            return 2
        work = [(target, target.spec()) for target in map(Target.named, names)]
    print(f"Triton {triton.__version__}")
    print(f"{'kernel':<32} regs  stack  shared  instr.  warps  seconds")
    measured = {target.name: (spec, compiled(target, spec)) for target, spec in work}
    failures = []
    for name, (_, resources) in measured.items():
        if arguments.write:
            budgets[name] = limits_of(resources)
        elif not arguments.pair:
            failures += [f"{name}: {what}" for what in excess(budgets[name], resources)]
    if arguments.write:
        atomic_write(arguments.budgets, json.dumps(by_version, indent=2, sort_keys=True) + "\n")
    if arguments.floors:
        write_page(measured, version)
    for failure in failures:
        print(f"over budget: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
