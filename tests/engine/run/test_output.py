import io
import math
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase import units

from duetto.atoms.structure import read_structure
from duetto.errors import InputError
from duetto.md import NVE, Langevin, initial_state, run_md
from duetto.run.append import AppendedFile
from duetto.run.checkpoint import load_checkpoint, save_checkpoint
from duetto.run.thermo import (
    COLUMNS,
    HEADER,
    energy_drift_error_meV_per_atom_per_ps,
    energy_drift_meV_per_atom_per_ps,
    read_thermo,
    thermo_row,
)
from duetto.run.trajectory import format_frame
from tests.engine.md.toy import argon, lj_potential


@pytest.fixture
def state():
    atoms = argon(2)
    atoms.pbc = (True, True, False)
    atoms.symbols[3] = "Kr"
    potential = lj_potential(atoms)
    potential.weights = np.linspace(0.0, 1.0, len(atoms))
    start = initial_state(atoms, potential, temperature_K=50.0, seed=3)
    *_, state = run_md(start, potential, [Langevin(7, 50.0)], timestep_fs=2.0)
    return replace(state, e_repartition=0.25)


def test_thermo_row_reads_back_to_the_same_bits(state, tmp_path):
    path = tmp_path / "thermo.csv"
    path.write_text(HEADER + thermo_row(state) + thermo_row(replace(state, pbc=(False,) * 3)))
    table = read_thermo(path)
    assert tuple(table) == COLUMNS
    kinetic = state.kinetic_energy
    assert table["step"][0] == 7
    assert table["time_fs"][0] == 14.0
    assert table["potential_energy_eV"][0] == state.energy
    assert table["kinetic_energy_eV"][0] == kinetic
    assert table["total_energy_eV"][0] == state.energy + kinetic
    expected = state.energy + kinetic - 0.25 - state.thermostat_work
    assert table["conserved_eV"][0] == pytest.approx(expected, rel=1e-15)
    assert table["temperature_K"][0] == state.temperature(kinetic)
    assert table["pressure_GPa"][0] == state.pressure_GPa(kinetic)
    assert math.isnan(table["pressure_GPa"][1])


def test_drift_is_the_slope():
    time_fs = np.arange(0.0, 5000.0, 10.0)
    rng = np.random.default_rng(0)
    energy = -1e4 + 2e-5 * time_fs + rng.normal(0.0, 1e-4, len(time_fs))  # eV
    slope = np.polyfit(time_fs, energy + 1e4, 1)[0]
    drift = energy_drift_meV_per_atom_per_ps(time_fs, energy, 100)
    assert drift == pytest.approx(slope * 1e6 / 100, rel=1e-9)
    assert drift == pytest.approx(2e-5 * 1e6 / 100, rel=0.01)
    assert math.isnan(energy_drift_meV_per_atom_per_ps([1.0], [2.0], 3))


def test_error_of_the_drift_is_how_slopes_scatter():
    rng = np.random.default_rng(1)
    time_fs, n_atoms, sigma = np.arange(2000) * 2.0, 50, 1e-3
    slopes, errors = [], []
    for _ in range(200):
        energy = 1e-6 * time_fs + sigma * rng.normal(size=len(time_fs))
        slopes.append(energy_drift_meV_per_atom_per_ps(time_fs, energy, n_atoms))
        errors.append(energy_drift_error_meV_per_atom_per_ps(time_fs, energy, n_atoms))
    # Of a straight line through noise of one size: sigma / sqrt(Σ (t − mean)²)
    exact = 1e6 * sigma / n_atoms / np.sqrt(((time_fs - time_fs.mean()) ** 2).sum())
    assert np.std(slopes) == pytest.approx(exact, rel=0.15)  # of 200, to 5 %, three times
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(exact, rel=0.1)
    assert np.mean(slopes) == pytest.approx(1e-6 * 1e6 / n_atoms, abs=4 * exact / np.sqrt(200))
    assert math.isnan(energy_drift_error_meV_per_atom_per_ps([1.0, 2.0], [2.0, 2.0], 3))


def test_ase_reads_the_trajectory(state):
    fields = ("velocities", "momenta", "forces", "energies", "weights")
    text = format_frame(state, fields) + format_frame(replace(state, step=8), fields)
    frames = ase.io.read(io.StringIO(text), index=":", format="extxyz")
    assert [frame.info["step"] for frame in frames] == [7, 8]
    atoms = frames[0]
    assert atoms.get_chemical_symbols() == list(state.species)
    assert atoms.pbc.tolist() == [True, True, False]
    assert atoms.info["time_fs"] == 14.0
    # Nine decimals are written.
    close = {"rtol": 0.0, "atol": 1e-9}
    np.testing.assert_allclose(atoms.positions, state.positions, **close)
    np.testing.assert_allclose(atoms.cell, state.cell, rtol=1e-11)
    np.testing.assert_allclose(atoms.arrays["velo"], state.velocities, **close)
    np.testing.assert_allclose(
        atoms.get_momenta(), state.velocities / units.fs * state.masses[:, None], **close
    )
    np.testing.assert_allclose(atoms.get_forces(), state.forces, **close)
    np.testing.assert_allclose(atoms.get_potential_energies(), state.energies, **close)
    np.testing.assert_allclose(atoms.arrays["w"], state.weights, **close)
    assert atoms.get_potential_energy() == pytest.approx(state.energy, abs=1e-9)
    # tr(stress) = −3 p of the potential part.
    pressure = -np.trace(atoms.get_stress(voigt=False)) / 3.0 / units.GPa
    assert pressure == pytest.approx(state.pressure_GPa(0.0), rel=1e-9)


def test_a_frame_starts_the_same_dynamics(state):
    """What ASE reads from a frame has the velocities of the run."""
    atoms = ase.io.read(io.StringIO(format_frame(state)), format="extxyz")
    again = initial_state(atoms, lj_potential(atoms))
    np.testing.assert_allclose(again.velocities, state.velocities, rtol=0.0, atol=1e-9)


def test_isotopes_keep_their_masses(tmp_path):
    """ASE's kinetic energy of a frame is the run's, and a run that starts there has the masses."""
    atoms = argon(1)
    masses = atoms.get_masses()
    masses[2] = 35.967545
    atoms.set_masses(masses)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=60.0)
    (tmp_path / "isotopes.xyz").write_text(format_frame(start))
    frame = read_structure(tmp_path / "isotopes.xyz")
    np.testing.assert_allclose(frame.get_masses(), masses, rtol=0, atol=5e-10)
    assert frame.get_kinetic_energy() == pytest.approx(start.kinetic_energy, rel=1e-6)
    again = initial_state(frame, potential)
    assert again.masses.tolist() == pytest.approx(masses.tolist(), abs=5e-10)
    # Standard masses need no column: readers know them.
    atoms.set_masses("defaults")
    assert "masses" not in format_frame(initial_state(atoms, potential, temperature_K=60.0))


def test_a_cluster_has_no_lattice(state):
    free = replace(state, cell=torch.zeros(3, 3).double(), pbc=(False, False, False))
    text = format_frame(free, ())
    assert "Lattice" not in text
    assert "stress" not in text
    atoms = ase.io.read(io.StringIO(text), format="extxyz")
    assert not atoms.pbc.any()


def same(one, other):
    for name in one.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if name == "generator":
            a, b = a.get_state(), b.get_state()
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype, name
            assert torch.equal(a, b), name
        else:
            assert a == b, name
            assert type(a) is type(b), name


def test_checkpoint_keeps_every_bit(state, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state, {"anything": [1, 2.5, None]})
    loaded, record = load_checkpoint(path)
    same(loaded, state)
    assert record == {"anything": [1, 2.5, None]}
    without_list = replace(state, list_reference=None)
    save_checkpoint(path, without_list, {})
    same(load_checkpoint(path)[0], without_list)


def test_damaged_checkpoints_are_refused_in_one_line(state, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state, {})
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for trial in range(200):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: int(rng.integers(len(data)))]
        elif trial % 4 == 1:
            data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        elif trial % 4 == 2:
            start = int(rng.integers(2000))
            data[start : start + 8] = rng.bytes(8)
        else:
            data += rng.bytes(int(rng.integers(1, 50)))
        path.write_bytes(data)
        if bytes(data) == whole:
            continue
        with pytest.raises(InputError) as error:
            load_checkpoint(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(path)


def test_checkpoint_of_another_version_or_device(state, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("duetto.run.checkpoint.FORMAT_VERSION", 2)
        save_checkpoint(path, state, {})
    with pytest.raises(InputError, match=r"version 2.*update Duetto"):
        load_checkpoint(path)
    save_checkpoint(path, state, {})
    with pytest.raises(InputError, match=r"was on cpu.*set device: cpu"):
        load_checkpoint(path, "cuda")


def test_appended_files_are_cut_back_and_locked(tmp_path):
    path = tmp_path / "thermo.csv"
    stream = AppendedFile(path, 0)
    stream.write("one\ntwo ångström\n")
    size = stream.sync()
    stream.write("three\n")
    assert path.read_text().endswith("three\n")  # already there for another process
    with pytest.raises(InputError, match="another run is writing"):
        AppendedFile(path, 0)
    stream.close()
    again = AppendedFile(path, size)
    again.write("four\n")
    again.close()
    assert path.read_text() == "one\ntwo ångström\nfour\n"
    with pytest.raises(InputError, match="was changed"):
        AppendedFile(path, 1000)
    assert path.read_text() == "one\ntwo ångström\nfour\n"


def test_nve_after_langevin_conserves_from_its_own_start(state):
    atoms = argon(1)
    potential = lj_potential(atoms, cutoff=5.0)
    start = initial_state(atoms, potential, temperature_K=50.0)
    states = list(run_md(start, potential, [Langevin(5, 50.0), NVE(5)], timestep_fs=1.0))
    before = states[4]
    assert states[-1].stage_conserved == before.conserved(before.kinetic_energy)
