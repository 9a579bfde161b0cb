"""Training in the folded form against nequip's own evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from nequip.data import AtomicDataDict

from duetto.cotrain import FoldedAllegroModel, fold_model
from duetto.cotrain.train import train
from duetto.errors import InputError
from tests.architectures import build
from tests.engine.cotrain.training import (
    CONFIG,
    JOINT,
    expert_config,
    labelled_frames,
    logged,
    make_batch,
    overrides,
)

NAMES = [
    "l1_one_layer",
    "l2_parity",
    "uncoupled_paths",
    "trainable_bessel",
    "spline",
    "deep_mlps",
    "linear_mlps",
    "per_type",
    "zbl",
]
SETTINGS = ("dtype=float64", *JOINT[1:], "energy_agreement=5.0")
RELATIVE = 1e-9
"""Float64 on both sides and derivatives of derivatives in between: rounding is some 1e-13."""


def _loss(output: AtomicDataDict.Type, batch: AtomicDataDict.Type) -> torch.Tensor:
    """Energies, forces and stress, so that a gradient passes through second derivatives."""
    targets = {AtomicDataDict.FORCE_KEY: batch[AtomicDataDict.FORCE_KEY].nan_to_num()}
    forces = (output[AtomicDataDict.FORCE_KEY] - targets[AtomicDataDict.FORCE_KEY]).square()
    energies = output[AtomicDataDict.PER_ATOM_ENERGY_KEY].square()
    stress = output[AtomicDataDict.STRESS_KEY].square()
    return forces.mean() + energies.mean() + 100 * stress.mean()


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> AtomicDataDict.Type:
    return make_batch(labelled_frames(1, 2, seed=3), tmp_path_factory.mktemp("batch"))


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_equal_nequips(name: str, batch: AtomicDataDict.Type) -> None:
    stock, folded = build(name).train(), fold_model(build(name).train())
    assert list(folded.state_dict()) == list(stock.state_dict())
    losses = {}
    for key, model in (("stock", stock), ("folded", folded)):
        losses[key] = _loss(model(batch.copy()), batch)
        losses[key].backward()
    torch.testing.assert_close(losses["folded"], losses["stock"], rtol=RELATIVE, atol=0)
    expected = dict(stock.named_parameters())
    scale = max(float(p.grad.abs().max()) for p in expected.values() if p.grad is not None)
    assert scale > 0
    for parameter_name, parameter in folded.named_parameters():
        gradient = expected[parameter_name].grad
        if gradient is None:
            assert parameter.grad is None or not parameter.grad.any()
            continue
        difference = float((parameter.grad - gradient).abs().max())
        assert difference < RELATIVE * max(float(gradient.abs().max()), 1e-3 * scale)


def test_state_dicts_go_to_and_fro(batch: AtomicDataDict.Type) -> None:
    stock = build("l2_parity", seed=1)
    folded = fold_model(build("l2_parity", seed=2))
    folded.load_state_dict(stock.state_dict())
    back = build("l2_parity", seed=3)
    back.load_state_dict(folded.state_dict())
    energies = [m(batch.copy())[AtomicDataDict.PER_ATOM_ENERGY_KEY] for m in (stock, folded, back)]
    torch.testing.assert_close(energies[1], energies[0], rtol=RELATIVE, atol=RELATIVE)
    assert torch.equal(energies[2], energies[0])


def test_builder_takes_allegros_arguments() -> None:
    def made(folded: bool) -> Any:
        config = expert_config("hf", folded=folded)
        del config["_target_"]
        from allegro.model import AllegroModel

        return (FoldedAllegroModel if folded else AllegroModel)(**config)

    ours, theirs = made(True), made(False)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="not a nequip Allegro model"):
        fold_model(torch.nn.Linear(2, 2))


def test_same_loss_curve_for_fifty_steps(data: Path, tmp_path: Path) -> None:
    # SOAP's eigenbases are float32 in any precision: a last bit of theirs would be 1e-7 of a step.
    optimizer = "training_module.optimizer._target_=torch.optim.Adam"
    curves = {}
    for target in ("duetto.cotrain.FoldedAllegroModel", "allegro.model.AllegroModel"):
        output = tmp_path / target
        builders = [f"training_module.model.{role}._target_={target}" for role in ("hf", "lf")]
        train(CONFIG, overrides(data, output, *builders, *SETTINGS, optimizer, "epochs=13"))
        curves[target] = np.array(logged(output, "train_loss_step/weighted_sum"))[:50]
        errors = logged(output, "val0_epoch/hf_forces_rmse")
        assert errors[-1] < errors[0]  # there is something to compare
    folded, stock = curves.values()
    assert len(folded) == 50
    np.testing.assert_allclose(folded, stock, rtol=1e-8)
