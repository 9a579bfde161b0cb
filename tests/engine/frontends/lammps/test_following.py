"""Weights that follow seeds, on one, two and four MPI ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.frontends.lammps.mpi import (
    needs_compiler,
    needs_lammps,
    require_agreement,
    with_pair_on,
)

pytestmark = [needs_lammps, needs_compiler]
N_RANKS = (1, 2, 4)
CASES = ("border", "boundary", "static", "images", "triclinic", "empty_ranks", "everywhere")


@pytest.fixture(scope="module")
def found(on_all_ranks: dict[int, Any]) -> dict[int, Any]:
    """What each number of ranks has found."""
    return {n_ranks: results["followed"] for n_ranks, results in on_all_ranks.items()}


@pytest.mark.parametrize("n_ranks", N_RANKS)
@pytest.mark.parametrize("case", CASES)
def test_everything_agrees(found: dict[int, Any], n_ranks: int, case: str) -> None:
    """Seeds on several ranks, across the boundary, with images, in every kind of box."""
    result = found[n_ranks]["at_once"][case]
    require_agreement(result, n_ranks)
    assert result["per_atom_virial"] < 1e-10


def test_some_ranks_had_neither_atoms_nor_seeds(found: dict[int, Any]) -> None:
    assert found[2]["at_once"]["empty_ranks"]["atoms_on_ranks"][0] == 0
    assert found[4]["at_once"]["images"]["atoms_on_ranks"][0] < 3


def test_forces_are_the_gradient_by_lammps_own_arithmetic(found: dict[int, Any]) -> None:
    """`fix numdiff` moves every atom by 1e-4 Å: its error is some 1e-8 of third derivatives."""
    assert found[2]["numerical"]["largest"] > 0.5
    assert found[2]["numerical"]["error"] < 1e-6


def test_two_time_scales_add_up(found: dict[int, Any]) -> None:
    """`terms fast` and `terms slow`, whose weights follow, are the mixture."""
    for name, difference in found[2]["split"].items():
        assert difference < 1e-10 * 50, name


def test_a_molecule_flies_across_ranks(found: dict[int, Any]) -> None:
    """220 steps at constant energy, as in one process; atoms come into the region and leave it."""
    result = found[2]["motion"]
    assert result["seeds_moved_A"] > 5.0
    assert result["entered"] > 3
    assert result["left"] > 3
    assert result["positions_A"] < 1e-8
    assert result["blended"] > 2
    assert result["weights"] < 1e-8
    # Velocity Verlet at 1 fs with light atoms at 60 Å/ps: some 0.1 meV an atom to and fro.
    assert result["spread_eV"] < 3e-4 * 50


def test_a_rank_that_fails_ends_all(tmp_path: Path) -> None:
    """The others wait for what its weights do to their seeds."""
    done = with_pair_on(tmp_path, 2, "followed.broken")
    assert done.returncode == 1
    assert "ZeroDivisionError: the last rank divides" in done.stderr
    assert done.stderr.count("duetto:") == 1
    assert "a rank went on" not in done.stdout
