"""Runs on the device in the order that is simplest to think about: wait for every state."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

from duetto.md.device import DeviceStage
from duetto.md.loop import _arrived, _look
from duetto.md.repartition import KeptPartition
from duetto.md.state import State


def wait_for_every_record(
    state: State,
    device: DeviceStage,
    end: int,
    every: int,
    partition: KeptPartition | None,
    together: int = 1,
) -> Iterator[State]:
    """In the place of `duetto.md.loop._one_record_behind`: no step is taken ahead of a state."""
    while state.step < end:
        device.launch(min(every - state.step % every, end - state.step))
        pending, looked = device.finish(), Future[None]()
        _look(pending, partition, state.cell)
        looked.set_result(None)
        state = _arrived(state, pending, looked)
        yield state
