"""A configuration sized to a user's files: what is found, what is written, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from duetto.atoms.labels import LabelKeys
from duetto.cli.main import main
from duetto.cotrain.config import load_train_config
from duetto.cotrain.draft import Files, draft
from duetto.cotrain.expansion import data_section, nequip_configuration
from duetto.cotrain.look import look_at
from duetto.cotrain.sizing import sizes
from duetto.cotrain.survey import shell_gaps
from duetto.errors import InputError
from duetto.run.config import load_config


def nickel(number: int, hydrogen: bool, seed: int, kind: str | None = None) -> list[Atoms]:
    """Rattled cells of four nickel atoms, some with hydrogen, with EMT's labels."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        atoms = bulk("Ni", a=3.49, cubic=True)
        if hydrogen:
            atoms += Atoms("H", [(1.75, 0, 0)])
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        if kind is not None:
            atoms.info["config_type"] = kind
        frames.append(atoms)
    return frames


@pytest.fixture
def files(tmp_path: Path) -> Files:
    write(tmp_path / "pure.extxyz", nickel(20, False, 1))
    write(tmp_path / "hydrogen.extxyz", nickel(30, True, 2))
    return Files((tmp_path / "pure.extxyz", tmp_path / "hydrogen.extxyz"))


def test_what_is_written_is_what_the_files_hold(files: Files, tmp_path: Path) -> None:
    done = draft(["Ni", "H"], files, tmp_path / "here")
    config = load_train_config(tmp_path / "here" / "cotrain.yaml")
    assert config.species == ["Ni", "H"]
    assert config.fits.lf == config.agreement.frames == ["pure"]
    assert config.data.test == []
    # fcc of 3.49 Å has its shells at 2.47, 3.49, 4.27, 4.94 and 5.52 Å.
    assert 3.49 < config.lf.cutoff < 4.27
    assert 4.94 < config.hf.cutoff < 5.52
    assert [(c.name, c.labelled, dict(c.fits)) for c in done.counts] == [
        ("training", 45, {"hf": 45, "lf": 18}),
        ("validation", 5, {"hf": 5, "lf": 2}),
    ]
    run = load_config(tmp_path / "here" / "run.yaml")
    assert run.structure.file.samefile(tmp_path / "hydrogen.extxyz")
    assert run.timestep_fs == 0.5
    assert run.regions.to_dict()["complex"]["within"]["of"] == {"species": ["H"]}
    text = (tmp_path / "here" / "cotrain.yaml").read_text()
    assert len(text.splitlines()) < 45


def test_names_of_labels_are_found(tmp_path: Path) -> None:
    frames = [*nickel(12, False, 1, "clean"), *nickel(12, True, 2, "dirty")]
    for atoms in frames:
        results = atoms.calc.results
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = results["energy"], results["forces"]
        atoms.calc = None
    write(tmp_path / "mace.xyz", frames, format="extxyz")
    test = tmp_path / "test.xyz"
    write(test, frames[-2:], format="extxyz")
    done = draft(["Ni", "H"], Files((tmp_path / "mace.xyz",), test=(test,)), tmp_path)
    assert done.survey.keys == LabelKeys(energy="REF_energy", forces="REF_forces")
    config = load_train_config(tmp_path / "cotrain.yaml")
    assert config.data.keys == {"energy": "REF_energy", "forces": "REF_forces"}
    assert config.fits.lf == ["clean"]
    # The test file has no bulk, which a file of one kind need not have.
    assert done.counts[-1].fits == {"hf": 2, "lf": 0}
    expanded = nequip_configuration(config, 10)
    assert expanded["run"] == ["train", "test"]
    frames[0].info["other_energy"] = 0.0
    write(tmp_path / "mace.xyz", frames, format="extxyz")
    with pytest.raises(InputError, match=r"which is its energy\? it could be REF_energy, other"):
        draft(["Ni", "H"], Files((tmp_path / "mace.xyz",)), tmp_path / "b")


def test_energies_per_atom_are_noticed(tmp_path: Path) -> None:
    def file(divisor: bool) -> Path:
        frames = nickel(10, False, 1)
        big = nickel(10, False, 2)
        for atoms in big:
            results = dict(atoms.calc.results)
            atoms *= (2, 1, 1)
            forces = np.tile(results["forces"], (2, 1))
            atoms.calc = SinglePointCalculator(atoms, energy=2 * results["energy"], forces=forces)
        for atoms in [*frames, *big]:
            # EMT's zero is the crystal: put it where a code has it.
            atoms.calc.results["energy"] -= 4.4 * len(atoms)
            if divisor:
                atoms.calc.results["energy"] /= len(atoms)
        path = tmp_path / f"frames{divisor}.extxyz"
        write(path, [*frames, *big])
        return path

    assert draft(["Ni"], Files((file(False),)), tmp_path / "a").survey.warnings == ()
    (warning,) = draft(["Ni"], Files((file(True),)), tmp_path / "b").survey.warnings
    assert "energies per atom" in warning


def test_shells_are_parted_where_there_are_no_atoms() -> None:
    # Shells of bcc iron: 2.485, 2.870, 4.059, 4.759, 4.970, 5.740 Å.
    gaps = shell_gaps(bulk("Fe", a=2.870, cubic=True))
    for low, high in ((2.87, 4.06), (4.06, 4.76), (4.97, 5.74)):
        assert any(low < gap < high for gap in gaps)
    chosen = sizes(100, gaps)
    assert 4.06 < chosen.lf_cutoff < 4.76
    assert 4.97 < chosen.hf_cutoff < 5.74


def test_sizes_follow_the_number_of_frames() -> None:
    few, many = sizes(50, []), sizes(1167, [])
    assert (few.lf_cutoff, few.hf_cutoff) == (4.0, 5.2)
    for size, frames, steps in ((few, 50, 4000), (many, 1167, 29175)):
        assert size.epochs * frames / size.batch_size == pytest.approx(steps, rel=0.01)
        assert size.warmup_epochs == pytest.approx(0.2 * size.epochs, abs=0.5)
    assert few.hf_features < many.hf_features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochss=3", r'unknown key \'epochss\' \(did you mean "epochs"\?\)'),
        ("hf.cutoff=-1", "hf.cutoff: got -1"),
        ("lf.cutoff=9", "lf.cutoff: got 9 Å, beyond hf.cutoff"),
        ("species=[Ni, Hx]", "species.*'Hx' is none"),
        ("data.keys={energie: E}", r'data.keys: unknown quantity .*did you mean "energy"'),
        ("data.test=nowhere.xyz", "nowhere.xyz: no such file of frames"),
        ("fits.lf=[pur]", "lf: no config_type fits 'pur'; there are: hydrogen, pure"),
        ("data.stress=true", "no stress under 'stress'"),
        ("data.validation=0.7", "data.validation"),
        ("data.validation=0.001", "validation: no frame is held out"),
        ("species=[Ni]", r"frame 0 \(.*\): atom 4 is H, which is not among the species Ni"),
    ],
)
def test_bad_configurations_are_refused(
    change: str, message: str, files: Files, tmp_path: Path
) -> None:
    draft(["Ni", "H"], files, tmp_path)
    with pytest.raises(InputError, match=message):
        look_at(data_section(load_train_config(tmp_path / "cotrain.yaml", [change])))


def test_files_that_cannot_be_used_are_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--species: C is in no frame"):
        draft(["Ni", "H", "C"], files, tmp_path)
    with pytest.raises(InputError, match="no such file of frames"):
        draft(["Ni"], Files((tmp_path / "none.xyz",)), tmp_path)
    write(tmp_path / "open.extxyz", Atoms("H"))
    with pytest.raises(InputError, match=r"open.extxyz, frame 0 \(H\): which is its energy"):
        draft(["H"], Files((tmp_path / "open.extxyz",)), tmp_path)
    assert not (tmp_path / "cotrain.yaml").exists()
    draft(["Ni", "H"], files, tmp_path)
    with pytest.raises(InputError, match="exists; replace it with --overwrite"):
        draft(["Ni", "H"], files, tmp_path)


def test_refusals_import_neither_torch_nor_nequip(files: Files, tmp_path: Path) -> None:
    draft(["Ni", "H"], files, tmp_path)
    path = str(tmp_path / "cotrain.yaml")
    code = (
        "import sys\n"
        "from duetto.cli.main import main\n"
        f"assert main(['train', {path!r}, 'data.test=nowhere.xyz']) == 2\n"
        "assert main(['init', '--species', 'Xx', '--labelled', 'nowhere.xyz']) == 2\n"
        "assert not {'torch', 'nequip', 'lightning'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nowhere.xyz: no such file of frames" in done.stderr


def test_the_command_tells_what_it_found(files: Files, tmp_path: Path, capsys) -> None:
    arguments = ["init", "--species", "Ni", "H", "--labelled", *map(str, files.labelled)]
    assert main([*arguments, "-o", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "pure: 20 frames of Ni, bulk" in said
    assert "training: 45 labelled frames (45 for hf, 18 for lf)" in said
    assert main([*arguments, "-o", str(tmp_path / "b"), "--keys", "energy"]) == 2
    assert "write it as energy=REF_energy" in capsys.readouterr().err


def test_an_expert_of_another_make_replaces_the_one_that_was_expanded() -> None:
    """Arguments of a new network are none of an expert's that comes from a file."""
    model = {"lf": {"_target_": "duetto.cotrain.ModelFromPair", "pair": "a.duetto", "role": "lf"}}
    given = {"training_module": {"freeze": ["hf"], "model": {**model, "hf": {"l_max": 3}}}}
    frames = Path(__file__).parents[3] / "examples" / "nih" / "cotrain.yaml"
    config = load_train_config(frames).model_copy(update={"nequip": given})
    module = nequip_configuration(config, 10)["training_module"]
    assert module["model"]["lf"] == model["lf"]
    assert module["model"]["hf"]["l_max"] == 3
    assert module["model"]["hf"]["num_scalar_features"] == 16
    assert module["freeze"] == ["hf"]
    assert "optimizer" in module
