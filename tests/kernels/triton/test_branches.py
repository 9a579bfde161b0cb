"""The second branch starts behind what was launched, and what follows waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from duetto.kernels.triton.branches import Branches


class Stream:
    """What has happened before each thing that is launched here, as a GPU would order it."""

    def __init__(self, device: object = None) -> None:
        self.done: set[str] = set()

    def wait_stream(self, other: Stream) -> None:
        self.done |= other.done


class Device:
    """Stands in for torch.cuda: launches go to the stream in use."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.used = Stream()
        self.before: dict[str, set[str]] = {}
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "current_stream", lambda: self.used)
        patch.setattr(torch.cuda, "stream", self.within)

    @contextmanager
    def within(self, stream: Stream) -> Iterator[None]:
        outer, self.used = self.used, stream
        yield
        self.used = outer

    def launch(self, name: str) -> None:
        self.before[name] = set(self.used.done)
        self.used.done.add(name)


def test_branches_fork_and_join(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    branches = Branches(torch.device("cuda"), [object(), object()])
    for step in "12":
        device.launch(f"edges {step}")
        branches.run(partial(device.launch, f"hf {step}"), partial(device.launch, f"lf {step}"))
        device.launch(f"gather {step}")
    first = {"edges 1", "hf 1", "lf 1", "gather 1"}
    assert device.before["hf 1"] == device.before["lf 1"] == {"edges 1"}
    assert device.before["gather 1"] == {"edges 1", "hf 1", "lf 1"}
    assert device.before["edges 2"] == first
    assert device.before["hf 2"] == device.before["lf 2"] == first | {"edges 2"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_expert_has_one_branch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So has an expert that serves both roles, whose scratch memory both would use."""
    chip, same = Device(monkeypatch), object()
    several = [[object(), object()]] if device == "cpu" else [[same, same], [same, None], []]
    for experts in several:
        branches = Branches(torch.device(device), experts)
        branches.run(lambda: chip.launch("hf"), lambda: chip.launch("lf"))
        assert chip.before["lf"] >= {"hf"}
