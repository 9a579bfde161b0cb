"""What this machine can do at best, measured now: the floor of every stage follows from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import torch

from duetto.kernels.cpu.product import product

_SECONDS = 0.03
_REPEATS = 6


@dataclass(frozen=True)
class Peaks:
    """Best rates of all threads together.

    Attributes:
        threads: how many.
        gflops: matrix products of 1,000 × 64 by 64 × 64, 10⁹ operations per second, by torch or
            by this package, whichever is faster.
        cache_gbytes: copies of half a megabyte, 10⁹ bytes read and written per second.
        memory_gbytes: the same of 64 MB, which no cache of a core holds.
    """

    threads: int
    gflops: float
    cache_gbytes: float
    memory_gbytes: float

    def to_dict(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)

    def floor_ms(self, flops: float, read_and_written: float, streams: bool) -> float:
        """Shortest time for so many operations and bytes, whichever takes longer, ms."""
        bandwidth = self.memory_gbytes if streams else self.cache_gbytes
        return 1e-6 * max(flops / self.gflops, read_and_written / bandwidth)


def measure_peaks(dtype: torch.dtype, threads: int) -> Peaks:
    """Measure; takes a second."""
    a, b = torch.randn(1000, 64, dtype=dtype), torch.randn(64, 64, dtype=dtype)
    left, right = a.numpy(), b.numpy()
    multiply = product(str(dtype).removeprefix("torch."), 64)

    def by_torch() -> Callable[[], object]:
        out = torch.empty(1000, 64, dtype=dtype)
        return lambda: torch.mm(a, b, out=out)

    def by_tiles() -> Callable[[], object]:
        out = torch.empty(1000, 64, dtype=dtype).numpy()
        return lambda: multiply(left, 0, 1000, 0, 64, right, out, 0, 0)

    def copy(size: int) -> Callable[[], Callable[[], object]]:
        def prepare() -> Callable[[], object]:
            source, target = torch.zeros(size), torch.zeros(size)
            return lambda: target.copy_(source)

        return prepare

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            tasks = (by_torch, by_tiles, copy(1 << 16), copy(1 << 23))
            rates = [_rate(pool, threads, task) for task in tasks]
    finally:
        torch.set_num_threads(before)
    flops, small, large = 2 * 1000 * 64 * 64, 2 * 4 * (1 << 16), 2 * 4 * (1 << 23)
    products = max(rates[:2])
    return Peaks(threads, 1e-9 * products * flops, 1e-9 * rates[2] * small, 1e-9 * rates[3] * large)


def _rate(
    pool: ThreadPoolExecutor, threads: int, prepare: Callable[[], Callable[[], object]]
) -> float:
    """Calls per second of all threads at once, the best of some tries."""

    def calls(task: Callable[[], object]) -> float:
        # Running time, as the stages': what a busy machine withholds does not lower its peak.
        began, count = time.thread_time(), 0
        while (elapsed := time.thread_time() - began) < _SECONDS:
            task()
            count += 1
        return count / elapsed

    tasks = [prepare() for _ in range(threads)]
    return max(sum(pool.map(calls, tasks)) for _ in range(_REPEATS))
