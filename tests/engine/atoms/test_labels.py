"""Labels as files of different codes hold them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from duetto.atoms.labels import (
    LabelKeys,
    check_frame,
    config_type,
    has_labels,
    labels_of,
    read_frames,
)
from duetto.errors import InputError


def crystal() -> Atoms:
    """Rattled nickel in a sheared cell, so that every component of the stress differs."""
    atoms = bulk("Ni", cubic=True)
    strain = np.array([[0.01, 0.02, 0.01], [0.0, 0.0, 0.03], [0.0, 0.0, -0.02]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain))
    atoms.rattle(0.1, seed=3)
    return atoms


def labelled(**labels: Any) -> Atoms:
    """The crystal with energy and forces in a calculator, and more where it is asked for."""
    atoms = crystal()
    forces = labels.pop("forces", np.ones((4, 3)))
    atoms.calc = SinglePointCalculator(atoms, energy=labels.pop("energy", -3.0), forces=forces)
    atoms.info.update(labels)
    return atoms


def strain_derivative(atoms: Atoms) -> np.ndarray:
    """(1/V) dE/dε by central differences of EMT's energy, (3, 3) eV/Å³."""
    stress, h = np.zeros((3, 3)), 1e-4
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[i, j] += sign * h / 2
                strain[j, i] += sign * h / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                strained.calc = EMT()
                energies.append(strained.get_potential_energy())
            stress[i, j] = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
    return stress


@pytest.mark.parametrize("form", ["ase", "voigt", "nine", "virial", "virial_voigt"])
def test_stress_is_the_derivative_of_the_energy(form: str, tmp_path: Path) -> None:
    atoms = crystal()
    expected = strain_derivative(atoms)
    keys = LabelKeys()
    volume = atoms.get_volume()
    voigt = expected[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if form == "ase":
        atoms.calc = EMT()
        result = {
            name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")
        }
        atoms.calc = SinglePointCalculator(atoms, **result)
    else:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((4, 3)))
        value = voigt if "voigt" in form else expected
        virial = form.startswith("virial")
        atoms.info["theirs"] = -volume * value if virial else value
        keys = LabelKeys(virial="theirs") if virial else LabelKeys(stress="theirs")
    write(tmp_path / "frame.extxyz", atoms)
    (read,) = read_frames(tmp_path / "frame.extxyz")
    found = labels_of(read, "frame", keys, stress=True).stress
    # The error of central differences is h² of the third derivative, some 1e-7 of 0.1 eV/Å³;
    # the file keeps eight decimals.
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_names_of_other_codes_are_mapped(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": -7.5, "kind": "bulk_hot"}
    atoms.arrays["REF_forces"] = np.arange(12.0).reshape(4, 3)
    write(tmp_path / "mace.xyz", atoms, format="extxyz")
    (read,) = read_frames(tmp_path / "mace.xyz")
    keys = LabelKeys.from_dict(
        {"energy": "REF_energy", "forces": "REF_forces", "config_type": "kind"}
    )
    labels = labels_of(read, "frame", keys)
    assert labels.energy == -7.5
    np.testing.assert_array_equal(labels.forces, np.arange(12.0).reshape(4, 3))
    assert config_type(read, "mace.xyz", keys) == "bulk_hot"
    assert config_type(read, "folder/mace.extxyz.gz", LabelKeys()) == "mace"
    assert has_labels(read, keys)
    assert not has_labels(read, LabelKeys())
    assert keys.to_dict() == {"energy": "REF_energy", "forces": "REF_forces", "config_type": "kind"}


BAD: list[tuple[Atoms, dict[str, str], str]] = [
    (labelled(energy=np.nan), {}, r"f, frame 3: the energy under 'energy' is not finite"),
    (
        labelled(forces=np.array([[0, 0, 0], [1, np.nan, 2], [0, 0, 0], [0, 0, np.inf]])),
        {},
        r"f, frame 3, atom 1 \(Ni\): its force under 'forces' is 1 nan 2",
    ),
    (labelled(stress=np.full(6, np.nan)), {}, "the stress under 'stress' is not finite"),
    (labelled(), {}, "no stress under 'stress', nor under a similar name"),
    (labelled(virial=np.eye(3)), {}, r"it has virial: say which with keys: \{virial: virial\}"),
    (labelled(REF_stress=np.zeros(6)), {}, r"it has REF_stress: .*keys: \{stress: REF_stress\}"),
    (labelled(stress=np.zeros(5)), {}, "'stress' holds .*; allowed: 3 × 3 numbers, or 6"),
    (labelled(stress=np.arange(9.0).reshape(3, 3)), {}, "not symmetric"),
    (labelled(stress="none"), {}, "'stress' holds 'none'"),
    (labelled(), {"energy": "E_dft"}, r"no energy under 'E_dft'; it has energy: say"),
    (labelled(E="x"), {"energy": "E"}, "'E' holds 'x'; allowed: a number"),
    (labelled(), {"forces": "f_dft"}, r"no forces under 'f_dft'; it has forces: say"),
]


@pytest.mark.parametrize(("atoms", "keys", "message"), BAD)
def test_what_is_no_label_is_refused_by_name(
    atoms: Atoms, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        labels_of(atoms, "f, frame 3", LabelKeys.from_dict(keys), stress=True)


def test_names_are_listed_when_a_label_is_missing() -> None:
    atoms = crystal()
    atoms.info["free_energy"] = -3.0
    atoms.arrays["force"] = np.zeros((4, 3))
    with pytest.raises(InputError, match=r"it has free_energy: say .*\{energy: free_energy\}"):
        labels_of(atoms, "f", LabelKeys())
    keys = LabelKeys.from_dict({"energy": "free_energy"})
    with pytest.raises(InputError, match=r"it has force: say which with keys: \{forces: force\}"):
        labels_of(atoms, "f", keys)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"enrgy": "E"}, r'unknown quantity .*did you mean "energy"'),
        ({"energy": 3}, r"keys.energy: got 3"),
        ({"stress": "s", "virial": "v"}, "stress or virial, not both"),
    ],
)
def test_bad_keys_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelKeys.from_dict(data)


def test_bad_frames_are_refused() -> None:
    atoms = crystal()
    with pytest.raises(InputError, match="atom 0 is Ni, which is not among the species Pt, H"):
        check_frame(atoms, "f", ["Pt", "H"])
    atoms.positions[2, 1] = np.nan
    with pytest.raises(InputError, match=r"atom 2 \(Ni\) at .*: its position is not finite"):
        check_frame(atoms, "f")
    with pytest.raises(InputError, match="direction a is periodic but has no cell vector"):
        check_frame(Atoms("H", pbc=True), "f")
    with pytest.raises(InputError, match="no atoms"):
        check_frame(Atoms(), "f")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of frames"):
        read_frames(tmp_path / "none.xyz")
    with pytest.raises(InputError, match="is a folder; name the file of frames in it"):
        read_frames(tmp_path)
    (tmp_path / "empty.extxyz").write_text("")
    with pytest.raises(InputError, match=r"empty\.extxyz"):
        read_frames(tmp_path / "empty.extxyz")
    (tmp_path / "bad.extxyz.gz").write_bytes(gzip.compress(b"2\n\nNi 0 0\n"))
    with pytest.raises(InputError, match="it ends after"):
        read_frames(tmp_path / "bad.extxyz.gz")
