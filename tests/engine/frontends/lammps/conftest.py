from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.frontends.lammps.mpi import with_pair_on
from tests.once import made_once

PARTS = {
    1: ("comparison.at_once", "followed.at_once"),
    2: (
        "comparison.at_once", "comparison.trajectory", "comparison.migration",
        "comparison.restarted", "comparison.arithmetic",
        "followed.at_once", "followed.numerical", "followed.split", "followed.motion",
        "edits.all",
    ),
    4: ("comparison.at_once", "followed.at_once"),
}  # fmt: skip


@pytest.fixture(scope="session")
def on_all_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What each number of ranks has found, by subject: one start each serves all tests."""

    def find(folder: Path) -> None:
        for n_ranks, parts in PARTS.items():
            place = folder / str(n_ranks)
            place.mkdir()
            done = with_pair_on(place, n_ranks, *parts)
            assert done.returncode == 0, done.stderr
            (place / "found.json").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "lammps_ranks", find)
    return {n: json.loads((folder / str(n) / "found.json").read_text()) for n in PARTS}
