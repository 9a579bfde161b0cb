"""One process in a folder: claimed, released, and never left behind."""

import os
import subprocess
import sys

import pytest

from duetto.errors import InputError
from duetto.folders import LOCK, claimed


def test_only_one_holds_it(tmp_path):
    with (
        claimed(tmp_path),
        pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing there"),
        claimed(tmp_path),
    ):
        pass
    with claimed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_what_was_made_for_nothing_is_removed(tmp_path):
    with claimed(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]


def test_a_lock_that_a_killed_process_left_holds_nothing(tmp_path):
    code = (
        "import os, signal, pathlib, sys; from duetto.folders import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert (tmp_path / LOCK).exists()
    with claimed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_was_taken_away_is_not_the_lock(tmp_path, monkeypatch):
    """Who has opened the file just before its owner removed it must not hold a nameless one."""
    taken = []

    def take(descriptor, folder):
        if not taken:
            (folder / LOCK).unlink()
        taken.append(descriptor)

    monkeypatch.setattr("duetto.folders._take", take)
    with claimed(tmp_path):
        assert len(taken) == 2
        assert (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"), claimed(tmp_path / "file" / "out"):
        pass
