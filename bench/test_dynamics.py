"""Whole steps of molecular dynamics of the mixture, a tenth of the atoms in high fidelity.

python scripts/compare_with.py REVISION --only md_step
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duetto.md.integrators import velocity_verlet
from duetto.md.state import initial_state
from duetto.measure.bench.architectures import random_pair
from duetto.measure.bench.systems import build_system, complex_weights
from duetto.potential.mixture import Potential

PAIR = random_pair("hf64", "lf16", hf_r_max=5.0, lf_r_max=4.5, species=("Pt",), seed=0)


@pytest.mark.parametrize("n_atoms", [500, 8000])
def test_md_step(measure: Callable[..., None], matrix_product, n_atoms: int) -> None:
    """A step in which the neighbour list stays valid."""
    atoms = build_system("pt", n_atoms)
    weights = complex_weights(atoms, 0.1)
    potential = Potential(PAIR, atoms.get_chemical_symbols(), weights, atoms.pbc)
    state = initial_state(atoms, potential, temperature_K=300.0, seed=1)
    rebuilds = potential.n_rebuilds
    measure(lambda: velocity_verlet(state, potential, 1.0), matrix_product, rounds=10)
    assert potential.n_rebuilds == rebuilds
