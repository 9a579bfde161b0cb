"""Embedded-atom experts: LAMMPS's files, LAMMPS's numbers, and bad files refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.errors import InputError
from duetto.experts.eam.expert import EamExpert
from duetto.experts.eam.setfl import read_setfl
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from tests.engine.experts.eam import lammps_reference
from tests.engine.experts.eam.tables import setfl_text, write_setfl

RELATIVE = 1e-10
"""Both sides are double precision; what is left is the order of some ten thousand terms."""
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


def crystal(species: tuple[str, ...], spacing: float = 2.45, seed: int = 0) -> Atoms:
    """216 atoms in a skew cell, each up to 0.35 Å off its site, some pairs as near as 1.3 Å."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)
    cell = np.array([[6, 0, 0], [0.45, 6, 0], [-0.3, 0.25, 6]]) * spacing
    positions = sites / 6 @ cell + rng.uniform(-0.35, 0.35, sites.shape)
    return Atoms(rng.permutation(np.resize(species, 216)), positions, cell=cell, pbc=True)


def evaluate(expert: EamExpert, atoms: Atoms, dtype: str, backend: str) -> dict[str, np.ndarray]:
    potential = Potential(
        ExpertPair(hf=None, lf=expert),
        list(atoms.symbols),
        np.zeros(len(atoms)),
        atoms.pbc,
        dtype=dtype,
        backend=backend,
    )
    found = potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    return {
        "energies": found.energies.numpy(),
        "forces": found.forces.numpy(),
        "virial": found.virial.numpy()[VOIGT],
    }


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize(
    "name",
    ["Cu_mishin1.eam.alloy", "CuTa.eam.alloy", "NiAlH_jea.eam.fs", "AlFe_mm.eam.fs"],
)
def test_numbers_are_those_of_lammps(name: str, backend: str) -> None:
    expert = read_setfl(lammps_reference.potentials() / name)
    atoms = crystal(expert.species)
    theirs = _lammps(name)
    ours = evaluate(expert, atoms, "float64", backend)
    for quantity, expected in theirs.items():
        deviation = np.abs(ours[quantity] - expected).max() / np.abs(expected).max()
        assert deviation < RELATIVE, quantity


_known: dict[str, Any] = {}


def _lammps(name: str) -> dict[str, np.ndarray]:
    """Asked once for each file."""
    if name not in _known:
        path = lammps_reference.potentials() / name
        expert = read_setfl(path)
        atoms = crystal(expert.species)
        _known[name] = lammps_reference.evaluate(path, expert.style, atoms, expert.species)
    return _known[name]


def test_beyond_the_tables_energies_are_those_of_lammps(tmp_path: Path) -> None:
    lammps_reference.potentials()
    path = write_setfl(tmp_path)
    expert = read_setfl(path)
    atoms = crystal(expert.species, spacing=1.9)  # ρ beyond its table, r before the second point
    theirs = lammps_reference.evaluate(path, expert.style, atoms, expert.species)
    ours = evaluate(expert, atoms, "float64", "numba")
    scale = np.abs(theirs["energies"]).max()
    assert np.abs(ours["energies"] - theirs["energies"]).max() < RELATIVE * scale
    # After the last point in r LAMMPS's slope is not that of its energy; ours is.
    last = expert.dr * (expert.product.shape[1] - 1)
    near_end = np.unique(_pairs_between(atoms, last, expert.table_cutoff))
    others = np.setdiff1d(np.arange(len(atoms)), near_end)
    assert len(others) > 0
    deviation = np.abs(ours["forces"] - theirs["forces"])[others].max()
    assert deviation < RELATIVE * np.abs(theirs["forces"]).max()


def _pairs_between(atoms: Atoms, low: float, high: float) -> np.ndarray:
    from ase.neighborlist import neighbor_list

    i, distance = neighbor_list("id", atoms, high)
    return i[distance > low]


def test_forces_are_the_gradient_of_the_energy(tmp_path: Path) -> None:
    expert = read_setfl(write_setfl(tmp_path)).adjusted(
        1.02, 1.3, torch.tensor([0.4, -0.2]).double()
    )
    atoms, rng = crystal(expert.species, spacing=2.0), np.random.default_rng(3)
    moves = rng.normal(size=(len(atoms), 3))
    forces = evaluate(expert, atoms, "float64", "numba")["forces"]
    energies, step = [], 1e-5
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * moves
        energies.append(evaluate(expert, moved, "float64", "numba")["energies"].sum())
    difference = (energies[1] - energies[0]) / (2 * step)
    # Third differences of cubic splines jump at their points: h times some 1e3 eV/Å² of each edge.
    assert abs(difference - (forces * moves).sum()) < 1e-5 * np.abs(forces * moves).sum()


def test_scales_and_shifts(tmp_path: Path) -> None:
    expert = read_setfl(write_setfl(tmp_path))
    s, e, shift = 1.03, 0.8, torch.tensor([0.5, -0.25], dtype=torch.float64)
    adjusted = expert.adjusted(s, e, shift)
    assert adjusted.cutoff("Pt", "O") == pytest.approx(expert.cutoff("Pt", "O") / s)
    atoms = crystal(expert.species)
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array * s, scale_atoms=True)
    plain = evaluate(expert, scaled, "float64", "numba")
    found = evaluate(adjusted, atoms, "float64", "numba")
    shifts = np.where(np.array(list(atoms.symbols)) == "Pt", 0.5, -0.25)
    assert np.allclose(found["energies"], e * plain["energies"] + shifts, rtol=1e-12)
    assert np.allclose(found["forces"], e * s * plain["forces"], rtol=1e-9, atol=1e-9)
    assert np.allclose(found["virial"], e * plain["virial"], rtol=1e-10)


def test_a_pair_file_keeps_all_of_it(tmp_path: Path) -> None:
    for style in ("eam/alloy", "eam/fs"):
        expert = read_setfl(write_setfl(tmp_path, style)).adjusted(
            1.01, 0.9, torch.tensor([0.1, 0.2]).double()
        )
        ExpertPair(hf=None, lf=expert).save(tmp_path / "eam.duetto")
        read = ExpertPair.load(tmp_path / "eam.duetto").lf
        assert isinstance(read, EamExpert)
        assert read.to_json() == expert.to_json()
        for name, tensor in expert.to_tensors().items():
            assert torch.equal(read.to_tensors()[name], tensor), name


def test_one_element_is_the_same_in_both_styles(tmp_path: Path) -> None:
    alloy = read_setfl(write_setfl(tmp_path, "eam/alloy", 1))
    both = read_setfl(write_setfl(tmp_path, "eam/fs", 1))
    assert torch.equal(alloy.density, both.density[:, 0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 Pt O", "3 Pt O", "line 4: announces 3 elements and names 2: Pt O"),
        ("2 Pt O", "1 Pt", r"line \d+: the atomic number|goes on with|allowed: a"),
        ("2 Pt O", "2 Pt Qq", "line 4: element 'Qq' is not a chemical symbol"),
        ("2 Pt O", "2 Pt Pt", "line 4: an element is named twice"),
        ("40 0.5 200", "40 -0.5 200", "line 5: drho: got -0.5; allowed: a number above 0"),
        ("40 0.5 200", "4 0.5 200", "line 5: nrho: got 4; allowed: at least 5 points"),
        ("40 0.5 200", "40 0.5 100", r"line \d+: |goes on with"),
        ("UNITS: metal", "UNITS: real", "line 1: the units are 'real'; Duetto reads metal"),
        ("78 195.08", "78 NaN", "line 6: the mass of Pt: got 'NaN'; allowed: a finite number"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "bad.eam.fs"
    text = setfl_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as refusal:
        read_setfl(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_table_with_nan_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.eam.fs"
    lines = setfl_text().splitlines()
    lines[13] = "nan " + lines[13].partition(" ")[2]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 14: rho\(r\) of Pt at Pt: got 'nan'"):
        read_setfl(path)


@pytest.mark.parametrize("cutoff", ["1e-9", "1e9"])
def test_a_cutoff_out_of_proportion_to_its_table(cutoff: str, tmp_path: Path) -> None:
    lines = setfl_text().splitlines()
    words = lines[4].split()
    lines[4] = " ".join([*words[:4], cutoff])
    path = tmp_path / "bad.eam.fs"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"bad.eam.fs, line 5: the cutoff: got 1e[-+]0?9 Å"):
        read_setfl(path)


def test_truncated_foreign_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.eam.fs"
    path.write_text(setfl_text()[:4000])
    with pytest.raises(InputError, match=r"values\); the file is cut short"):
        read_setfl(path)
    path.write_text("")
    with pytest.raises(InputError, match="it has 0 lines"):
        read_setfl(path)
    path.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(InputError, match="bad"):
        read_setfl(path)
    folder = tmp_path / "folder.eam.alloy"
    folder.mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        read_setfl(folder)
    with pytest.raises(InputError, match="no such file"):
        read_setfl(tmp_path / "absent.eam.alloy")
    with pytest.raises(InputError, match=r"called \*.alloy, \*.setfl, \*.fs"):
        read_setfl(tmp_path / "Cu_u3.eam")
