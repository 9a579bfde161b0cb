"""Training HF as a correction Δ to LF, trained beside it or given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import read, write

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from nequip.data import AtomicDataDict

from duetto.atoms.labels import LabelKeys
from duetto.cli.main import main
from duetto.conversion.pack import pack
from duetto.cotrain.draft import Files, draft
from duetto.cotrain.labelled import Purposes, labelled_frames
from duetto.cotrain.remainder import beyond_lf
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from tests.engine.cotrain.test_draft import nickel
from tests.engine.cotrain.test_module import _nequips
from tests.engine.cotrain.training import (
    labelled_frames as emt_frames,
)
from tests.engine.cotrain.training import logged, make_batch, make_module, save_checkpoint
from tests.pairs import low_fidelity


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> AtomicDataDict.Type:
    """Two bulk frames and a surface with labels, two bulk frames without."""
    return make_batch(emt_frames(2, 1, seed=3), tmp_path_factory.mktemp("batch"), 2)


def data_loss(found: list[Any], batch: AtomicDataDict.Type, frames: list[int]) -> float:
    counts = batch[AtomicDataDict.NUM_NODES_KEY].tolist()
    energy = batch[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1).numpy()
    forces = np.split(batch[AtomicDataDict.FORCE_KEY].numpy(), np.cumsum(counts)[:-1])
    of_energy = [(found[k]["energy"].item() - energy[k]) / counts[k] for k in frames]
    of_forces = np.concatenate([found[k]["forces"] - forces[k] for k in frames])
    return float(10 / 11 * np.mean(np.square(of_energy)) + 1 / 11 * np.mean(of_forces**2))


def agreement(found: list[Any], frames: list[int]) -> float:
    energies = np.concatenate([found[k]["energies"] for k in frames])
    forces = np.concatenate([found[k]["forces"] for k in frames])
    return float(7.0 * np.mean(energies**2) + 0.3 * np.mean((forces**2).sum(axis=1)))


def test_loss_is_that_of_lf_and_delta_together(batch: AtomicDataDict.Type) -> None:
    """By nequip's own models of the two experts, in float64."""
    module = make_module(hf_form="correction").train()
    loss = float(module.training_step(batch, 0).detach())
    delta, lf = _nequips("hf", batch), _nequips("lf", batch)
    whole = [{key: d[key] + o[key] for key in d} for d, o in zip(delta, lf, strict=True)]
    # HF learns from frames 0 to 2, LF from 0 and 1; bulk is 0, 1, 3 and 4.
    expected = data_loss(whole, batch, [0, 1, 2]) + data_loss(lf, batch, [0, 1])
    expected += agreement(delta, [0, 1, 3, 4])
    assert loss == pytest.approx(expected, rel=1e-9)
    outputs = module(batch)
    energies = outputs["hf"][AtomicDataDict.TOTAL_ENERGY_KEY].view(-1).detach()
    np.testing.assert_allclose(energies, [w["energy"].item() for w in whole], rtol=1e-9)


def test_a_correction_alone_is_asked_to_be_small_in_bulk(batch: AtomicDataDict.Type) -> None:
    """Its labels are those less LF's; here they are as they are."""
    model = {"_target_": "duetto.cotrain.ExpertModels", "hf": _hf()}
    module = make_module(model=model, hf_form="correction").train()
    delta = _nequips("hf", batch)
    expected = data_loss(delta, batch, [0, 1, 2]) + agreement(delta, [0, 1, 3, 4])
    assert float(module.training_step(batch, 0)) == pytest.approx(expected, rel=1e-9)


def _hf() -> dict[str, Any]:
    from tests.engine.cotrain.training import expert_config

    return expert_config("hf")


def test_a_frozen_lf_is_corrected_and_stays(batch: AtomicDataDict.Type) -> None:
    module = make_module(hf_form="correction", freeze=["lf"]).train()
    loss = module.training_step(batch, 0)
    delta, lf = _nequips("hf", batch), _nequips("lf", batch)
    whole = [{key: d[key] + o[key] for key in d} for d, o in zip(delta, lf, strict=True)]
    expected = data_loss(whole, batch, [0, 1, 2]) + agreement(delta, [0, 1, 3, 4])
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    loss.backward()
    assert all(p.grad is None for p in module.model["lf"].parameters())
    assert any(p.grad is not None for p in module.model["hf"].parameters())


def test_the_packed_pair_is_what_was_trained(batch: AtomicDataDict.Type, tmp_path: Path) -> None:
    module = make_module(hf_form="correction", ema_decay=0.5).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    for _ in range(60):  # half of what is left each time: the average is the weights themselves
        module.ema.update_parameters(module.model)
    checkpoint = save_checkpoint(module, tmp_path / "delta.ckpt")
    target = tmp_path / "delta.duetto"
    assert main(["pack", str(checkpoint), "-o", str(target)]) == 0
    pair = ExpertPair.load(target)
    assert pair.correction
    frames = emt_frames(1, 1, seed=8)
    expected = module(make_batch(frames, tmp_path, 0))["hf"]
    frames = read(tmp_path / "frames.extxyz", index=":")  # positions as the file has them
    energies = expected[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1).tolist()
    forces = expected[AtomicDataDict.FORCE_KEY].detach().split([len(atoms) for atoms in frames])
    for atoms, energy, force in zip(frames, energies, forces, strict=True):
        w = np.ones(len(atoms))
        potential = Potential(pair, list(atoms.symbols), w, atoms.pbc, dtype="float64")
        found = potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
        # Float64 there and here, sums in another order.
        assert found.energy == pytest.approx(energy, rel=1e-10)
        assert float((found.forces - force).abs().max()) < 1e-9 * float(force.abs().max())


def test_labels_less_lf(tmp_path: Path) -> None:
    """Against LF's own evaluation of energy and virial by finite differences of the energy."""
    frames = emt_frames(2, 1, seed=4)
    for frame in frames:
        frame.calc.results["stress"] = np.zeros(6)
    write(tmp_path / "frames.extxyz", frames)
    lf = low_fidelity()
    ExpertPair(None, lf).save(tmp_path / "lf.duetto")
    path, keys = str(tmp_path / "frames.extxyz"), LabelKeys.from_dict(None)
    labelled = labelled_frames(path, Purposes({"hf": "all"}), keys, stress=True)
    less, known = beyond_lf(labelled, str(tmp_path / "lf.duetto"))
    assert known == ExpertPair(None, lf).content_hash

    def energy(atoms: Any) -> float:
        potential = Potential(
            ExpertPair(None, lf),
            list(atoms.symbols),
            np.zeros(len(atoms)),
            atoms.pbc,
            dtype="float64",
            backend="reference",
        )
        at = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
        return potential.evaluate(*at).energy

    for one, other in zip(labelled, less, strict=True):
        assert one.labels.energy - other.labels.energy == pytest.approx(energy(one.atoms), abs=1e-9)
        step = 1e-5
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = one.atoms.copy()
                moved.positions[0, axis] += sign * step
                ends.append(energy(moved))
            force = one.labels.forces[0, axis] - other.labels.forces[0, axis]
            assert force == pytest.approx(-(ends[0] - ends[1]) / (2 * step), abs=1e-6)
        strained = []
        for sign in (1, -1):
            atoms = one.atoms.copy()
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * np.diag([0, 1, 0])), True)
            strained.append(energy(atoms))
        stress = (strained[0] - strained[1]) / (2 * step) / one.atoms.get_volume()
        mine = one.labels.stress[1, 1] - other.labels.stress[1, 1]
        assert mine == pytest.approx(stress, abs=1e-7)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny training of a correction to a given LF."""
    folder = tmp_path_factory.mktemp("given")
    write(folder / "bulk.extxyz", nickel(10, False, 1))
    write(folder / "hydrogen.extxyz", nickel(10, True, 2))
    draft(["Ni", "H"], Files((folder / "bulk.extxyz", folder / "hydrogen.extxyz")), folder)
    ExpertPair(None, low_fidelity(type_names=("Ni", "H"))).save(folder / "lf.duetto")
    changes = [
        "epochs=2",
        "hf={cutoff: 3.0, l_max: 1, layers: 1, scalars: 8, tensors: 4}",
        "lf={pair: lf.duetto}",
        "hf_form=correction",
        "output=delta",
    ]
    assert main(["train", str(folder / "cotrain.yaml"), *changes]) == 0
    return folder


def test_a_correction_to_a_given_lf(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ExpertPair.load(given / "delta" / "pair.duetto")
    assert pair.correction
    lf = ExpertPair.load(given / "lf.duetto")
    assert ExpertPair(None, pair.lf).content_hash == lf.content_hash
    # What the training says of held-out frames is what the pair says of their labels.
    errors = logged(given / "delta", "val0_epoch/hf_forces_rmse")
    assert len(errors) == 2
    assert logged(given / "delta", "val0_epoch/agreement_forces_rmse")
    checkpoint = str(given / "delta" / "best.ckpt")
    with pytest.raises(InputError, match="an LF that the file does not hold"):
        pack([checkpoint])
    ExpertPair(None, low_fidelity(9, type_names=("Ni", "H"))).save(given / "other.duetto")
    other = ["--hf", checkpoint, "--lf", str(given / "other.duetto")]
    assert main(["pack", *other, "-o", str(given / "wrong.duetto")]) == 2
    assert "as a correction to another LF" in capsys.readouterr().err
    assert main(["pack", "--lf", checkpoint, "-o", str(given / "wrong.duetto")]) == 2
    whole = ["distil", str(given / "delta" / "pair.duetto"), "-o", str(given / "wrong.duetto")]
    assert main(whole) == 2
    assert "correction to its LF" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["lf={pair: lf.duetto}"], "lf.pair: an LF that is given needs hf_form: correction"),
        (["hf_form=correction", "lf=linear"], "hf_form: a correction needs its LF before it"),
        (["hf_form=halved"], "hf_form"),
        (["hf_form=correction", "lf={pair: none.duetto}"], "none.duetto"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: list[str], message: str, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(given / "cotrain.yaml"), "output=refused", *changes]) == 2
    assert message in capsys.readouterr().err
