"""A script's usual edits, on two ranks: forces are the engine's after every one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.frontends.lammps.edits import EDITS, STILL
from tests.engine.frontends.lammps.mpi import needs_compiler, needs_lammps, on_ranks
from tests.pairs import mismatched_pair

pytestmark = [needs_lammps, needs_compiler]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All edits, in one start."""
    folder = tmp_path_factory.mktemp("edits")
    mismatched_pair(zbl=True).save(folder / "p.duetto")
    done = on_ranks(2, "-m", "tests.engine.frontends.lammps.edits", str(folder / "p.duetto"))
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize(
    "edit",
    ["still hybrid", *(f"still {e}" for e in STILL), *(f"follows {e}" for e in EDITS)],
)
def test_forces_are_right_after(found: dict[str, Any], edit: str) -> None:
    result = found[edit]
    assert result["largest"] > 0.5
    assert result["forces"] < 1e-10
    assert result["energy"] < 1e-10
    if edit.startswith("follows") and edit != "follows delete_seeds":
        assert result["blended"] > 5
