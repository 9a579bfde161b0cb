"""Both experts on branches of a step: their order, and that they share nothing that one writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from duetto.kernels.triton.branches import Branches
from duetto.kernels.triton.mixture import DeviceExpert, Mixture
from tests.kernels.triton.stand_in import Chip, Stream
from tests.kernels.triton.two_experts import (
    cell,
    deep,
    linear,
    mixture,
    positions,
    second_everywhere,
    shallow,
)

Make = Callable[[], DeviceExpert]
PAIRS: dict[str, tuple[Make, Make]] = {
    "two layers, one layer": (partial(deep, 1), partial(shallow, 2)),
    "two layers twice": (partial(deep, 1), partial(deep, 2)),
    "two layers, linear": (partial(deep, 1), linear),
}

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a stand-in for what is here")


def before(chip: Chip) -> dict[str, set[str]]:
    """What is done before each work begins."""
    return {work.name: {chip.works[n].name for n in work.before} for work in chip.works}


def test_branches_fork_and_join(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(monkeypatch)
    branches = Branches(torch.device("cuda"), [object(), object()])
    for step in "12":
        chip.launch(f"edges {step}")
        branches.run(partial(chip.launch, f"hf {step}"), partial(chip.launch, f"lf {step}"))
        chip.launch(f"gather {step}")
    once = [("record", "main"), ("wait", "side"), ("record", "side"), ("wait", "main")]
    assert chip.events == once * 2
    assert [work.stream.name for work in chip.works[:4]] == ["main", "side", "main", "main"]
    done = before(chip)
    first = {"edges 1", "hf 1", "lf 1", "gather 1"}
    assert done["hf 1"] == done["lf 1"] == {"edges 1"}
    assert done["gather 1"] == {"edges 1", "hf 1", "lf 1"}
    assert done["edges 2"] == first
    assert done["hf 2"] == done["lf 2"] == first | {"edges 2"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_expert_has_one_branch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So has an expert that serves both roles, whose scratch memory both would use."""
    chip, same = Chip(monkeypatch), object()
    several = [[object(), object()]] if device == "cpu" else [[same, same], [same, None], []]
    for experts in several:
        branches = Branches(torch.device(device), experts)
        branches.run(partial(chip.launch, "hf"), partial(chip.launch, "lf"))
        assert before(chip)["lf"] >= {"hf"}
        assert chip.events == []


def branched(experts: tuple[Make, Make]) -> Mixture:
    """A mixture that has its list, and a branch for each expert."""
    found = mixture(*(make() for make in experts))
    found._branches = Branches(torch.device("cuda"), found.experts)
    found.neighbors.build(positions(), cell())
    return found


def evaluate_twice(chip: Chip, found: Mixture) -> int:
    """At two places: the second evaluation meets what the first left; tensors after the first."""
    with chip:
        found.evaluate(positions())
        first = len(chip.allocated)
        found.evaluate(positions() + 0.01 * torch.arange(12).reshape(4, 3))
    return first


@pytest.mark.parametrize("experts", PAIRS.values(), ids=PAIRS)
def test_branches_share_nothing_that_one_writes(
    experts: tuple[Make, Make], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every address that a kernel of either branch reads or writes, and all that comes after."""
    chip = Chip(monkeypatch)
    found = branched(experts)
    first = evaluate_twice(chip, found)
    assert bool(found.forces.isfinite().all())
    assert chip.races() == []
    # Both ran on a branch of their own, and all of each beside all of the other.
    kernels = [{w.name for w in chip.works if w.stream is s} for s in streams(chip)]
    assert {"whole", "forward", "adjoint"} & kernels[1]
    assert {"whole", "forward"} & kernels[0]
    names = {name for pair in chip.at_once() for name in pair}
    assert not {"filter_edges", "list_work", "combine_atoms", "duetto::gather_forces"} & names
    # What a branch allocates belongs to its stream: its expert's scratch at first, then nothing.
    of_branch = {t.data_ptr() for s, t in chip.allocated[:first] if s is not chip.main}
    own = {t.data_ptr() for t in vars(found.experts[1]).values() if isinstance(t, torch.Tensor)}
    assert of_branch <= own
    assert all(s is chip.main for s, _ in chip.allocated[first:])


def test_one_expert_between_evaluations_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second, on the main stream before and behind the branches, with the same scratch."""
    chip = Chip(monkeypatch)
    found = branched(PAIRS["two layers, linear"])
    fast = second_everywhere(found)
    found.neighbors.build(positions(), cell())
    forces, energies = torch.full((4, 3), torch.nan).double(), torch.full((4,), torch.nan).double()
    second = tuple(e.clone() for e in (forces, energies))
    with chip:
        found.evaluate_second(positions(), fast, forces, energies)
        found.evaluate(positions())
        found.gather_second(fast, *second)
        found.evaluate_second(positions(), fast, forces, energies)
    assert chip.races() == []
    assert torch.equal(forces, second[0])
    assert torch.equal(energies, second[1])
    # Expert 0 was asked once, and its edges were selected with it.
    assert [w.name for w in chip.works].count("forward") == 1


def streams(chip: Chip) -> list[Stream]:
    return [chip.main, *{w.stream for w in chip.works if w.stream is not chip.main}]


@pytest.mark.parametrize(
    ("missing", "pairs"),
    [
        ("fork", {("filter_edges", "whole"), ("list_work", "whole")}),
        ("join", {("whole", "duetto::gather_forces"), ("whole", "combine_atoms")}),
    ],
)
def test_a_fork_or_join_that_is_missing_is_found(
    missing: str, pairs: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = Chip(monkeypatch)
    found = branched(PAIRS["two layers, one layer"])
    deaf = "side" if missing == "fork" else "main"
    wait = Stream.wait_event

    def waiting(stream: Stream, event: object) -> None:
        if stream.name != deaf:
            wait(stream, event)

    monkeypatch.setattr(Stream, "wait_event", waiting)
    evaluate_twice(chip, found)
    assert pairs <= set(chip.races())


def test_scratch_that_both_use_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(monkeypatch)
    found = branched(PAIRS["two layers twice"])
    first, second = found.experts
    first._stash = second._stash = torch.zeros(1 << 20)
    evaluate_twice(chip, found)
    assert ("forward", "backward") in chip.races()
