"""What every benchmark shares: a yardstick timed between its rounds, and the ratio to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

Task = Callable[[], object]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count processor time: with one thread it is the work, without waiting for a busy machine."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A benchmark is about one thread; so is its yardstick."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def matrix_product() -> Task:
    """The yardstick of single operations: a float32 product of 1,000 × 64 by 64 × 64."""
    a, b, out = torch.randn(1000, 64), torch.randn(64, 64), torch.empty(1000, 64)
    return lambda: torch.mm(a, b, out=out)


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """Benchmark `operation`, and before each round time `yardstick`.

    What else the machine does slows both, and another machine is faster at both, so it is their
    ratio, of fastest to fastest, that is compared with the baseline.
    """

    def run(operation: Task, yardstick: Task, calls: int = 1, rounds: int = 40) -> None:
        times = []

        def time_yardstick() -> None:
            began = time.process_time()
            for _ in range(calls):
                yardstick()
            times.append(time.process_time() - began)

        def repeat() -> None:
            for _ in range(calls):
                operation()

        yardstick()
        benchmark.pedantic(repeat, setup=time_yardstick, rounds=rounds, warmup_rounds=2)
        if benchmark.stats is not None:
            fastest = min(times)
            benchmark.extra_info["calls"] = calls
            benchmark.extra_info["yardstick_s"] = fastest / calls
            benchmark.extra_info["ratio"] = benchmark.stats.stats.min / fastest

    return run
