"""Linear experts on the triton backend, beside Allegro and beside each other, through a run."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.experts.pair import ExpertPair
from duetto.md.limits import Limits
from duetto.md.loop import NVE, run_md
from duetto.md.state import State, initial_state
from duetto.potential.mixture import Potential
from tests.engine.potential.test_triton import blended, evaluate, potential, reference, some
from tests.linear_experts import random_expert
from tests.pairs import high_fidelity
from tests.structures import structures

TOLERANCE = 2e-5
"""Of the largest force: products of three moments, each a sum that is good to float32's 6e-8."""

THREE = "three species, one without moments, wall"


def two_linear() -> ExpertPair:
    return ExpertPair(random_expert(THREE), random_expert(THREE, seed=1))


def check(p: Potential, atoms: Atoms) -> None:
    got, expected = evaluate(p, atoms), reference(p, atoms)
    scale = max(float(expected.forces.abs().max()), 1e-3)
    assert float((got.forces - expected.forces).abs().max()) < TOLERANCE * scale
    size = max(float(expected.energies.abs().max()), scale)
    assert float((got.energies - expected.energies).abs().max()) < TOLERANCE * size
    size = max(float(expected.virial.abs().max()), scale)
    assert float((got.virial - expected.virial).abs().max()) < TOLERANCE * size


@pytest.mark.parametrize("name", list(structures()))
def test_two_linear_experts_in_every_cell(name: str, caplog: pytest.LogCaptureFixture) -> None:
    atoms = some(name, 6)
    with caplog.at_level(logging.INFO, "duetto"):
        p = potential(atoms, blended(atoms), two_linear())
    assert "torch" not in caplog.text
    check(p, atoms)


def test_beside_an_allegro_expert() -> None:
    atoms = some("isolated_atoms")
    check(
        potential(atoms, blended(atoms), ExpertPair(high_fidelity(), random_expert(THREE))), atoms
    )


def test_species_unknown_to_lf_add_nothing_to_it() -> None:
    """LF knows platinum alone; other atoms are HF's, and no neighbours to LF."""
    atoms = some("triclinic", 6)
    others = np.array([symbol != "Pt" for symbol in atoms.symbols])
    assert others.any()
    pair = ExpertPair(random_expert(THREE), random_expert("one species, l_max 2"))
    check(potential(atoms, others.astype(float), pair), atoms)


def run(every: int) -> list[State]:
    atoms = some("isolated_atoms")
    p = potential(atoms, blended(atoms), two_linear(), skin=1.5)
    assert p.takes_steps_on_device
    state = initial_state(atoms, p, temperature_K=300.0, seed=1, device=p.device)
    limits = Limits(temperature_K=1e6, energy_drift_meV_per_atom=1e6)
    return list(run_md(state, p, [NVE(4)], timestep_fs=1.0, limits=limits, every=every))


def test_dynamics_on_the_device_equals_the_hosts_bit_for_bit() -> None:
    on_host, on_device = run(every=1), run(every=2)
    assert [state.step for state in on_device] == [2, 4]
    for state in on_device:
        twin = on_host[state.step - 1]
        for name in ("positions", "velocities", "forces", "energies", "virial"):
            assert torch.equal(getattr(state, name), getattr(twin, name)), name
