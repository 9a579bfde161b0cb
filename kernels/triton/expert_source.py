"""Generates the Triton source of an expert's kernels.

One program evaluates a few centres of one type; their edges, one centre's after the other's, are
the rows of every tile. Blocks are named after the equations of `duetto.kernels.folded`. Three
kernels can be made of the same blocks:

    whole      energy, and gradient with respect to the edges
    forward    energy; leaves in the stash what the backward kernel cannot cheaply recompute
    backward   gradient, from the stash
"""

from __future__ import annotations

from duetto.kernels.triton import expert_adjoint, expert_forward, expert_geometry
from duetto.kernels.triton.expert_packing import table_layout
from duetto.kernels.triton.expert_spec import SLOTS, KernelSpec
from duetto.kernels.triton.expert_writer import Writer, offset_constant, stash_layout

ARGUMENTS = (
    "packs",
    "count",
    "first",
    "rowptr",
    "vectors",
    "stride",
    "neighbor_types",
    "row_types",
    "table",
    "high",
    "middle",
    "low",
    "type_energies",
    "stash",
    "energies",
    "gradients",
)
"""Arguments of every kernel, in order; see `expert_launch`."""

ALIGNED = ("table", "high", "middle", "low", "type_energies", "stash")
"""Arguments that are always the beginning of an allocation. Triton must not look at the others'
alignment, which differs from list to list and would have the kernels compiled again."""

CONSTANTS = ("E", "PRECISION", "FAST")
"""Compile-time arguments: rows of the edge tiles, precision (`expert_math`), approximate asm."""

_HEADER = '''"""Generated kernels of one Allegro expert. Equations and names: duetto.kernels.folded.

{description}
"""

import triton
import triton.language as tl

from duetto.kernels.triton.expert_math import (
    activation,
    activation_and_slope,
    anchored,
    dot,
    dot_add,
    exponential,
    float_tile,
    load_component,
    load_tile,
    masked,
    reciprocal,
    reciprocal_root,
    renewed,
    sine_and_cosine_of_pi,
    split,
    store_component,
    store_tile,
    transposed,
    weight_tile,
)

# Offsets of the weights in the table, see duetto.kernels.triton.expert_packing.
{offsets}
'''

_SIGNATURE = """

@triton.jit(do_not_specialize=["first", "stride"], do_not_specialize_on_alignment={unaligned})
def {kind}(
    {arguments},
    {constants},
):"""


def kernel_source(spec: KernelSpec) -> str:
    """Text of a module with the kernels whole, forward and backward of an expert."""
    offsets = "\n".join(
        f"{offset_constant(name)} = tl.constexpr({block.offset})"
        for name, block in table_layout(spec).items()
    )
    parts = [_HEADER.format(description=_description(spec), offsets=offsets)]
    for kind in ("whole", "forward", "backward"):
        arguments = ", ".join(ARGUMENTS)
        constants = ", ".join(f"{name}: tl.constexpr" for name in CONSTANTS)
        unaligned = [name for name in ARGUMENTS if name not in ALIGNED]
        signature = _SIGNATURE.format(
            kind=kind, arguments=arguments, constants=constants, unaligned=unaligned
        )
        parts.append(signature)
        parts.append("\n".join(_body(spec, kind)))
        parts.append("\n")
    return "".join(f"{part}\n" if not part.endswith("\n") else part for part in parts)


def _description(spec: KernelSpec) -> str:
    widths = ", ".join(str(width) for width in spec.hidden_widths)
    radial = "Bessel functions" if spec.cutoff_p is not None else "splines"
    return (
        f"{spec.num_types} types, l_max {spec.l_max}, {spec.num_layers} layers, {spec.channels} "
        f"channels,\nhidden vectors {widths}, readout {spec.readout_width}, "
        f"{spec.num_radial} {radial}."
    )


def _body(spec: KernelSpec, kind: str) -> list[str]:
    w = Writer(spec, kind)
    _begin(w)
    if kind in ("whole", "forward"):
        expert_forward.energy(w)
    if kind in ("whole", "backward"):
        expert_adjoint.gradient(w)
    return w.lines


def _begin(w: Writer) -> None:
    """Find the centres of this program, their edges and their numbers."""
    w(
        "parts = (high, middle, low)",
        "slot = tl.program_id(0)",
        "if first + slot >= tl.load(count):",
        "    return",
        f"pack = packs + (first + slot) * {SLOTS}",
        "edge = tl.arange(0, E)",
    )
    expert_geometry.rows(w)
    if w.spec.num_types > 1:
        w("centre_type = tl.load(row_types + tl.load(pack))")
    w(f"norm = {w.per_type('norm')}")
    if w.kind != "whole" or w.spec.num_layers > 1:
        layout = stash_layout(w.spec)
        fixed, per_edge = layout.component_floats, layout.edge_width
        w(f"stash += slot.to(tl.int64) * ({fixed} + {per_edge} * E)")
