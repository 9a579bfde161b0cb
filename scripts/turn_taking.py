"""A plugin of pytest that runs benchmarks when `scripts/compare_with.py` says that it is time.

It stands in for pytest-benchmark, whose `pedantic` is all that bench/ asks for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

import pytest


class Line:
    """The connection to who compares: one JSON value a line."""

    def __init__(self) -> None:
        """Open what `compare_with.Worker` has prepared."""
        to_hear, to_say = (int(number) for number in os.environ["DUETTO_TURNS"].split())
        self._from, self._to = os.fdopen(to_hear), os.fdopen(to_say, "w")

    def say(self, word: Any) -> None:
        """Send a value."""
        print(json.dumps(word), file=self._to, flush=True)

    def hear(self) -> Any:
        """The next value."""
        return json.loads(self._from.readline())


# The tree on PYTHONPATH is meant, wherever an editable installation points.
sys.meta_path.insert(0, PathFinder)
LINE = Line()
_PER_TURN = 3


class Turns:
    """Times a task whenever it is asked."""

    stats = None

    def __init__(self) -> None:
        """Have a place for what benchmarks note."""
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, task: Callable[[], None], warmup_rounds: int = 0, **others: Any) -> None:
        """Run `task` to warm up, then once a turn as long as it is asked."""
        for _ in range(warmup_rounds + 1):
            task()
        LINE.say("ready")
        while LINE.hear() == "go":
            LINE.say(min(_seconds(task) for _ in range(_PER_TURN)))


def _seconds(task: Callable[[], None]) -> float:
    began = time.process_time()
    task()
    return time.process_time() - began


@pytest.fixture
def benchmark() -> Turns:
    """What bench/conftest.py takes for pytest-benchmark's."""
    return Turns()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the operations' names, and keep those that are chosen, in that order."""
    by_name = {f"{item.path.stem.removeprefix('test_')}/{item.name}": item for item in items}
    LINE.say(list(by_name))
    items[:] = [by_name[name] for name in LINE.hear()]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell that an operation is over, by itself or because it failed."""
    if report.when == "call" or (report.when == "setup" and not report.passed):
        LINE.say("over")
