"""A mixture with a linear expert keeps its energy, and its guard knows what that never met."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from duetto.errors import RunStopped
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from duetto.md import NVE, Limits, initial_state, run_md
from duetto.partition.rules import seen_pairs
from duetto.potential.mixture import Potential

PAIR = Path(__file__).parents[3] / "examples" / "ptco" / "ptco_linear.duetto"


def energies(pair: ExpertPair, timestep_fs: float, time_fs: float) -> np.ndarray:
    """Total energy at every step, eV, of hot bulk platinum with a ball of it computed by HF."""
    atoms = bulk("Pt", "fcc", a=3.978, cubic=True).repeat(3)
    distance = atoms.get_distances(0, range(len(atoms)), mic=True)
    weights = np.where(distance < 3.0, 1.0, np.where(distance < 4.2, 0.5, 0.0))
    assert 0 < (weights == 1.0).sum() < (weights > 0.0).sum() < len(atoms)
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64", skin=0.5)
    state = initial_state(atoms, potential, temperature_K=1200.0, seed=4)
    steps = round(time_fs / timestep_fs)
    run = run_md(state, potential, [NVE(steps)], timestep_fs=timestep_fs, limits=Limits())
    return np.array([state.energy + state.kinetic_energy for state in run])


def test_energy_is_kept_to_the_error_of_the_integrator() -> None:
    pair = ExpertPair.load(PAIR)
    # Velocity Verlet keeps a shadow energy h² away from the true one: what the total energy of a
    # conservative potential strays shrinks four times with half the step. A force that is not the
    # gradient would add work that the step does not change.
    long, short = (energies(pair, h, 300.0) for h in (4.0, 2.0))
    stray = [np.ptp(found) for found in (long, short)]
    assert stray[0] / stray[1] == pytest.approx(4.0, rel=0.25)
    # Nor does it drift: the ends differ by no more than the fluctuation between them.
    third = len(short) // 3
    assert abs(short[-third:].mean() - short[:third].mean()) < np.std(short[:third]) * 2


def test_guard_refuses_adsorbates_beside_atoms_of_the_linear_expert() -> None:
    assert seen_pairs(ExpertPair.load(PAIR)) == {("Pt", "Pt")}
    slab = ase.io.read(PAIR.parent / "small_slab.extxyz")
    molecules = {"complex": {"species": ["C", "O"]}}
    slab.calc = DuettoCalculator(PAIR, molecules, self_check=False)
    with pytest.raises(RunStopped, match=r"never trained on C as a neighbour of Pt") as refused:
        slab.get_potential_energy()
    assert len(str(refused.value).splitlines()) == 1
    around = {"complex": {"within": {"distance": 5.0, "of": {"species": ["C", "O"]}}}}
    slab.calc = DuettoCalculator(PAIR, around, self_check=False)
    assert np.isfinite(slab.get_potential_energy())
