"""Compile the kernels of the device step for chips given by number and print what they take.

Run in a process of its own, without TRITON_INTERPRET: `python compile_step.py 80 90`.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from duetto.kernels.triton import edges, integrate, neighbors, scatter, thermostat

FLOAT64 = {
    "positions", "frame", "wrapped", "cutoffs", "skin", "reference", "limits", "weights",
    "virials", "forces", "energies", "row_energies", "velocities", "accelerations", "timestep",
    "kinetic", "last_positions", "last_velocities", "thermostat", "momenta", "momentum", "mass",
    "kinetic_before", "heat", "last_heat",
}  # fmt: skip
INT64 = {"home", "start", "shifts", "found_shifts", "steps", "seed", "fixed_forces", "rowptr"}
FLOAT32 = {"vectors", "gradients"}
NUMBERS = {
    "n_atoms", "n_first", "n_types", "capacity", "n_blocks", "n_centres", "n_cells",
}  # fmt: skip
TILES = {"SMALLEST": 16, "TILES": 5, "PER_BLOCK": 256}
KERNELS = [
    (neighbors.bin_atoms, {"CAPACITY": 32, "BLOCK": 128}, 4, {}),
    (neighbors.order_cells, {"CAPACITY": 32, "CELLS": 32}, 4, {}),
    (neighbors.search_candidates, {"FAR": False, "FILL": False, "CAPACITY": 32, "CELLS": 8}, 2, {}),
    (neighbors.search_candidates, {"FAR": False, "FILL": True, "CAPACITY": 32, "CELLS": 8}, 2, {}),
    (neighbors.sort_candidates, {"BLOCK": 128, "CHUNK": 8}, 2, {}),
    (neighbors.check_displacements, {"BLOCK": 128}, 4, {}),
    (edges.filter_edges, {**TILES, "FAR": False, "BLOCK": 128}, 1, {}),
    (edges.filter_edges, {**TILES, "FAR": True, "BLOCK": 128}, 1, {}),
    (edges.list_work, TILES, 4, {}),
    (scatter.gather_forces, {"BLOCK": 32}, 1, {"forces": "*i64"}),
    (scatter.combine_atoms, {"BLOCK": 128}, 4, {}),
    (integrate.kick_and_drift, {"BLOCK": 128}, 4, {}),
    (integrate.kick, {"BLOCK": 128}, 4, {}),
    (thermostat.kick_and_thermalize, {"BLOCK": 128}, 4, {}),
    (thermostat.drift_thermalized, {"BLOCK": 128}, 4, {}),
]


def signature(
    kernel: object, constants: dict[str, object], known: dict[str, str]
) -> dict[str, str]:
    """Type of each argument as Triton writes it."""
    kinds = {}
    for name in inspect.signature(kernel.fn).parameters:
        if name in constants:
            kinds[name] = "constexpr"
        elif name in known:
            kinds[name] = known[name]
        elif name in NUMBERS:
            kinds[name] = "i32"
        else:
            groups = {"*fp64": FLOAT64, "*i64": INT64, "*fp32": FLOAT32}
            kinds[name] = next((k for k, names in groups.items() if name in names), "*i32")
    return kinds


def compile_one(
    kernel: object, constants: dict[str, object], warps: int, known: dict[str, str], chip: int
) -> dict[str, int | str]:
    """Registers, accesses to the stack, and memory fences of one kernel."""
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature(kernel, constants, known), constexprs=constants),
        target=GPUTarget("cuda", chip, 32),
        options={"num_warps": warps, "enable_fp_fusion": False},
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True)
            for option in ("--dump-resource-usage", "-sass")
        )
    return {
        "kernel": kernel.fn.__name__,
        "registers": int(re.search(r"REG:(\d+)", usage.stdout)[1]),
        "stack_instructions": len(re.findall(r"\b(?:LDL|STL)\b", code.stdout)),
        "fences": len(re.findall(r"\bMEMBAR\b", code.stdout)),
    }


if __name__ == "__main__":
    rows = [compile_one(*entry, int(chip)) for chip in sys.argv[1:] for entry in KERNELS]
    print(json.dumps(rows))
