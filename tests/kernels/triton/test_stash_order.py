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
from tests.kernels.triton.stash_order import KINDS, accesses, hazards

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
    size = stash_layout(spec).floats_per_centre(spec, EDGES)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_barrier_taken_away_is_noticed(kind: str) -> None:
    """Of those that order the stash; one only keeps values from living across half a kernel."""
    source = kernel_source(spec_named(DEEPEST))
    begin = source.index(f"def {kind}(")
    end = source.find("@triton.jit", begin)
    text = source[begin : end if end >= 0 else len(source)]
    barriers = [match.start() for match in re.finditer(r"tl\.debug_barrier\(\)", text)]
    assert barriers
    noticed = [
        bool(hazards(source.replace(text, _without(text, at)), kind, EDGES)) for at in barriers
    ]
    assert noticed.count(False) <= (1 if kind == "backward" else 0), noticed


def _without(text: str, at: int) -> str:
    return text[:at] + text[at:].replace("tl.debug_barrier()", "pass", 1)
