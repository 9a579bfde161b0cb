"""Compiles the kernels of linear experts for a chip that need not be there."""

from __future__ import annotations

import inspect

import torch

from duetto.kernels.linear import MomentLayout
from duetto.kernels.triton import linear
from duetto.kernels.triton.expert_offline import Resources, _dump, _processor_seconds, _resources
from duetto.kernels.triton.linear_launch import BLOCK, LAUNCH, constants_of
from duetto.kernels.triton.offline import compiling_for

KINDS = ("moments", "polynomial", "adjoint")

_POINTERS: dict[str, torch.dtype] = {
    "packs": torch.int32,
    "count": torch.int32,
    "rowptr": torch.int64,
    "neighbor_types": torch.int32,
    "row_types": torch.int32,
    "species_of": torch.int32,
    "quadratic_first": torch.int32,
    "quadratic_column": torch.int32,
    "cubic_first": torch.int32,
    "cubic_columns": torch.int32,
    "shift": torch.float64,
    "energies": torch.float64,
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
    function = getattr(linear, kind)
    constants = constants_of(layout, exponent)[0] | {"BLOCK": BLOCK}
    integers = {*linear.COUNTED, *linear.PLANNED}
    arguments = {
        name: constants[name]
        if name in constants
        else 0
        if name in integers
        else _POINTERS.get(name, torch.float32)
        for name in inspect.signature(function.fn).parameters
    }
    start = _processor_seconds()
    with compiling_for(capability):
        compiled = function.warmup(*arguments.values(), grid=(1,), **LAUNCH)
    seconds = _processor_seconds() - start
    usage, code = _dump(compiled.asm["cubin"])
    warps = LAUNCH["num_warps"]
    return _resources(usage, code, compiled.metadata.shared, warps, capability, seconds)
