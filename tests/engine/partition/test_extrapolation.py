"""Atoms in surroundings that a linear LF's fit has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.partition.guard import Guard, Watch
from duetto.partition.rules import Finding
from tests.pairs import mismatched_pair

PAIR = Path(__file__).resolve().parents[3] / "examples" / "ptco" / "ptco_linear.duetto"


def crystal(scale: float = 1.0) -> Atoms:
    atoms = bulk("Pt", "fcc", a=3.978 * scale, cubic=True) * (3, 3, 3)
    atoms.rattle(0.03, seed=1)
    return atoms


def look(atoms: Atoms, weights: np.ndarray, guard: Guard, pair: ExpertPair) -> list[Finding]:
    watch = Watch(guard, pair, atoms.get_chemical_symbols(), atoms.pbc)
    return watch.look(watch.at(atoms.positions, atoms.cell.array, weights))


def test_compression_out_of_the_range_is_found() -> None:
    pair, guard = ExpertPair.load(PAIR), Guard(extrapolation=0.05)
    weights = np.zeros(108)
    assert look(crystal(), weights, guard, pair) == []
    # 13 % shorter bonds than at rest; the fit has seen strains of some percent.
    (found,) = look(crystal(0.87), weights, guard, pair)
    assert found.check == "extrapolation"
    assert len(found.atoms) == 108
    message = found.message(step=7)
    assert message.startswith("guard: step 7: atom ")
    assert "which LF computes: its moment of Pt, radial function" in message
    assert "(and 107 more such atoms)" in message
    assert look(crystal(0.87), weights, Guard(), pair) == []


def test_one_atom_pushed_at_its_neighbour() -> None:
    pair, atoms, weights = ExpertPair.load(PAIR), crystal(), np.zeros(108)
    direction = atoms.get_distance(0, 1, mic=True, vector=True)
    atoms.positions[0] += 0.42 * direction
    (found,) = look(atoms, weights, Guard(extrapolation=0.05), pair)
    assert found.atoms[0] == 0
    assert len(found.atoms) < 40
    # What HF computes may be anywhere.
    weights[found.atoms] = 1.0
    assert look(atoms, weights, Guard(extrapolation=0.05), pair) == []


def test_excess_is_that_of_the_moments_by_hand() -> None:
    expert = ExpertPair.load(PAIR).lf
    r = np.array([2.7, 2.9, 3.9, 6.0])
    found = expert.excess(["Pt", "C"], np.zeros(4, dtype=np.int64), ["Pt"] * 3 + ["C"], r)
    cutoff, inner = expert.description.cutoffs[0][0], expert.description.inner[0][0]
    x, lowest = r[:3] / cutoff, (inner - 0.25) / cutoff
    y = (2 * x - lowest - 1) / (1 - lowest)
    first = ((1 - x) ** 3 * y).sum()
    low, high = expert.seen[0, :, 1].tolist()
    expected = max(low - first, first - high) / (high - low)
    assert found[0, 1] == pytest.approx(expected, rel=1e-12)
    assert (found[1] == -np.inf).all()


def test_experts_without_ranges_are_never_out_of_them() -> None:
    atoms = crystal(0.87)
    assert look(atoms, np.zeros(108), Guard(extrapolation=0.0), mismatched_pair()) == []


def test_tolerance_is_a_number() -> None:
    with pytest.raises(InputError, match=r"guard\.extrapolation"):
        Guard.from_config({"extrapolation": "much"})
