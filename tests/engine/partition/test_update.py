"""A partition that is resolved again: averages, hysteresis, ramps, and what boundaries do to it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.partition.regions import Regions
from duetto.partition.update import Updating

AROUND_CO = {"within": {"distance": 4.0, "of": {"species": ["C", "O"]}}}


def slab() -> Atoms:
    atoms = fcc111("Pt", (5, 5, 3), a=3.97, vacuum=7.0)
    atoms.pbc = (True, True, False)
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1)
    return atoms


def updating(atoms: Atoms, words: dict[str, Any], stride: int = 1, **regions: Any) -> Updating:
    made = Updating(Regions.from_dict({**regions, "update": words}), atoms, stride)
    made.begin()
    return made


def resolve(made: Updating, positions: Any, atoms: Atoms) -> Any:
    made.resolve(np.asarray(positions), atoms.cell.array, made.target, None)
    return made.target


def test_a_molecule_across_the_cell_s_face_has_the_same_region() -> None:
    atoms = slab()
    made = updating(atoms, {"every": 5}, complex=AROUND_CO, blend={"width": 2.0})
    a, b = atoms.cell.array[:2]
    there = atoms.positions.copy()
    there[-2:] -= 0.4 * a + 0.1 * b  # half of its surroundings beyond the face
    expected = resolve(made, there, atoms).copy()
    assert (expected == 1.0).sum() > 4
    wrapped = Atoms(atoms.symbols, there, cell=atoms.cell, pbc=atoms.pbc)
    wrapped.wrap(pbc=(True, True, False))
    for other in (wrapped.positions, there + a, there - 3 * b):
        np.testing.assert_allclose(resolve(made, other, atoms), expected, atol=1e-12)
    torn = there.copy()
    torn[-1] += 2 * a  # C and O in different images
    np.testing.assert_allclose(resolve(made, torn, atoms), expected, atol=1e-12)


def test_molecules_that_meet_share_a_region_and_one_that_leaves_takes_its_own_along() -> None:
    atoms = slab()
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1, offset=(2, 2))
    made = updating(atoms, {"every": 5}, complex=AROUND_CO)
    apart = (made.target == 1.0).sum()
    together = atoms.positions.copy()
    together[-2:] = atoms.positions[-4:-2] + np.array([2.0, 0.0, 0.0])
    near = resolve(made, together, atoms)
    assert 4 < (near == 1.0).sum() < apart
    away = atoms.positions.copy()
    away[-4:, 2] += 30.0
    np.testing.assert_array_equal(np.flatnonzero(resolve(made, away, atoms)), range(75, 79))


def trembling(words: dict[str, Any]) -> Updating:
    """A shell of atoms that crosses the border at every look, for 60 looks."""
    atoms = bulk("Pt", "fcc", a=3.97, cubic=True).repeat(3)
    made = updating(atoms, words, complex={"within": {"distance": 4.0, "of": {"indices": [0]}}})
    rng = np.random.default_rng(2)
    for _ in range(60):
        resolve(made, atoms.positions + rng.normal(scale=0.06, size=(108, 3)), atoms)
    return made


def test_hysteresis_ends_the_flicker() -> None:
    plain = trembling({"every": 5})
    averaged = trembling({"every": 5, "average": 50})
    held = trembling({"every": 5, "average": 50, "enter": 0.7, "leave": 0.3})
    counts = [int(made.switches.sum()) for made in (plain, averaged, held)]
    # The second shell, six atoms, half a thermal width inside: most looks see some of it outside.
    assert counts[0] > 60
    assert counts[2] < counts[1] < counts[0] / 2
    assert counts[2] <= 6


@pytest.mark.parametrize("stride", [1, 4])
def test_a_ramp_takes_the_steps_that_were_asked_for(stride: int) -> None:
    atoms = slab()
    made = updating(atoms, {"every": 4, "ramp": 12}, stride, complex=AROUND_CO)
    weights, target = np.zeros(len(atoms)), made.target
    for calls in range(1, 12 // stride + 1):
        weights = made.towards(target, weights)
        reached = calls * stride / 12
        np.testing.assert_allclose(weights[target == 1.0], reached, atol=1e-12)
    np.testing.assert_array_equal(weights, target)


def test_where_a_linear_expert_guesses_is_a_seed() -> None:
    examples = Path(__file__).resolve().parents[3] / "examples" / "ptco"
    words = {"every": 5, "seeds": {"extrapolation": {}}, "enter": {"min": 0.05}}
    atoms = bulk("Pt", "fcc", a=3.978, cubic=True).repeat(3)
    atoms.rattle(0.03, seed=1)
    atoms.symbols[50] = "C"
    made = Updating(Regions.from_dict({"complex": "seeds", "update": words}), atoms)
    assert made.needs_potential
    linear = SimpleNamespace(pair=ExpertPair.load(examples / "ptco_linear.duetto"))
    made.begin(linear)
    # A species that the fit did not have.
    np.testing.assert_array_equal(np.flatnonzero(made.target), [50])
    pushed = atoms.positions.copy()
    pushed[0] += 0.42 * atoms.get_distance(0, 1, mic=True, vector=True)
    made.resolve(pushed, atoms.cell.array, made.target, linear)
    seeds = np.flatnonzero(made.target)
    assert {0, 50} <= set(seeds.tolist())
    near = np.minimum(*(atoms.get_distances(i, range(108), mic=True) for i in (0, 50)))
    assert near[seeds].max() < 6.0
    other = SimpleNamespace(pair=ExpertPair.load(examples / "ptco.duetto"))
    with pytest.raises(InputError, match="does not remember what it was fitted to"):
        made.begin(other)
