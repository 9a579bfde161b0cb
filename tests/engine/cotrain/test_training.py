"""Trainings from the shipped configuration, in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from duetto.conversion.expert import nequip_models
from duetto.cotrain.train import Interrupted, train
from duetto.errors import InputError
from tests.engine.cotrain.training import CONFIG, JOINT, logged, overrides

LOSS = "train_loss_step/weighted_sum"


def test_experts_come_to_agree(joint: Path, data: Path, tmp_path: Path) -> None:
    alone = [f"{term}_agreement=0.0" for term in ("energy", "force")]
    train(CONFIG, overrides(data, tmp_path, *JOINT, *alone))

    def agreement_loss(output: Path) -> np.ndarray:
        energies, forces = (
            np.array(logged(output, f"val0_epoch/agreement_{term}_rmse"))
            for term in ("energy", "forces")
        )
        return 5.0 * energies**2 + 0.5 * 3 * forces**2

    together, apart = agreement_loss(joint), agreement_loss(tmp_path)
    assert together[-3:].mean() < 0.6 * together[0]
    assert together[-3:].mean() < 0.5 * apart[-3:].mean()
    for role in ("hf", "lf"):  # and they learn
        errors = logged(joint, f"val0_epoch/{role}_forces_rmse")
        assert errors[-1] < 0.8 * errors[0]


def test_interrupted_training_goes_on_along_the_same_curve(data: Path, tmp_path: Path) -> None:
    settings = ("epochs=4", "dtype=float64", "agreement_warmup_steps=10")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(CONFIG, overrides(data, whole, *settings))
    curve = logged(whole, LOSS)
    assert len(curve) == 16

    interruption = "tests.engine.cotrain.interruption.InterruptAfter"
    callback = (f"trainer.callbacks.1._target_={interruption}", "++trainer.callbacks.1.steps=10")
    with pytest.raises(Interrupted) as stopped:
        train(CONFIG, overrides(data, broken, *settings, *callback))
    assert stopped.value.signal_name == "SIGINT"
    assert stopped.value.checkpoint == broken / "last.ckpt"

    with pytest.raises(InputError, match="--resume"):
        train(CONFIG, overrides(data, broken, *settings))
    train(CONFIG, overrides(data, broken, *settings), resume=True)
    # Two epochs of four steps were finished; the third starts anew, to the last bit.
    assert logged(broken, LOSS) == curve[8:]
    states = [
        torch.load(folder / "last.ckpt", weights_only=False)["state_dict"]
        for folder in (whole, broken)
    ]
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(states[1][name], value), name


@pytest.mark.parametrize("kind", ["checkpoint", "package"])
def test_given_hf_expert_teaches(kind: str, joint: Path, data: Path, tmp_path: Path) -> None:
    source = joint / "last.ckpt"
    if kind == "package":
        source = tmp_path / "teacher.nequip.zip"
        _package(joint / "last.ckpt", source)
    builder = "ModelFromCheckpoint" if kind == "checkpoint" else "ModelFromPackage"
    given = f"{{_target_: nequip.model.{builder}, {kind}_path: '{source}'}}"
    # `~` takes the configuration's own HF away.
    changes = ["~training_module.model.hf", f"+training_module.model.hf={given}", "freeze=[hf]"]
    train(CONFIG, overrides(data, tmp_path / "student", *changes, "epochs=3"))

    student = nequip_models(tmp_path / "student" / "last.ckpt")
    teacher = nequip_models(joint / "last.ckpt")
    for name, value in teacher["hf"].state_dict().items():
        assert torch.equal(student["hf"].state_dict()[name], value), name
    errors = logged(tmp_path / "student", "val0_epoch/agreement_forces_rmse")
    assert errors[-1] < errors[0]
    assert np.isfinite(errors).all()


def _package(checkpoint: Path, target: Path) -> None:
    from nequip.scripts.package import main

    main(["build", str(checkpoint), str(target)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochss=3", "epochss"),
        ("data_folder=/nowhere", "/nowhere/ptco_chgnet_train.extxyz.gz: no such file"),
        ("fits.lf=[bulc*]", "no config_type fits 'bulc\\*'; there are: bulk_hot, co_surface"),
        ("++training_module.lambda=3", "lambda"),
        ("epochs=[", "no viable alternative"),
        ("+ckpt_path=/nowhere.ckpt", "/nowhere.ckpt: no such checkpoint"),
        ("training_module.energy_agreement=-1", "energy_agreement, force_agreement"),
        ("epochs=many", "epochs: got 'many'; allowed: a number"),
        ("epochs=2.5", "max_epochs: got 2.5; allowed: a whole number"),
        ("training_module.optimizer.lr=small", "optimizer.lr: got 'small'; allowed: a number"),
        ("hf_cutoff=true", "hf_cutoff: got True; allowed: a number"),
        ("training_module.optimizer._target_=torch.optim.None_", "importable from module"),
    ],
)
def test_bad_configuration_is_one_line(
    change: str, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        train(CONFIG, overrides(data, tmp_path, change))
    assert "\n" not in str(refusal.value)
    assert capsys.readouterr().err == ""


def test_missing_configuration(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("run: [train]\ntrainer: {}\n")
    with pytest.raises(InputError, match="the sections data, training_module are missing"):
        train(tmp_path / "short.yaml")
    with pytest.raises(InputError, match="no such training configuration"):
        train(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="there is no"):
        train(CONFIG, [f"output={tmp_path}"], resume=True)
