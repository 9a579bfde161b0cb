"""Stands in for a GPU above the interpreter: streams, events, graphs, and who touches what memory.

Kernels and torch's operations run at once and one after the other. What is noted is what a GPU
would know of their order, that of each stream and of the events that streams wait for, and every
address that each reads and writes. Two that nothing orders may run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from triton.runtime import interpreter

from duetto.kernels.triton.dynamics import Dynamics

Array = NDArray[np.int64]

WORD = 4
"""Bytes: memory is told apart in these, the smallest numbers that threads exchange."""

WAITS_FOR_THE_DEVICE = ("aten::_local_scalar_dense", "aten::nonzero")
"""Operations whose result the host has to wait for: no graph can capture them."""


@dataclass
class Work:
    """A kernel, or an operation of torch.

    Attributes:
        name: of it.
        stream: that it was given to.
        before: numbers of the works that are done before it begins.
        reads, writes: words of memory.
    """

    name: str
    stream: Stream
    before: frozenset[int]
    reads: list[Array] = field(default_factory=list)
    writes: list[Array] = field(default_factory=list)

    def conflicts(self, other: Work) -> bool:
        """Whether their order matters."""
        mine, theirs = _words(self.writes), _words(other.writes)
        return any(
            len(np.intersect1d(one, two, assume_unique=True))
            for one, two in (
                (mine, theirs), (mine, _words(other.reads)), (_words(self.reads), theirs)
            )
        )  # fmt: skip


class Stream:
    """Orders what it is given, and waits for events."""

    wait_stream = torch.cuda.Stream.wait_stream

    def __init__(self, chip: Chip, name: str = "side") -> None:
        self.chip = chip
        self.name = name
        self.done: set[int] = set()

    def record_event(self) -> Event:
        """An event behind all that was given to this stream."""
        self.chip.events.append(("record", self.name))
        return Event(frozenset(self.done))

    def wait_event(self, event: Event) -> None:
        """Begin what comes next behind an event."""
        self.chip.events.append(("wait", self.name))
        self.done |= event.done


@dataclass(frozen=True)
class Event:
    """The works that are done when it happens."""

    done: frozenset[int]


class Graph:
    """What was captured, to be done again."""

    def __init__(self) -> None:
        self.works: list[Callable[[], None]] = []
        self.replays = 0

    def replay(self) -> None:
        """Do it all, in the order in which it was captured."""
        self.replays += 1
        for work in self.works:
            work()


class Chip(TorchDispatchMode):
    """In use within a `with` statement.

    Attributes:
        works: all that was launched, in order.
        events: ("record" or "wait", name of the stream), in order.
        graphs: that were captured.
        allocated: (stream, tensor) that operations of torch have made.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.main = self.used = Stream(self, "main")
        self.works: list[Work] = []
        self.events: list[tuple[str, str]] = []
        self.graphs: list[Graph] = []
        self.allocated: list[tuple[Stream, Tensor]] = []
        self._capturing: Graph | None = None
        self._inside: Work | None = None
        patch.setattr(torch.cuda, "Stream", lambda device=None: Stream(self))
        patch.setattr(torch.cuda, "current_stream", lambda: self.used)
        patch.setattr(torch.cuda, "stream", self.within)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", self.capture)
        patch.setattr(Dynamics, "_captures", property(lambda run: run.mixture.capturable))
        self._watch_kernels(patch)

    @contextmanager
    def within(self, stream: Stream) -> Iterator[None]:
        """As torch.cuda.stream."""
        outer, self.used = self.used, stream
        yield
        self.used = outer

    @contextmanager
    def capture(
        self, graph: Graph, *, stream: Stream, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        """As torch.cuda.graph: what is launched within is not done but captured."""
        # Else whatever another thread does with the device meanwhile makes the capture fail.
        assert capture_error_mode == "thread_local"
        begin = len(self.works)
        self._capturing = graph
        with self.within(stream):
            yield
        self._capturing = None
        self.graphs.append(graph)
        left = [w.name for n, w in enumerate(self.works[begin:], begin) if n not in stream.done]
        assert not left, f"not joined when the capture ends: {left}"

    def launch(self, name: str) -> Work:
        """Note something that is given to the stream in use."""
        work = Work(name, self.used, frozenset(self.used.done))
        self.used.done.add(len(self.works))
        self.works.append(work)
        return work

    def races(self) -> list[tuple[str, str]]:
        """Pairs of works that touch the same memory, one of them writing, with no order."""
        return [
            (earlier.name, later.name)
            for number, later in enumerate(self.works)
            for index, earlier in enumerate(self.works[:number])
            if index not in later.before and earlier.conflicts(later)
        ]

    def at_once(self) -> set[tuple[str, str]]:
        """Pairs of works that may run at the same time."""
        return {
            (earlier.name, later.name)
            for number, later in enumerate(self.works)
            for index, earlier in enumerate(self.works[:number])
            if index not in later.before
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        if self._inside is not None or _only_looks(schema):
            return func(*args, **kwargs)
        work = self._inside = self.launch(schema.name)
        try:
            result = self._operate(func, args, kwargs)
        finally:
            self._inside = None
        given = _by_argument(schema, args, kwargs)
        for tensors, written in given:
            for tensor in tensors:
                (work.writes if written else work.reads).append(_span(tensor))
        new = [] if all(r.alias_info for r in schema.returns) else _tensors(result)
        work.writes += [_span(tensor) for tensor in new]
        # Kept, so that no memory is given out twice.
        self.allocated += [(self.used, tensor) for tensor in new]
        return result

    def _operate(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do it, or capture it; a tensor that it makes must be had even so."""
        schema, graph = func._schema, self._capturing
        if graph is None:
            return func(*args, **kwargs)
        assert schema.name not in WAITS_FOR_THE_DEVICE, f"{schema.name} in a capture"
        written = [t for tensors, writes in _by_argument(schema, args, kwargs) if writes
                   for t in tensors]  # fmt: skip
        before = [tensor.clone() for tensor in written]
        result = func(*args, **kwargs)
        for tensor, value in zip(written, before, strict=True):
            tensor.copy_(value)
        new = [] if all(r.alias_info for r in schema.returns) else _tensors(result)

        def again() -> None:
            for tensor, value in zip(new, _tensors(func(*args, **kwargs)), strict=False):
                tensor.copy_(value)

        graph.works.append(again)
        return result

    def _watch_kernels(self, patch: pytest.MonkeyPatch) -> None:
        execute = interpreter.GridExecutor.__call__
        builder = interpreter.InterpreterBuilder
        load, store = builder.create_masked_load, builder.create_masked_store
        add = builder.create_atomic_rmw

        def executed(kernel: Any, *args: Any, **kwargs: Any) -> None:
            if self._inside is not None:  # of an operator that launches it
                execute(kernel, *args, **kwargs)
            elif self._capturing is not None:
                self.launch(kernel.fn.__name__)
                self._capturing.works.append(lambda: execute(kernel, *args, **kwargs))
            else:
                self._inside = self.launch(kernel.fn.__name__)
                try:
                    execute(kernel, *args, **kwargs)
                finally:
                    self._inside = None

        def loaded(self_: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
            if self._inside is not None:
                self._inside.reads.append(_touched(ptrs, mask))
            return load(self_, ptrs, mask, *rest)

        def stored(self_: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
            if self._inside is not None:
                self._inside.writes.append(_touched(ptrs, mask))
            return store(self_, ptrs, value, mask, *rest)

        def added(self_: Any, op: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
            if self._inside is not None:
                self._inside.writes.append(_touched(ptrs, mask))
            return add(self_, op, ptrs, value, mask, *rest)

        patch.setattr(interpreter.GridExecutor, "__call__", executed)
        patch.setattr(builder, "create_masked_load", loaded)
        patch.setattr(builder, "create_masked_store", stored)
        patch.setattr(builder, "create_atomic_rmw", added)


def _only_looks(schema: Any) -> bool:
    """Whether an operation makes a view, or tells of a tensor, and touches no memory."""
    if schema.name in ("aten::detach", "aten::empty", "aten::alias"):
        return schema.name != "aten::empty"
    return any(r.alias_info and not r.alias_info.is_write for r in schema.returns)


def _by_argument(schema: Any, args: Any, kwargs: Any) -> list[tuple[list[Tensor], bool]]:
    """The tensors of each argument, and whether they are written."""
    named = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
    return [
        (_tensors(named[a.name]), bool(a.alias_info and a.alias_info.is_write))
        for a in schema.arguments
        if a.name in named
    ]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def _span(tensor: Tensor) -> Array:
    """The words from a tensor's first number to its last."""
    if not tensor.numel():
        return np.empty(0, dtype=np.int64)
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    end = begin + (last + 1) * tensor.element_size()
    return np.arange(begin // WORD, -(-end // WORD), dtype=np.int64)


def _touched(ptrs: Any, mask: Any) -> Array:
    """The words that lanes load or store."""
    first = ptrs.data[np.broadcast_to(mask.data, ptrs.data.shape)].astype(np.int64) // WORD
    words = max(1, ptrs.get_element_ty().primitive_bitwidth // 8 // WORD)
    return np.unique(first[:, None] + np.arange(words))


def _words(parts: list[Array]) -> Array:
    """All of them once; remembered in place."""
    if len(parts) != 1:
        parts[:] = [np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)]
    return parts[0]
