"""Machine code is found again by another process, and by nothing that was made otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duetto.kernels.cpu import compiling
from duetto.kernels.cpu.dense import dense

PROGRAM = """
import numpy as np
from duetto.kernels.cpu.dense import dense
layer = dense("float64", None, 2)
x = np.ones((3, 2))
layer(x, 0, 2, np.ones((2, 2)), np.empty((3, 2)), 0, np.empty((3, 2)))
print(sum(layer.stats.cache_hits.values()), sum(layer.stats.cache_misses.values()))
"""


def test_functions_that_call_others_are_found_again(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(done.stdout.split())
    assert found == [["0", "1"], ["1", "0"]]


def test_what_a_function_was_given_is_part_of_its_key() -> None:
    keys = {
        compiling._closure(dense(dtype, name, width).py_func)
        for dtype in ("float32", "float64")
        for name in ("silu", "tanh")
        for width in (4, 8)
    }
    assert len(keys) == 8
    assert compiling._plain(np.zeros(2)) != compiling._plain(np.ones(2))
    assert compiling._plain(np.zeros(2)) == compiling._plain(np.zeros(2))
    assert compiling._plain(np.float32(1.0)) != compiling._plain(np.float64(1.0))


@pytest.mark.parametrize(
    ("source", "changed", "concerned"),
    [
        ("dense.py", "dense.py", True),
        ("dense.py", "vector.py", True),  # through product and activation
        ("dense.py", "compiling.py", True),
        ("dense.py", "radial.py", False),
        ("expert.py", "stages.py", True),
    ],
)
def test_key_holds_every_source_that_is_compiled_in(
    source: str, changed: str, concerned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling._source_stamp.cache_clear()
    before = compiling._source_stamp(source)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: read(self) + (b"#" if self.name == changed else b"")
    )
    compiling._source_stamp.cache_clear()
    assert (compiling._source_stamp(source) != before) == concerned
    monkeypatch.undo()
    compiling._source_stamp.cache_clear()
    assert compiling._source_stamp(source) == before
