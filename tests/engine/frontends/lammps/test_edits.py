"""A script's usual edits, on two ranks: forces are the engine's after every one of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.frontends.lammps.edits import EDITS, STILL
from tests.engine.frontends.lammps.mpi import needs_compiler, needs_lammps

pytestmark = [needs_lammps, needs_compiler]


@pytest.fixture(scope="module")
def found(on_all_ranks: dict[int, Any]) -> dict[str, Any]:
    """All edits."""
    results: dict[str, Any] = on_all_ranks[2]["edits"]
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
