"""The pair style on one, two and four MPI ranks, against the engine in one process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.frontends.lammps.mpi import needs_compiler, needs_lammps, require_agreement

pytestmark = [needs_lammps, needs_compiler]
N_RANKS = (1, 2, 4)
CASES = ("cubic", "triclinic", "left_handed", "slab", "tiny", "empty_ranks", "cluster")


@pytest.fixture(scope="module")
def found(on_all_ranks: dict[int, Any]) -> dict[int, Any]:
    """What each number of ranks has found."""
    return {n_ranks: results["comparison"] for n_ranks, results in on_all_ranks.items()}


@pytest.mark.parametrize("n_ranks", N_RANKS)
@pytest.mark.parametrize("case", CASES)
def test_everything_agrees(found: dict[int, Any], n_ranks: int, case: str) -> None:
    """Forces, energies, pressure, in every kind of box, with and without a blend."""
    result = found[n_ranks]["at_once"][case]
    require_agreement(result, n_ranks)


def test_some_ranks_had_no_atoms(found: dict[int, Any]) -> None:
    assert found[2]["at_once"]["empty_ranks"]["atoms_on_ranks"][0] == 0
    assert found[4]["at_once"]["empty_ranks"]["atoms_on_ranks"][0] == 0
    assert found[4]["at_once"]["tiny"]["atoms"] < 4


@pytest.mark.parametrize("n_ranks", N_RANKS)
def test_virials_of_atoms_add_up(found: dict[int, Any], n_ranks: int) -> None:
    assert found[n_ranks]["per_atom_virial"] < 1e-10


def test_the_trajectory_is_the_single_process_one(found: dict[int, Any]) -> None:
    """200 steps: equal constants of nature, equal masses, equal integrator.

    Where atoms move by more than 0.2 Å, a constant that is off by 5e-8 shows.
    """
    result = found[2]["trajectory"]
    assert result["moved_A"] > 0.2
    assert result["positions_A"] < 1e-8
    assert result["energy_eV"] < 1e-8
    # Velocity Verlet at 1 fs for 108 atoms: the energy comes back to far less than 0.1 meV/atom.
    assert result["drift_eV"] < 1e-4 * 108


def test_atoms_migrate(found: dict[int, Any]) -> None:
    """500 fast steps across ranks and the seam: every atom has crossed the box once."""
    result = found[2]["migration"]
    assert result["boxes_crossed"] >= 1
    assert result["types_kept"]
    assert result["forces"] < 1e-10
    assert result["energy"] < 1e-10 * 108


@pytest.mark.parametrize("kind", ["restart", "data"])
def test_the_partition_survives_files(found: dict[int, Any], kind: str) -> None:
    result = found[2]["restarted"][kind]
    assert result["types_kept"]
    # A sum over 120 atoms, whose positions a data file has to 17 digits.
    assert result["energy"] < 1e-10 * 120


def test_a_constant_mixture_is_lammps_own_sum(found: dict[int, Any]) -> None:
    """Two embedded-atom potentials, by Duetto and by LAMMPS's pair_style hybrid/scaled."""
    result = found[2]["arithmetic"]
    assert result["largest_force"] > 0.5
    assert result["forces"] < 1e-10
    assert result["energy"] < 1e-10 * 256
    assert result["pressure_GPa"] < 1e-9  # of some 10 GPa
    assert result["positions_A"] < 1e-8  # after 100 steps
    assert result["total"] < 1e-8
    # 1 fs for hot copper: velocity Verlet's energy comes back to far less than 0.1 meV an atom.
    assert result["drift_eV"] < 1e-4 * 256
