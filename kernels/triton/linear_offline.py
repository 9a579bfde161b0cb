"""Compiles the kernels of linear experts for a chip that need not be there."""

from __future__ import annotations

import inspect
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from duetto.kernels.linear import MomentLayout
from duetto.kernels.triton import linear
from duetto.kernels.triton.expert_launch import interpreted
from duetto.kernels.triton.expert_offline import Resources, _dump, _processor_seconds, _resources
from duetto.kernels.triton.linear_launch import BLOCK, LAUNCH, constants_of

KINDS = ("moments", "polynomial", "adjoint")

_POINTERS = {
    "rows": "*i32",
    "count": "*i32",
    "rowptr": "*i64",
    "neighbor_types": "*i32",
    "row_types": "*i32",
    "species_of": "*i32",
    "quadratic_first": "*i32",
    "quadratic_column": "*i32",
    "cubic_first": "*i32",
    "cubic_columns": "*i32",
    "shift": "*fp64",
    "energies": "*fp64",
}


def compile_linear(
    layout: MomentLayout, kind: str, exponent: float = 6.0, capability: int = 90
) -> Resources:
    """Compile one kernel of linear experts, the first of its passes.

    Args:
        layout: of the moments.
        kind: one of KINDS.
        exponent: of the wall, 0 for none.
        capability: compute capability of the chip, 80, 90 or 100.

    Raises:
        RuntimeError: Triton interprets in this process, so that it cannot compile.
    """
    if interpreted():
        raise RuntimeError("unset TRITON_INTERPRET to compile kernels")
    function = getattr(linear, kind)
    names = list(inspect.signature(function.fn).parameters)
    constants = constants_of(layout, exponent)[0] | {"BLOCK": BLOCK}
    constants = {name: value for name, value in constants.items() if name in names}
    integers = {*linear.COUNTED, *linear.PLANNED}
    signature: dict[str, Any] = {
        name: "constexpr"
        if name in constants
        else "i32"
        if name in integers
        else _POINTERS.get(name, "*fp32")
        for name in names
    }
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    start = _processor_seconds()
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=LAUNCH)
    seconds = _processor_seconds() - start
    usage, code = _dump(compiled.asm["cubin"])
    warps = LAUNCH["num_warps"]
    return _resources(usage, code, compiled.metadata.shared, warps, capability, seconds)
