"""Compiles an expert's kernels for a chip that need not be there, and counts what they take."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import triton

from duetto.kernels.triton.expert_cache import kernel_module
from duetto.kernels.triton.expert_launch import launch_options, precision_constant
from duetto.kernels.triton.expert_source import ARGUMENTS
from duetto.kernels.triton.expert_spec import KernelSpec
from duetto.kernels.triton.offline import compiling_for

REGISTERS_PER_SM = 65536
SHARED_BYTES_PER_SM = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
RESERVED_SHARED_BYTES = 1024
"""Shared memory that the driver takes of each resident program."""

_INSTRUCTION = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", re.MULTILINE
)
_MATRIX_PRODUCT = re.compile(r"(?:HGMMA\.(\d+)x(\d+)x(\d+)|HMMA\.16816)")

_TYPES: dict[str, torch.dtype | int] = {
    "packs": torch.int32,
    "count": torch.int32,
    "first": 0,
    "rowptr": torch.int64,
    "stride": 0,
    "neighbor_types": torch.int32,
    "row_types": torch.int32,
    "high": torch.bfloat16,
    "middle": torch.bfloat16,
    "low": torch.bfloat16,
    "type_energies": torch.float64,
    "energies": torch.float64,
}
"""What a launch hands over for each argument: a tensor of a type, by default float32, or a number,
none of which are specialised."""


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes.

    Attributes:
        registers: per thread.
        stack_bytes: per thread; more than none means spilled registers.
        shared_bytes: per program.
        instructions: machine instructions; the kernels have no loops, so each runs once.
        local_instructions: those of them that load or store the stack.
        tensor_operations: multiplications and additions of a program on the tensor cores, with
            all padding and every product of parts; 0 where the chip's instructions are not known.
        float_operations: those of a program in float32 outside them.
        warps_per_program, resident_warps: warps of a program, of all that fit on one SM.
        compile_seconds: processor time of this compilation, near zero if it was cached.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    instructions: int
    local_instructions: int
    tensor_operations: int
    float_operations: int
    warps_per_program: int
    resident_warps: int
    compile_seconds: float

    def to_json(self) -> dict[str, int | float]:
        """Plain numbers."""
        return asdict(self)


def compile_kernel(
    spec: KernelSpec, kind: str, tile: int, precision: str = "bf16x3", capability: int = 90
) -> tuple[Resources, str]:
    """Compile one kernel of an expert.

    Args:
        spec: structure of the expert.
        kind: "whole", "forward" or "backward".
        tile: rows of the edge tiles.
        precision: "fp32" or "bf16x3".
        capability: compute capability of the chip, 80, 90 or 100.

    Returns:
        What it takes, and its machine code as text.

    Raises:
        RuntimeError: Triton interprets in this process, so that it cannot compile.
    """
    function = getattr(kernel_module(spec), kind)
    arguments = [_TYPES.get(name, torch.float32) for name in ARGUMENTS]
    start = _processor_seconds()
    with compiling_for(capability):
        compiled = function.warmup(
            *arguments,
            grid=(1,),
            E=tile,
            PRECISION=precision_constant(precision),
            FAST=True,
            **launch_options(tile),
        )
    seconds = _processor_seconds() - start
    usage, code = _dump(compiled.asm["cubin"])
    warps = launch_options(tile)["num_warps"]
    return _resources(usage, code, compiled.metadata.shared, warps, capability, seconds), code


def _processor_seconds() -> float:
    """Processor time of this process and of the assemblers that it ran."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _dump(binary: bytes) -> tuple[str, str]:
    """Resource usage and machine code of a binary, as text."""
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "kernel.cubin")
        Path(path).write_bytes(binary)
        outputs = [
            subprocess.run(
                [str(cuobjdump), option, path], capture_output=True, text=True, check=True
            ).stdout
            for option in ("--dump-resource-usage", "-sass")
        ]
    return outputs[0], outputs[1]


def _resources(
    usage: str, code: str, shared: int, warps: int, capability: int, seconds: float
) -> Resources:
    def used(name: str) -> int:
        match = re.search(rf"{name}:(\d+)", usage)
        assert match is not None, usage
        return int(match.group(1))

    counts = collections.Counter(_INSTRUCTION.findall(code))
    counts.pop("NOP", None)
    # Registers are handed out to warps in units of 256.
    per_warp = -(-used("REG") * 32 // 256) * 256
    programs = min(
        REGISTERS_PER_SM // (per_warp * warps),
        SHARED_BYTES_PER_SM[capability] // (shared + RESERVED_SHARED_BYTES),
    )
    scalar = 2 * counts["FFMA"] + counts["FADD"] + counts["FMUL"]
    return Resources(
        registers=used("REG"),
        stack_bytes=used("STACK"),
        shared_bytes=shared,
        instructions=sum(counts.values()),
        local_instructions=counts["LDL"] + counts["STL"],
        tensor_operations=_tensor_operations(code, warps),
        float_operations=scalar * 32 * warps,
        warps_per_program=warps,
        resident_warps=min(programs * warps, 64),
        compile_seconds=round(seconds, 1),
    )


def _tensor_operations(code: str, warps: int) -> int:
    """Of all HMMA (one warp each) and HGMMA (four warps together) of a program."""
    total = 0
    for M, N, K in _MATRIX_PRODUCT.findall(code):
        if M:
            total += 2 * int(M) * int(N) * int(K) * warps // 4
        else:
            total += 2 * 16 * 8 * 16 * warps
    return total
