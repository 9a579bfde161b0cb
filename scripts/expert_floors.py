"""The least time that the expert kernels can take on an H200, from their machine code.

The kernels have no loops, so what they execute can be counted without running them. Writes the
table of docs/gpu.md; called by compile_offline.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from duetto.files import atomic_write
from duetto.kernels.triton.expert_launch import pack_tile
from duetto.kernels.triton.expert_offline import Resources
from duetto.kernels.triton.expert_spec import COMPONENTS, KernelSpec

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"
BEGIN, END = "<!-- floors -->", "<!-- end of floors -->"

TENSOR_RATE = 790e12
"""bfloat16 operations per second that large matrix products reach."""
FLOAT_RATE = 67e12
"""float32 operations per second outside the tensor cores."""
MEMORY_RATE = 4.3e12
"""Bytes per second."""
ISSUE_RATE = 132 * 4 * 1.98e9
"""Instructions of warps per second: SMs, schedulers of each, highest clock."""

NEIGHBORS = {"hf": (54, 42), "lf": (42, 18)}
"""Edges of a centre in bulk platinum within 6 Å, 5 Å and 4.5 Å."""

EDGE_BYTES = {"vector": 12, "type": 4, "gradient": 12}
CENTRE_BYTES = 36
"""Row index, row bounds, type and energy of a centre."""


@dataclass(frozen=True)
class Floor:
    """Least times of a kernel in ms per million edges, one for each thing that may limit it."""

    tensor: float
    floats: float
    memory: float
    issue: float

    @property
    def least(self) -> float:
        """None of them can be undercut."""
        return max(self.tensor, self.floats, self.memory, self.issue)


def centres_of_program(spec: KernelSpec, tile: int, neighbors: int) -> int:
    """How many centres with so many edges are packed together; 0 if they go to another tile."""
    return min(spec.centres, tile // neighbors) if tile == pack_tile(neighbors) else 0


def memory_bytes(spec: KernelSpec, kind: str, tile: int, centres: int, neighbors: int) -> float:
    """Bytes per edge that a kernel moves at least: its arguments and the stash, each once.

    Weights are not among them: they stay in the caches.
    """
    edges = centres * neighbors
    edge = EDGE_BYTES["vector"] + (EDGE_BYTES["type"] if spec.num_types > 1 else 0)
    if kind != "forward":
        edge += EDGE_BYTES["gradient"]
    if kind == "whole":
        return edge + CENTRE_BYTES / neighbors
    later = spec.num_layers - 1
    group = len(spec.slabs) * COMPONENTS * spec.channels * 4
    # Environments and functionals.
    stash = (1 + 2 * later) * group
    widths = len(spec.degrees) * spec.channels + sum(spec.hidden_widths[1:]) + spec.readout_width
    stash += 4 * widths * tile
    if kind == "backward":
        # What it leaves there for itself is written and read: gradients of s_n, of
        # pre-activations, of functionals, and of environments through them.
        own = 4 * (later * spec.channels + sum(spec.hidden_widths[2:])) * tile
        own += sum(n + 2 for n in range(1, spec.num_layers)) * group
        stash += 2 * own
    return edge + CENTRE_BYTES / neighbors + stash / edges


def floor_of(
    spec: KernelSpec, kind: str, tile: int, centres: int, neighbors: int, resources: Resources
) -> Floor:
    """Least times of one kernel, of so many centres a program, each with `neighbors` edges."""
    programs = 1e6 / (centres * neighbors)
    return Floor(
        tensor=1e3 * programs * resources.tensor_operations / TENSOR_RATE,
        floats=1e3 * programs * resources.float_operations / FLOAT_RATE,
        memory=1e9 * memory_bytes(spec, kind, tile, centres, neighbors) / MEMORY_RATE,
        issue=1e3 * programs * resources.instructions * resources.warps_per_program / ISSUE_RATE,
    )


def table(kernels: Mapping[str, tuple[KernelSpec, Resources]]) -> str:
    """The Markdown table of the kernels for sm_90, for bulk platinum packed as a run packs it."""
    lines = [
        "| kernel | neighbours | centres in rows | matrix kFLOP/edge | float32 kFLOP/edge "
        "| bytes/edge | instructions/edge | tensor ms | float32 ms | memory ms | issue ms "
        "| floor ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (spec, resources) in kernels.items():
        architecture, types, kind, tile, precision, capability = name.split("/")
        if capability != "90":
            continue
        label = f"{architecture}, {types} type{'s'[: int(types) != 1]}, {kind}, {precision}"
        for n in NEIGHBORS[architecture[:2]]:
            centres = centres_of_program(spec, int(tile), n)
            if centres:
                place = f"| {label} | {n} | {centres} in {tile} "
                lines.append(place + _numbers(spec, kind, int(tile), centres, n, resources))
    return "\n".join(lines)


def _numbers(
    spec: KernelSpec, kind: str, tile: int, centres: int, neighbors: int, resources: Resources
) -> str:
    """The numbers of a row of the table."""
    edges = centres * neighbors
    floor = floor_of(spec, kind, tile, centres, neighbors, resources)
    return (
        f"| {resources.tensor_operations / edges / 1e3:.0f} "
        f"| {resources.float_operations / edges / 1e3:.1f} "
        f"| {memory_bytes(spec, kind, tile, centres, neighbors):.0f} "
        f"| {resources.instructions * resources.warps_per_program / edges:.0f} "
        f"| {floor.tensor:.2f} | {floor.floats:.2f} | {floor.memory:.2f} | {floor.issue:.2f} "
        f"| **{floor.least:.2f}** |"
    )


def write_page(kernels: Mapping[str, tuple[KernelSpec, Resources]], version: str) -> None:
    """Put the table of what Triton `version` compiled between the page's markers."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    atomic_write(PAGE, f"{before}{BEGIN}\nTriton {version}:\n\n{table(kernels)}\n{END}{after}")
