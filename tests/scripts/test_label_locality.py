"""Forces from beyond a radius, of a potential of pairs that has a known one."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.neighborlist import neighbor_list

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "data"))

import label_locality  # noqa: E402
from label_locality import BULK, LOCAL, MOLECULE, SCATTER, Sample, rows_of  # noqa: E402
from ptco.locality import (  # noqa: E402
    Array,
    Surroundings,
    force_scatter,
    local_forces,
    squared_error,
)

from duetto.errors import RunStopped  # noqa: E402

REACH = 4.2
"""Å, between the second and the third shell of platinum."""


class Pairs:
    """Each centre has half of (1 − r / REACH)³ for each of its neighbours."""

    def site_gradient(self, atoms: Atoms, centre: int) -> Array:
        return self._gradient(atoms, np.arange(len(atoms)) == centre)

    def forces(self, atoms: Atoms) -> Array:
        return -self._gradient(atoms, np.ones(len(atoms), bool))

    def _gradient(self, atoms: Atoms, of: np.ndarray) -> Array:
        i, j, vectors, lengths = neighbor_list("ijDd", atoms, REACH)
        i, j, vectors, lengths = (found[of[i]] for found in (i, j, vectors, lengths))
        slope = -1.5 / REACH * (1 - lengths / REACH) ** 2
        pull = (slope / lengths)[:, None] * vectors
        gradient = np.zeros((len(atoms), 3))
        np.add.at(gradient, j, pull)
        np.subtract.at(gradient, i, pull)
        return gradient


def run_of(atoms: Atoms, frames: int, seed: int = 1) -> list[Atoms]:
    rng, run = np.random.default_rng(seed), []
    for _ in range(frames):
        frame = atoms.copy()
        frame.positions += rng.normal(0, 0.08, frame.positions.shape)
        run.append(frame)
    return run


@pytest.fixture(scope="module")
def platinum() -> list[Atoms]:
    return run_of(bulk("Pt", a=3.97, cubic=True).repeat((2, 1, 1)), 3)


def test_nothing_comes_from_beyond_the_reach(platinum: list[Atoms]) -> None:
    around = Surroundings.of(platinum, 1, width=11.0)
    rng = np.random.default_rng(0)
    found = force_scatter(Pairs(), around, [3], [3.2, REACH, 5.0], rng)[:, 0]
    assert found[0] > 1e-6  # the second shell, at 3.97 Å, is drawn
    # Positions inside are the same numbers; sums over neighbours may be taken in another order.
    assert found[1:] == pytest.approx([0.0, 0.0], abs=1e-28)


def test_the_scatter_is_half_the_square_of_the_difference(platinum: list[Atoms]) -> None:
    run = platinum[:2]  # one other frame: a draw is that frame
    around = Surroundings.of(run, 0, width=8.0)
    found = force_scatter(Pairs(), around, [2], [0.0], np.random.default_rng(0))[0, 0]
    moves = run[1].positions - run[0].positions
    moves -= moves.mean(axis=0)
    other = around.atoms.copy()
    other.positions += np.tile(moves, (len(other) // len(moves), 1))
    other.positions[2] = around.atoms.positions[2]
    apart = Pairs().forces(other)[2] - Pairs().forces(around.atoms)[2]
    assert found == pytest.approx(0.5 * np.mean(apart**2), rel=1e-9)


def test_energies_of_centres_that_see_enough_give_the_forces(platinum: list[Atoms]) -> None:
    around = Surroundings.of(platinum, 0, width=11.0)
    exact = Pairs().forces(platinum[0])
    first, second, short = (
        local_forces(Pairs(), around, radius, np.random.default_rng(seed))
        for radius, seed in ((REACH, 0), (REACH, 1), (3.2, 2))
    )
    np.testing.assert_allclose(first, exact, rtol=0, atol=1e-13)
    assert squared_error(first, second, exact) == pytest.approx(np.zeros(8), abs=1e-26)
    assert np.abs(short - exact).max() > 1e-3


def test_a_molecule_moves_whole_and_a_slab_is_repeated_in_its_plane() -> None:
    slab = fcc111("Pt", (2, 2, 2), a=3.97, vacuum=8.0, periodic=True)
    add_adsorbate(slab, Atoms("CO", [(0, 0, 0), (0, 0, 1.15)]), 1.9, (0.0, 0.0))
    slab.positions[-1, :2] += slab.cell[0, :2]  # oxygen in another cell than its carbon
    around = Surroundings.of(run_of(slab, 4), 0, width=10.0, axes=(0, 1))
    assert len(around.atoms) == 10 * 9
    carbon = 8
    (oxygen,) = np.flatnonzero(around.leader == carbon)[1:]
    drawn = around.drawn(around.within(0.1, [carbon]), np.random.default_rng(0))
    for atom in (carbon, oxygen):
        np.testing.assert_array_equal(drawn.positions[atom], around.atoms.positions[atom])
    bonded = neighbor_list("i", drawn, 1.5)
    assert len(bonded) == 2 * 9  # every carbon has one oxygen, and back


def test_atoms_that_would_collide_are_no_draw() -> None:
    apart = Atoms("Pt2", [(0, 0, 0), (2.8, 0, 0)], cell=[9, 9, 9], pbc=True)
    swapped = Atoms("Pt2", [(2.8, 0, 0), (0, 0, 0)], cell=[9, 9, 9], pbc=True)
    around = Surroundings.of([apart, swapped], 0, width=9.0)
    with pytest.raises(RunStopped, match="Pt2: atoms too close in 100 draws"):
        around.drawn(np.array([True, False]), np.random.default_rng(0))


def test_rows_are_root_mean_squares_with_the_errors_of_frames() -> None:
    samples = [
        Sample(SCATTER, 5.5, MOLECULE, frame, square, 4e-4, 1.0)
        for frame, square in (("a 0", 1e-4), ("a 0", 3e-4), ("b 1", 4e-4), ("b 1", 0.0))
    ]
    samples.append(Sample(LOCAL, 5.5, BULK, "c 2", -1e-6, 1e-4, 1.0))
    local, row = rows_of(samples)
    assert row["value_mev_per_angstrom"] == pytest.approx(14.14)
    # Both frames have the same mean square.
    assert row["standard_error_mev_per_angstrom"] == 0.0
    assert row["hf_error_mev_per_angstrom"] == 20.0
    assert (row["number"], row["frames"]) == (4, 2)
    assert local["value_mev_per_angstrom"] == 0.0
    assert np.isnan(local["standard_error_mev_per_angstrom"])
    text = label_locality.as_csv([local, row])
    read = list(csv.DictReader(io.StringIO(text)))
    picture = label_locality.draw_png(lambda f: label_locality.draw(f, read), width=5, height=3)
    assert picture.startswith(b"\x89PNG")
