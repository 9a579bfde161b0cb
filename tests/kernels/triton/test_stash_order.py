"""No kernel of any architecture reads or replaces what another thread may be at in the stash."""

from __future__ import annotations

import re

import pytest

from duetto.experts.allegro.folding import fold, random_weights
from duetto.kernels.triton.expert_source import kernel_source
from duetto.kernels.triton.expert_spec import KernelSpec, kernel_spec
from duetto.kernels.triton.expert_writer import stash_layout
from duetto.measure.bench.architectures import ARCHITECTURES, architecture_named
from tests.kernels.triton.expert_cases import CASES, folded_expert
from tests.kernels.triton.stash_order import KINDS, accesses, hazards, unordered, without_barrier

EDGES = 64
DEEPEST = "l2_three_layers_parity"


def spec_named(name: str) -> KernelSpec:
    if name in CASES:
        return kernel_spec(folded_expert(**CASES[name]))
    a = architecture_named(name, 5.0, ("Pt", "C", "O"))
    return kernel_spec(fold(a, random_weights(a, seed=0)))


@pytest.mark.parametrize("name", [*CASES, *ARCHITECTURES])
def test_a_barrier_stands_between_store_and_load(name: str) -> None:
    spec = spec_named(name)
    source = kernel_source(spec)
    size = stash_layout(spec).floats_per_program(EDGES)
    for kind in KINDS:
        used = accesses(source, kind, EDGES)
        assert hazards(source, kind, EDGES) == [], kind
        assert all(0 <= access.first < access.last <= size for access in used)
    if spec.num_layers > 1:
        assert {access.stored for access in accesses(source, "backward", EDGES)} == {True, False}


def test_backward_reads_what_forward_left() -> None:
    """Or what it has stored itself: nothing of the stash is read that nothing has written."""
    source = kernel_source(spec_named(DEEPEST))
    written: set[int] = set()
    for kind in ("forward", "backward"):
        for access in accesses(source, kind, EDGES):
            numbers = range(access.first, access.last)
            if access.stored:
                written.update(numbers)
            else:
                assert written.issuperset(numbers), access


@pytest.mark.parametrize("name", [*CASES, *ARCHITECTURES])
def test_every_barrier_is_needed(name: str) -> None:
    """Each that is taken away leaves a hazard; those that order no memory say so."""
    source = kernel_source(spec_named(name))
    for kind in KINDS:
        used = accesses(source, kind, EDGES)
        barriers = re.findall(r"tl\.debug_barrier\(\)(.*)", body(source, kind))
        assert all(access.barriers <= len(barriers) for access in used)
        for index, remark in enumerate(barriers):
            orders_memory = "orders no memory" not in remark
            found = unordered(without_barrier(used, index))
            assert bool(found) == orders_memory, (kind, index)


@pytest.mark.parametrize("kind", KINDS)
def test_deep_kernels_need_barriers(kind: str) -> None:
    """So that the test above cannot pass by there being none."""
    assert "tl.debug_barrier()\n" in body(kernel_source(spec_named(DEEPEST)), kind)


def test_one_barrier_orders_no_memory() -> None:
    """It is the backward kernel's, where h_0 is computed anew."""
    source = kernel_source(spec_named(DEEPEST))
    marked = {kind: body(source, kind).count("orders no memory") for kind in KINDS}
    assert marked == {"whole": 0, "forward": 0, "backward": 1}


def body(source: str, kind: str) -> str:
    begin = source.index(f"def {kind}(")
    end = source.find("@triton.jit", begin)
    return source[begin : end if end >= 0 else len(source)]
