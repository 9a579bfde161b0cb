"""Machine code is found again by another process, and by nothing that was made otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duetto.kernels.cpu import cache_place, compiling
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


MODULE = """
import logging, sys
logging.basicConfig(format="%(message)s")
if sys.argv[1:] == ["full"]:
    import duetto.kernels.cpu.compiling as c
    def full(*arguments): raise OSError(28, "No space left on device")
    c.FunctionCache.save_overload = full
if sys.argv[1:] == ["nowhere"]:
    import tempfile
    def nowhere(): raise FileNotFoundError("no usable temporary directory")
    tempfile.gettempdir = nowhere
from duetto.kernels.cpu.compiling import compiled

@compiled
def square(x):
    return x * x

@compiled
def cube(x):
    return x * square(x)

print(cube(3.0), cube.stats.cache_path, sum(cube.stats.cache_hits.values()))
"""


@pytest.mark.parametrize("what", ["elsewhere", "nowhere", "full"])
def test_folders_that_cannot_be_written(what: str, tmp_path: Path) -> None:
    """A package installed by another user, and a home that is not there."""
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    module.write_text(MODULE)
    (module.parent / "__pycache__").touch()  # no folder can be made there, not even by root
    (tmp_path / "tmp").mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NUMBA")
    }
    environment |= {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/no"}
    environment["TMPDIR"] = str(tmp_path / "tmp")
    for run in range(2):
        command = [sys.executable, str(module), what]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        value, path, hits = done.stdout.split()
        lines = done.stderr.strip().splitlines()
        assert value == "27.0"
        if what == "nowhere":
            (line,) = lines
            assert path == "None"
            assert "every start compiles anew; set NUMBA_CACHE_DIR" in line
        else:
            assert path.startswith(str(tmp_path / "tmp"))
            assert "machine code is kept in" in lines[0]
            assert Path(path).stat().st_mode & 0o077 == 0
        if what == "elsewhere":
            assert len(lines) == 1
            assert int(hits) == run  # found again by the second process
        if what == "full":
            assert any("No space left on device: every start compiles anew" in x for x in lines)


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / f"duetto-machine-code-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setattr(cache_place.tempfile, "gettempdir", lambda: str(tmp_path))
    cache_place.temporary_folder.cache_clear()
    assert cache_place.temporary_folder() is None
    cache_place.temporary_folder.cache_clear()


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
        ("edges.py", "harmonics.py", True),
        ("radial.py", "constants.py", True),  # outside this folder, through wall
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
