"""What the co-training module's loss is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from nequip.data import AtomicDataDict

from duetto.errors import InputError
from tests.engine.cotrain.training import (
    CUTOFFS,
    TYPES,
    expert_config,
    labelled_frames,
    make_batch,
    make_module,
)
from tests.structures import nequip_results


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> AtomicDataDict.Type:
    """Two bulk frames and a surface with labels, two bulk frames without."""
    return make_batch(labelled_frames(2, 1, seed=3), tmp_path_factory.mktemp("batch"), 2)


def _gradients(module: Any, role: str) -> list[torch.Tensor]:
    return [p.grad.clone() for p in module.model[role].parameters() if p.grad is not None]


def _nequips(role: str, batch: AtomicDataDict.Type) -> list[dict[str, np.ndarray]]:
    """Each frame's energies and forces by nequip's own model on ASE's own pairs."""
    from allegro.model import AllegroModel
    from ase import Atoms

    config = expert_config(role)
    del config["_target_"]
    model = AllegroModel(**config).eval()
    results = []
    for frame in range(int(batch[AtomicDataDict.NUM_NODES_KEY].numel())):
        atoms = batch[AtomicDataDict.BATCH_KEY] == frame
        types = batch[AtomicDataDict.ATOM_TYPE_KEY].view(-1)[atoms]
        structure = Atoms(
            [TYPES[t] for t in types],
            batch[AtomicDataDict.POSITIONS_KEY][atoms].numpy(),
            cell=batch[AtomicDataDict.CELL_KEY][frame].numpy(),
            pbc=True,
        )
        results.append(nequip_results(model, structure, np.full((3, 3), CUTOFFS[role])))
    return results


def test_loss_is_what_the_formula_says(batch: AtomicDataDict.Type) -> None:
    module = make_module(energy_agreement=7.0, force_agreement=0.3).train()
    loss = float(module.training_step(batch, 0))

    hf, lf = _nequips("hf", batch), _nequips("lf", batch)
    counts = batch[AtomicDataDict.NUM_NODES_KEY].tolist()
    labels_energy = batch[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1).numpy()
    labels_forces = np.split(batch[AtomicDataDict.FORCE_KEY].numpy(), np.cumsum(counts)[:-1])
    expected = 0.0
    # Frames 0 and 1 are bulk, 2 the surface, 3 and 4 without labels; HF learns from the first
    # three, LF from the first two. nequip normalises the weights 10 and 1 to a sum of one.
    for found, frames in ((hf, [0, 1, 2]), (lf, [0, 1])):
        errors = [(found[k]["energy"].item() - labels_energy[k]) / counts[k] for k in frames]
        forces = np.concatenate([found[k]["forces"] - labels_forces[k] for k in frames])
        expected += 10 / 11 * np.mean(np.square(errors)) + 1 / 11 * np.mean(forces**2)
    bulk = [0, 1, 3, 4]
    energies = np.concatenate([hf[k]["energies"] - lf[k]["energies"] for k in bulk])
    forces = np.concatenate([hf[k]["forces"] - lf[k]["forces"] for k in bulk])
    expected += 7.0 * np.mean(energies**2) + 0.3 * np.mean((forces**2).sum(axis=1))
    assert loss == pytest.approx(expected, rel=1e-9)


def test_without_agreement_the_experts_do_not_know_each_other(
    batch: AtomicDataDict.Type,
) -> None:
    def hf_gradients(lf_seed: int, energy_agreement: float) -> list[torch.Tensor]:
        module = make_module(
            lf=expert_config("lf", seed=lf_seed),
            energy_agreement=energy_agreement,
            force_agreement=0.0,
        ).train()
        module.training_step(batch, 0).backward()
        return _gradients(module, "hf")

    first, second = hf_gradients(1, 0.0), hf_gradients(2, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    coupled = hf_gradients(1, 5.0)
    assert not any(torch.equal(a, b) for a, b in zip(first, coupled, strict=True))


def test_frozen_expert_is_a_teacher(batch: AtomicDataDict.Type) -> None:
    module = make_module(freeze=["hf"]).train()
    before = {name: value.clone() for name, value in module.model["hf"].state_dict().items()}
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert _gradients(module, "hf") == []
    for name, value in module.model["hf"].state_dict().items():
        assert torch.equal(value, before[name])
    assert not module.hf_seen_pairs.any()  # nobody knows what a given expert was trained on


def test_a_frozen_expert_is_asked_once_per_frame(
    batch: AtomicDataDict.Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module(freeze=["hf"], energy_agreement=1.0).train()
    asked = []
    forward = type(module.model["hf"]).forward

    def counted(model: Any, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        if model is module.model["hf"]:
            asked.append(len(data[AtomicDataDict.NUM_NODES_KEY]))
        return forward(model, data)

    monkeypatch.setattr(type(module.model["hf"]), "forward", counted)
    losses = [float(module.training_step(batch, 0)) for _ in range(2)]
    assert losses[0] == losses[1]
    # Another batch with frames in another order, some of them known; and one atom moved.
    other = make_batch(labelled_frames(2, 1, seed=3)[::-1], tmp_path, 1)
    fresh = make_module(freeze=["hf"], energy_agreement=1.0).train()
    # Sums over a batch in another order, float64.
    assert float(module.training_step(other, 0)) == pytest.approx(
        float(fresh.training_step(other, 0)), rel=1e-10
    )
    assert len(asked) <= 2
    moved = {key: value.clone() for key, value in batch.items()}
    moved[AtomicDataDict.POSITIONS_KEY][0, 0] += 0.1
    n_asked = len(asked)
    assert float(module.training_step(moved, 0)) != losses[0]
    assert len(asked) == n_asked + 1


def test_agreement_rises_during_the_warmup(batch: AtomicDataDict.Type) -> None:
    def first_loss(**changes: Any) -> float:
        return float(make_module(**changes).train().training_step(batch, 0))

    full = first_loss(energy_agreement=8.0)
    none = first_loss(energy_agreement=0.0, force_agreement=0.0)
    quarter = first_loss(energy_agreement=8.0, agreement_warmup_steps=4)
    assert full > none
    assert quarter - none == pytest.approx((full - none) / 4, rel=1e-9)


def test_seen_pairs_are_those_within_the_cutoff(batch: AtomicDataDict.Type) -> None:
    module = make_module().train()
    module.training_step(batch, 0)
    pairs = {
        role: {(TYPES[i], TYPES[j]) for i, j in getattr(module, f"{role}_seen_pairs").nonzero()}
        for role in CUTOFFS
    }
    assert pairs["lf"] == {("Pt", "Pt")}
    # A slab one atom wide has a CO in every cell, 2.8 Å apart.
    assert pairs["hf"] == {(a, b) for a in TYPES for b in TYPES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ["mf"]}, "mf"),
        ({"freeze": ["hf", "lf"]}, "freeze"),
        ({"energy_agreement": -1.0}, "below zero"),
        ({"hf": expert_config("hf", compile_mode="compile")}, "not for compile_mode"),
        ({"lf": expert_config("lf", type_names=["Pt", "O", "C"])}, "same type_names"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    from hydra.errors import InstantiationException

    with pytest.raises((InputError, InstantiationException), match=message):
        make_module(**changes)
