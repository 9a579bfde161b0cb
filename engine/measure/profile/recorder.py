"""Times of the CPU stages, on every thread, by job."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from duetto.kernels.cpu.expert import Listener


@dataclass(frozen=True)
class Span:
    """One stage of one chunk.

    Attributes:
        thread: identifier of the thread that did it.
        job: what it belongs to, as the recorder's names say.
        stage: group/operation.
        begin_ns, end_ns: on the clock of `time.perf_counter_ns`.
        busy_ns: of that, what the thread was running: on a busy machine it has to wait, too.
    """

    thread: int
    job: str
    stage: str
    begin_ns: int
    end_ns: int
    busy_ns: int


class Recorder(Listener):
    """Keeps a span for each stage of each chunk."""

    def __init__(self, names: dict[int, str]) -> None:
        """Begin empty.

        Args:
            names: name of each job by its `id`.
        """
        self._names = names
        self._here = threading.local()
        self.spans: list[Span] = []

    def begin(self, job: object) -> None:
        """See `Listener`."""
        self._here.job = self._names[id(job)]
        self._here.since = time.perf_counter_ns()
        self._here.busy = time.thread_time_ns()

    def done(self, stage: str) -> None:
        """See `Listener`."""
        here, now, busy = self._here, time.perf_counter_ns(), time.thread_time_ns()
        thread = threading.get_ident()
        self.spans.append(Span(thread, here.job, stage, here.since, now, busy - here.busy))
        here.since, here.busy = time.perf_counter_ns(), time.thread_time_ns()


def milliseconds(spans: Iterable[Span]) -> dict[tuple[str, str], float]:
    """Busy time by job and stage, of all chunks and threads, ms; in the order of the spans."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for span in spans:
        sums[span.job, span.stage] += 1e-6 * span.busy_ns
    return dict(sums)
