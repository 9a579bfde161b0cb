"""Mixtures with an expert that sees beyond its neighbours: gradients, runs, refusals."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from duetto.cli.main import main
from duetto.errors import InputError
from duetto.experts.base import Expert
from duetto.experts.pair import ExpertPair
from duetto.experts.torch_model import ADAPTERS, Adapter, TorchExpert, open_torch_expert
from duetto.potential.mixture import Potential
from duetto.potential.terms import Term
from tests.engine.experts.lennard_jones import LennardJones
from tests.engine.experts.torch_models.models import MODELS, rod
from tests.engine.experts.torch_models.toy import CrowdedBonds

STEP = 1e-5  # Å


def toy(folder: Path) -> TorchExpert:
    return TorchExpert("toy", "crowded", CrowdedBonds())


def mixture(hf: Any, atoms: Atoms, weights: Any, dtype: str = "float64") -> Potential:
    pair = ExpertPair(hf=hf, lf=LennardJones())
    return Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype=dtype)


def evaluate(potential: Potential, atoms: Atoms) -> Any:
    return potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))


@pytest.mark.parametrize("name", ["toy", "chgnet", "nequip"])
def test_a_mixture_is_a_gradient(name: str, tmp_path: Path) -> None:
    hf = {**MODELS, "toy": toy}[name](tmp_path)
    atoms, rng = rod(3), np.random.default_rng(4)
    weights = np.where(np.arange(12) < 5, [1, 0.5, 0.25] * 4, 0.0)
    potential = mixture(hf, atoms, weights)
    found = evaluate(potential, atoms)
    moves, strain = rng.normal(size=(12, 3)), rng.normal(size=(3, 3))
    moves /= np.linalg.norm(moves)
    energies = []
    for sign in (1, -1):
        moved, strained = atoms.copy(), atoms.copy()
        moved.positions += sign * STEP * moves
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * STEP * strain), scale_atoms=True)
        energies.append([evaluate(potential, a).energy for a in (moved, strained)])
    by_moves, by_strain = (np.array(energies[0]) - energies[1]) / (2 * STEP)
    # Central differences in float64: rounding of some 1e2 eV leaves 1e-9, third derivatives 1e-7;
    # a strain moves atoms by their distances, some 10 Å.
    assert abs(by_moves + (found.forces.numpy() * moves).sum()) < 1e-6
    assert abs(by_strain + (found.virial.numpy() * strain).sum()) < 1e-4
    assert found.forces.sum(0).abs().max() < 1e-10


def test_chgnet_in_float32_is_a_gradient_to_what_float32_resolves(tmp_path: Path) -> None:
    atoms = rod(2)
    rng = np.random.default_rng(5)
    moves = rng.normal(size=(8, 3))
    moves /= np.linalg.norm(moves)
    hf, weights = MODELS["chgnet"](tmp_path), np.array([1, 1, 0.5, 0, 0, 0, 0, 0])
    single, double = (mixture(hf, atoms, weights, dtype) for dtype in ("float32", "float64"))
    forces = evaluate(single, atoms).forces.numpy()
    energies = []
    for k in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions += k * 1e-4 * moves
        energies.append(evaluate(double, moved).energy)
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / 12e-4
    # The energy itself in float32 resolves 1e-6 eV, too little for a difference; the double
    # precision energy is what the single precision forces should be the gradient of.
    assert abs(slope + (forces * moves).sum()) < 1e-5 * max(np.abs(forces).max(), 1.0)


def test_groups_of_terms_are_evaluated_together(tmp_path: Path) -> None:
    atoms, w = rod(4), np.linspace(0, 1, 16)
    potential = mixture(toy(tmp_path), atoms, w)
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    groups = [[Term("hf", w), Term("lf", 1 - w)], [Term("hf", w), Term("lf", -w)]]
    mixed, slow = potential.evaluate_terms(x, cell, groups)
    fast = potential.evaluate_terms(x, cell, [[Term("lf", np.ones(16))]])[0]
    whole = potential.evaluate(x, cell)
    for name in ("forces", "virial", "energies"):
        sum_of_both = getattr(slow, name) + getattr(fast, name)
        assert torch.allclose(getattr(mixed, name), sum_of_both, atol=1e-12), name
        assert torch.allclose(getattr(mixed, name), getattr(whole, name), atol=1e-12), name
    e_hf, e_lf = potential.expert_energies(x, cell)
    mixed_again = torch.tensor(w) * e_hf + torch.tensor(1 - w) * e_lf
    assert torch.allclose(mixed_again, whole.energies, atol=1e-12)


def test_weights_of_one_and_of_zero_are_one_expert_alone(tmp_path: Path) -> None:
    atoms = rod(4)
    hf = toy(tmp_path)
    for weight, alone in ((1.0, ExpertPair(hf, None)), (0.0, ExpertPair(None, LennardJones()))):
        weights = np.full(16, weight)
        both = evaluate(mixture(hf, atoms, weights), atoms)
        single = Potential(alone, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
        assert torch.equal(both.forces, evaluate(single, atoms).forces)


@pytest.fixture
def _toy_in_configurations(monkeypatch: pytest.MonkeyPatch) -> None:
    home = f"{CrowdedBonds.__module__}:CrowdedBonds"
    monkeypatch.setitem(ADAPTERS, "mace", Adapter(home, "torch", "", True))


def write_run(folder: Path, **changes: Any) -> Path:
    from tests.engine.experts.eam.tables import write_setfl

    write_setfl(folder, "eam/alloy", 1)
    (folder / "toy.model").write_text("weights")
    atoms = bulk("Pt", "fcc", a=3.5, cubic=True).repeat((2, 2, 8))
    write(folder / "start.extxyz", atoms)
    config = {
        "structure": "start.extxyz",
        "experts": {"hf": {"torch": "mace", "file": "toy.model"}, "lf": {"eam": "toy.eam.alloy"}},
        "regions": {"complex": {"slab": {"axis": "z", "max": 2.0}}, "blend": {"width": 3.0}},
        "dtype": "float64",
        "timestep_fs": 2.0,
        "initial_temperature_K": 300,
        "stages": [{"ensemble": "nve", "steps": 60}],
        "output": {"dir": "whole", "thermo_every": 5},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config | changes))
    return folder / "run.yaml"


@pytest.mark.usefixtures("_toy_in_configurations")
def test_a_run_says_its_cost_conserves_energy_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_run(tmp_path))
    assert main(["run", path]) == 0
    out = capsys.readouterr().out
    said = re.search(
        r"expert hf, mace toy.model: its (\d+) centres and all within 8 Å of them are (\d+) of 128 "
        r"atoms, in 1 chunk; [\d.]+ s a step, about \d+ seconds for 60 steps",
        out,
    )
    assert said is not None, out
    assert 16 <= int(said[1]) < int(said[2]) < 128
    half = ["output.dir=half", "stages.0.steps=30"]
    assert main(["run", path, *half]) == 0
    assert main(["run", path, "output.dir=half", "--resume"]) == 0
    whole, again = ((tmp_path / name / "thermo.csv").read_text() for name in ("whole", "half"))
    assert whole == again
    rows = list(csv.DictReader(whole.splitlines()))
    conserved = np.array([float(row["conserved_eV"]) for row in rows])
    kinetic = np.array([float(row["kinetic_energy_eV"]) for row in rows])
    # Velocity Verlet's own error of the energy is of the order (ω h)² of what moves back and forth.
    assert np.ptp(conserved) < 0.02 * np.ptp(kinetic)


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"hf": {"torch": "chgnt"}}, 'did you mean "chgnet"'),
        ({"hf": {"ase": "emt"}}, "experts: ase: an ASE calculator gives one energy of all"),
        ({"hf": {"torch": "ase.calculators.emt:EMT"}}, "an ASE calculator gives one energy of all"),
        ({"hf": {"torch": "mace"}}, "torch mace needs the model's file"),
        ({"hf": {"torch": "chgnet", "file": "x"}}, "chgnet has its weights in its package"),
        ({"hf": {"torch": "chgnet", "version": "9"}}, "chgnet has no version '9'"),
        ({"hf": {"torch": "chgnet", "eam": "x.eam.fs"}}, "name one of torch and eam"),
        ({"hf": {}}, "name one of torch and eam"),
        ({"hf": {"eam": "absent.eam.fs"}}, "absent.eam.fs: no such file"),
        ({"lf": {"torch": "nequip", "file": "."}}, "is a folder; name the file of an expert in it"),
        ({}, "pair: missing; it is required, unless experts names them"),
    ],
)
def test_bad_experts_are_told_in_one_line(
    experts: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "version" in str(experts):
        pytest.importorskip("chgnet", reason="needs chgnet: pip install duetto[chgnet]")
    if "nequip" in str(experts):
        pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")
    assert main(["run", str(write_run(tmp_path, experts=experts))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "whole").exists()


def test_an_ase_calculator_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="hf: EMT: an ASE calculator gives one energy of"):
        ExpertPair(hf=EMT(), lf=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="an ASE calculator gives one energy of all atoms"):
        open_torch_expert("ase.calculators.emt:EMT")


def test_a_pair_file_names_the_model_and_knows_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = f"{CrowdedBonds.__module__}:CrowdedBonds"
    monkeypatch.setitem(ADAPTERS, "mace", Adapter(home, "torch", "", True))
    (tmp_path / "toy.model").write_text("weights")
    hf = open_torch_expert("mace", str(tmp_path / "toy.model"))
    assert isinstance(hf, Expert)
    ExpertPair(hf, None).save(tmp_path / "pair.duetto")
    assert ExpertPair.load(tmp_path / "pair.duetto").hf.to_json() == hf.to_json()
    monkeypatch.setattr(CrowdedBonds, "describe", lambda self: {"strength": 0.6})
    with pytest.raises(InputError, match="the weights are not those that the pair was made with"):
        ExpertPair.load(tmp_path / "pair.duetto")
    (tmp_path / "toy.model").unlink()
    with pytest.raises(InputError, match="no such file"):
        ExpertPair.load(tmp_path / "pair.duetto")
