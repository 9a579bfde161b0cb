"""Models of other packages as experts: exact in a region, exact gradients, equal to the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.errors import InputError
from duetto.experts import torch_model
from duetto.experts.torch_model import TorchExpert, open_torch_expert
from tests.engine.experts.torch_models.models import (
    MODELS,
    metatomic,
    nequip_adapter,
    nequip_module,
    rod,
    surroundings,
)

STEP = 1e-5  # Å; third derivatives of some 1e3 eV/Å³ leave 1e-7, rounding of the energy 1e-8
GRADIENT = 1e-6  # eV/Å


@pytest.fixture(scope="module", params=MODELS)
def expert(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchExpert:
    made = MODELS[request.param](tmp_path_factory.mktemp(request.param))
    return made.to("cpu", torch.float64)


def long_rod(expert: TorchExpert) -> Atoms:
    """Longer than twice the receptive field, with two atoms that computing one end leaves out."""
    return rod(int(2 * expert.receptive_field / 3.97) + 4)


def weighted(expert: TorchExpert, atoms: Atoms, centres: Any, c: Any) -> tuple[Any, Any, Any]:
    found = expert.region_energies(surroundings(expert, atoms), centres, c)
    return c @ found.energies.numpy(), found.forces.numpy(), found.virials.numpy()


def test_a_region_has_the_energies_of_the_whole(expert: TorchExpert) -> None:
    atoms = long_rod(expert)
    s, everyone = surroundings(expert, atoms), np.arange(len(atoms))
    centres = np.array([0, 1, 2, 5])
    share = expert.share_of(s, centres)
    assert share["atoms"] < len(atoms)
    assert share["chunks"] == 1
    whole = expert.region_energies(s, everyone, np.ones((1, len(atoms)))).energies
    region = expert.region_energies(s, centres, np.ones((1, 4))).energies
    assert (region - whole[centres]).abs().max() < 1e-12 * whole.abs().max()


def test_forces_and_virials_of_sums_are_their_gradients(expert: TorchExpert) -> None:
    rng = np.random.default_rng(1)
    atoms = rod(4)
    centres, c = np.array([0, 3, 4, 9]), rng.uniform(size=(2, 4))
    _, forces, virials = weighted(expert, atoms, centres, c)
    assert np.abs(forces.sum(axis=1)).max() < 1e-10
    moves, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
    moves /= np.linalg.norm(moves)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * STEP * moves
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * STEP * strain), scale_atoms=True)
        energies.append([weighted(expert, a, centres, c)[0] for a in (moved, strained)])
    by_moves, by_strain = (np.array(energies[0]) - np.array(energies[1])) / (2 * STEP)
    assert np.abs(by_moves + (forces * moves).sum(axis=(1, 2))).max() < GRADIENT
    of_strain = -(virials * strain).sum(axis=(1, 2))
    # A strain moves atoms by their distances, some 10 Å, and so are energies and errors larger.
    assert np.abs(by_strain - of_strain).max() < 100 * GRADIENT


def test_chunks_change_nothing(expert: TorchExpert, monkeypatch: pytest.MonkeyPatch) -> None:
    if expert.name == "chgnet":
        pytest.skip("its receptive field is wider than a structure for a test")
    atoms = rod(14)
    s, centres = surroundings(expert, atoms), np.arange(40)
    c = np.random.default_rng(2).uniform(size=(1, 40))
    whole = expert.region_energies(s, centres, c)
    monkeypatch.setattr(torch_model, "_LARGEST_CHUNK", 30)
    s = surroundings(expert, atoms)
    assert expert.share_of(s, centres)["chunks"] > 1
    parts = expert.region_energies(s, centres, c)
    assert (parts.energies - whole.energies).abs().max() < 1e-12
    assert (parts.forces - whole.forces).abs().max() < 1e-12
    assert (parts.virials - whole.virials).abs().max() < 1e-11


def test_atoms_without_neighbors_have_an_energy_and_no_force(expert: TorchExpert) -> None:
    cell = np.eye(3) * 30.0
    atoms = Atoms("PtCO", [[0, 0, 0], [15, 15, 15], [15, 15, 16.2]], cell=cell, pbc=True)
    s, one = surroundings(expert, atoms), np.ones((1, 1))
    alone = expert.region_energies(s, np.array([0]), one)
    assert torch.isfinite(alone.energies).all()
    assert not alone.forces.any()
    assert not alone.virials.any()
    beside = expert.region_energies(s, np.arange(3), np.ones((1, 3)))
    assert float(beside.energies[0]) == pytest.approx(float(alone.energies[0]), abs=1e-12)
    assert not beside.forces[0, 0].any()


def test_chgnet_is_chgnet(tmp_path: Path) -> None:
    pytest.importorskip("chgnet", reason="needs chgnet: pip install duetto[chgnet]")
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    from duetto.experts.adapters.chgnet import as_packaged

    atoms = rod(3)
    with as_packaged():
        theirs = CHGNet.load(use_device="cpu", verbose=False).predict_structure(
            AseAtomsAdaptor.get_structure(atoms), return_site_energies=True
        )
    expert = open_torch_expert("chgnet")
    ours = expert.region_energies(
        surroundings(expert, atoms), np.arange(len(atoms)), np.ones((1, len(atoms)))
    )
    # CHGNet rounds positions in a cell of 12 Å to float32, 1e-6 Å; the stiffest bonds have some
    # 100 eV/Å².
    assert np.abs(ours.energies.numpy() - theirs["site_energies"]).max() < 1e-4
    assert np.abs(ours.forces[0].numpy() - theirs["f"]).max() < 3e-4
    stress = -ours.virials[0].numpy() / atoms.get_volume() * 160.21766208
    assert np.abs(stress - theirs["s"]).max() < 1e-3 * np.abs(theirs["s"]).max()


def test_nequip_is_nequip() -> None:
    pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")
    from tests.structures import nequip_results

    module, atoms = nequip_module(), rod(3)
    theirs = nequip_results(module, atoms, np.full((3, 3), 3.5))
    expert = TorchExpert("nequip", "random", nequip_adapter(module))
    ours = expert.region_energies(
        surroundings(expert, atoms), np.arange(len(atoms)), np.ones((1, len(atoms)))
    )
    assert np.abs(ours.energies.numpy() - theirs["energies"]).max() < 1e-12
    assert np.abs(ours.forces[0].numpy() - theirs["forces"]).max() < 1e-12
    stress = -ours.virials[0].numpy() / atoms.get_volume()
    assert np.abs(stress - theirs["stress"]).max() < 1e-12


def test_mace_is_mace(tmp_path: Path) -> None:
    made = MODELS["mace"](tmp_path)
    from mace.calculators import MACECalculator

    atoms = rod(3)
    ours = made.region_energies(
        surroundings(made, atoms), np.arange(len(atoms)), np.ones((1, len(atoms)))
    )
    atoms.calc = MACECalculator(model_paths=made.source, device="cpu", default_dtype="float64")
    assert abs(atoms.get_potential_energy() - float(ours.energies.sum())) < 1e-10
    assert np.abs(atoms.get_forces() - ours.forces[0].numpy()).max() < 1e-10


def test_an_allegro_model_is_packed_instead() -> None:
    pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")
    from tests.architectures import build

    with pytest.raises(InputError, match="duetto pack"):
        nequip_adapter(build("l1_one_layer"))


def test_a_model_without_energies_of_atoms_is_refused(tmp_path: Path) -> None:
    metatomic(tmp_path)
    from tests.engine.experts.torch_models.metatomic_model import write_model

    path = write_model(tmp_path / "system.pt", sample_kind="system")
    with pytest.raises(InputError, match="needs the energy of every atom"):
        open_torch_expert("metatomic", path)


def test_bad_names_and_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match='did you mean "chgnet"'):
        open_torch_expert("CHGnet2")
    monkeypatch.setattr(torch_model, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"which is not installed: pip install 'duetto\[mace\]'"):
        open_torch_expert("mace", "any.model")
    monkeypatch.setattr(torch_model, "find_spec", lambda name: name)
    with pytest.raises(InputError, match="needs the model's file"):
        open_torch_expert("mace")
    with pytest.raises(InputError, match="is a folder"):
        open_torch_expert("mace", str(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        open_torch_expert("nequip", str(tmp_path / "absent.ckpt"))
