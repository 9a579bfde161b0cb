"""Errors of a pair: known ones are found, in the right rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from duetto.cli.main import main
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from duetto.measure.errors.crystal import equation_of_state, read_crystal
from duetto.measure.errors.frames import evaluated_frames
from duetto.measure.errors.picture import draw_evaluation
from duetto.measure.errors.tables import markdown, summarize
from duetto.partition.regions import Regions
from tests.engine.cotrain.training import labelled_frames
from tests.pairs import mismatched_pair

REGIONS = {"complex": {"species": {"symbols": ["C", "O"], "optional": True}}}


@pytest.fixture(scope="module")
def pair() -> ExpertPair:
    return mismatched_pair(zbl=True)


@pytest.fixture(scope="module")
def frames(pair: ExpertPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames with HF's own results as labels, made wrong by known amounts."""
    path = tmp_path_factory.mktemp("frames") / "frames.extxyz"
    labelled = []
    for atoms in labelled_frames(2, 2, 1):
        atoms.calc = DuettoCalculator(ExpertPair(pair.hf, None), dtype="float64")
        forces = atoms.get_forces() + 0.05
        energy = atoms.get_potential_energy() - 0.002 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        labelled.append(atoms)
    write(path, labelled)
    return path


def test_known_errors_are_found(pair: ExpertPair, frames: Path) -> None:
    evaluated = evaluated_frames(pair, [frames], regions=Regions.from_dict(REGIONS))
    result = summarize(evaluated, ["*"])
    assert (result["frames"], result["labelled_frames"]) == (4, 4)
    for table in ("by_config_type", "by_group", "by_element", "by_region"):
        for row in result[table].values():
            # Extended XYZ keeps eight decimals, also of positions.
            assert row["hf"]["forces_mev_per_angstrom"] == pytest.approx(50, rel=1e-4)
    for row in result["by_config_type"].values():
        assert row["hf"]["energy_mev_per_atom"] == pytest.approx(2, rel=1e-4)
    atoms = sum(len(frame.atoms) for frame in evaluated)
    for table in ("by_config_type", "by_element", "by_region"):
        assert sum(row["atoms"] for row in result[table].values()) == atoms
    assert set(result["by_region"]) == {"complex C", "complex O", "simple Pt"}


def test_experts_are_compared_atom_by_atom(pair: ExpertPair, frames: Path) -> None:
    result = summarize(evaluated_frames(pair, [frames]))
    atoms = read(frames, index=":2")
    differences, energies = [], []
    for frame in atoms:
        found = {}
        for role, alone in (("hf", ExpertPair(pair.hf, None)), ("lf", ExpertPair(None, pair.lf))):
            frame.calc = DuettoCalculator(alone, dtype="float64")
            found[role] = (frame.get_forces(), frame.get_potential_energies())
        differences.append(found["hf"][0] - found["lf"][0])
        energies.append(found["hf"][1] - found["lf"][1])
    row = result["by_config_type"]["bulk_hot"]["hf_minus_lf"]
    expected = 1e3 * np.sqrt(np.mean(np.concatenate(differences) ** 2))
    assert row["forces_mev_per_angstrom"] == pytest.approx(expected, rel=1e-9)
    expected = 1e3 * np.sqrt(np.mean(np.concatenate(energies) ** 2))
    assert row["energy_of_atoms_mev"] == pytest.approx(expected, rel=1e-9)


def test_the_command(pair: ExpertPair, frames: Path, tmp_path: Path, capsys) -> None:
    pair.save(tmp_path / "pair.duetto")
    arguments = ["evaluate", str(tmp_path / "pair.duetto"), str(frames)]
    picture = tmp_path / "errors.png"
    assert main([*arguments, "--regions", json.dumps(REGIONS), "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "| config_type | atoms | RMS force | HF forces | HF energy |" in text
    assert "| complex C | 2 |" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["by_config_type"]["co_surface"]["frames"] == 2


def test_frames_without_labels_show_how_far_the_experts_are_apart(
    pair: ExpertPair, tmp_path: Path
) -> None:
    write(tmp_path / "bare.extxyz", bulk("Pt", cubic=True))
    evaluated = evaluated_frames(pair, [tmp_path / "bare.extxyz"])
    result = summarize(evaluated)
    row = result["by_config_type"]["bare"]
    assert set(row) == {"frames", "atoms", "hf_minus_lf"}
    assert "| bare | 4 |" in markdown(result)
    assert draw_evaluation(result, evaluated).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give files of frames, or --crystal"),
        (["nowhere.xyz"], "nowhere.xyz: no such file"),
        (["FRAMES", "--keys", "energy"], "write it as energy=REF_energy"),
        (["FRAMES", "--keys", "forces=f"], r"frame 0 \(Pt4\): no forces under 'f'; it has forces"),
        (["FRAMES", "--regions", "{complex: {species: [C]}}"], r"frame 0 \(Pt4\): .*species"),
        (["FRAMES", "--regions", "none.yaml"], "none.yaml: no such file"),
        (["--crystal", "fcc:Ni:3.5"], "the pair knows Pt, C, O"),
        (["--crystal", "fbb:Pt:3.5"], "--crystal fbb:Pt:3.5"),
        (["--crystal", "nowhere"], "write it as fcc:Pt:3.98"),
        (["FRAMES", "--plot", "/nowhere/x.png"], "a folder that exists"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, pair: ExpertPair, frames: Path, tmp_path: Path, capsys
) -> None:
    import re

    pair.save(tmp_path / "pair.duetto")
    arguments = [str(frames) if word == "FRAMES" else word for word in arguments]
    assert main(["evaluate", str(tmp_path / "pair.duetto"), *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


def test_equation_of_state_is_fitted() -> None:
    def birch_murnaghan(atoms: Atoms) -> float:
        v0, b0, slope = 3.92**3 / 4, 250 * units.GPa, 5.0
        x = (v0 * len(atoms) / atoms.get_volume()) ** (2 / 3)
        energy = 9 * v0 * b0 / 16 * ((x - 1) ** 3 * slope + (x - 1) ** 2 * (6 - 4 * x))
        return len(atoms) * energy

    for crystal in ("fcc:Pt:3.97", "fcc:Pt:3.85"):
        name, atoms = read_crystal(crystal)
        assert (name, len(atoms)) == ("fcc Pt", 4)
        found = equation_of_state(birch_murnaghan, atoms, "hf")
        assert found["lattice_constant_angstrom"] == pytest.approx(3.92, rel=1e-9)
        assert found["bulk_modulus_gpa"] == pytest.approx(250, rel=1e-6)
    with pytest.raises(InputError, match="no minimum"):
        equation_of_state(lambda _: 0.0, atoms, "hf")


def test_crystals_of_files_and_without_a_cubic_cell(tmp_path: Path) -> None:
    write(tmp_path / "al.xyz", bulk("Al"), format="extxyz")
    assert len(read_crystal(str(tmp_path / "al.xyz"))[1]) == 1
    assert len(read_crystal("hcp:Ti:2.95")[1]) == 2
    assert len(read_crystal("rocksalt:NaCl:5.6")[1]) == 8
