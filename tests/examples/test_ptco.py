"""The shipped Pt+CO pair: what its users rely on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read

import duetto
from duetto.md import NVE, Langevin, initial_state, run_md
from duetto.potential.mixture import Potential
from duetto.run.config import load_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "ptco"


@pytest.fixture(scope="module")
def pair() -> duetto.ExpertPair:
    return duetto.ExpertPair.load(EXAMPLE / "ptco.duetto")


@pytest.fixture(scope="module")
def hot_slab() -> Atoms:
    """Atoms displaced as at some hundred kelvin."""
    atoms = read(EXAMPLE / "slab.extxyz")
    atoms.rattle(0.08, seed=4)
    return atoms


def demo_weights(atoms: Atoms) -> np.ndarray:
    regions = load_config(EXAMPLE / "demo.yaml").regions
    return regions.weights(atoms)


def forces(pair: duetto.ExpertPair, atoms: Atoms, weights: np.ndarray, dtype: str) -> np.ndarray:
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype=dtype)
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    return potential.evaluate(positions, cell).forces.numpy()


def test_it_says_where_it_comes_from(pair: duetto.ExpertPair) -> None:
    assert pair.species == ("Pt", "C", "O")
    assert set(pair.experts) == {"hf", "lf"}
    assert ["Pt", "Pt"] in pair.provenance["lf"]["seen_pairs"]
    assert pair.hf.architecture.r_max >= pair.lf.architecture.r_max


def test_float32_forces_are_good_to_five_hundredths_of_a_mev(pair, hot_slab) -> None:
    for weights in (demo_weights(hot_slab), np.ones(len(hot_slab))):
        exact = forces(pair, hot_slab, weights, "float64")
        assert np.abs(forces(pair, hot_slab, weights, "float32") - exact).max() < 5e-5


def test_the_complex_region_feels_full_hf(pair, hot_slab) -> None:
    weights = demo_weights(hot_slab)
    mixed = forces(pair, hot_slab, weights, "float64")
    full = forces(pair, hot_slab, np.ones(len(hot_slab)), "float64")
    molecules = np.isin(hot_slab.symbols, ["C", "O"])
    # A centre within two cutoffs of no LF centre has exactly HF's force: here only the upper
    # layers' neighbours change. The molecules are 5 Å from the seam, beyond LF's cutoff.
    scale = np.sqrt((full**2).mean())
    assert np.sqrt(((mixed - full)[molecules] ** 2).mean()) < 0.01 * scale
    assert np.sqrt(((mixed - full) ** 2).mean()) < 0.06 * scale


@pytest.mark.parametrize("mixed", [True, False], ids=["mixture", "full_hf"])
def test_energy_is_conserved_to_second_order_in_the_timestep(pair, mixed: bool) -> None:
    atoms = read(EXAMPLE / "slab.extxyz")
    weights = demo_weights(atoms) if mixed else np.ones(len(atoms))
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64", skin=1.0)
    state = initial_state(atoms, potential, temperature_K=600, seed=1)
    for state in run_md(state, potential, [Langevin(30, 300.0, 0.05)], timestep_fs=1.0):  # noqa: B007, B020
        pass
    spreads = []
    for timestep_fs in (1.0, 0.5):
        steps = round(24 / timestep_fs)
        energies = [
            s.energy + s.kinetic_energy
            for s in run_md(state, potential, [NVE(steps)], timestep_fs=timestep_fs)
        ]
        spreads.append(np.std(energies))
    # Velocity Verlet's energy error is proportional to the square of the timestep: 4, with a third
    # to spare for the higher orders at the C-O stretch, whose period of 16 fs is in there whole.
    assert 4 / 1.33 < spreads[0] / spreads[1] < 4 * 1.33


def test_the_followed_molecule_conserves_energy(tmp_path: Path) -> None:
    """A short piece of the example; the whole of it drifts by 7e-5 meV/atom/ps."""
    from duetto.run.run import run
    from duetto.run.thermo import read_thermo

    summary = run(
        EXAMPLE / "follow.yaml",
        overrides=[f"output.dir={tmp_path}", "stages.0.steps=10", "stages.1.steps=40"],
        say=lambda line: None,
    )
    # Around the molecule, not the slab: its blend of 3 Å holds a further eighth.
    assert 0 < summary.n_blend < 0.15 * summary.n_atoms
    assert summary.n_complex < 0.5 * summary.n_atoms
    table = read_thermo(tmp_path / "thermo.csv")
    nve = table["step"] >= 10
    # Velocity Verlet's error at 1 fs with a bond that vibrates in 16 fs: (2π/16)²/24 of the bond's
    # some 0.1 eV.
    assert np.ptp(table["conserved_eV"][nve]) < 2e-3
    assert np.ptp(table["kinetic_energy_eV"][nve]) > 0.1
