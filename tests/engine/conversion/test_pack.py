"""Packing nequip's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ase import Atoms

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from duetto.cli.main import main
from duetto.conversion import check as packing_check
from duetto.conversion import pack as packing
from duetto.conversion.pack import pack
from duetto.errors import InputError, RunStopped
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from tests.architectures import ARCHITECTURES, build
from tests.engine.cotrain.training import (
    expert_config,
    labelled_frames,
    make_batch,
    make_module,
    module_config,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def pair_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A co-trained checkpoint in float32 whose averaged weights differ from the last ones."""
    folder = tmp_path_factory.mktemp("pair")
    experts = {role: expert_config(role, model_dtype="float32") for role in ("hf", "lf")}
    module = make_module(**experts, ema_decay=0.5).train()
    batch = make_batch(labelled_frames(1, 1, seed=1), folder)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
        module.ema.update_parameters(module.model)
    return save_checkpoint(module, folder / "pair.ckpt")


@pytest.fixture(scope="module")
def plain_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a plain nequip training: one model, no averages."""
    from nequip.train import NequIPLightningModule
    from nequip.utils import get_current_code_versions
    from nequip.utils.global_state import set_global_state

    set_global_state()
    config = module_config()
    config = {k: v for k, v in config.items() if "agreement" not in k}
    config["model"] = expert_config("lf", folded=False)
    info = {
        "versions": get_current_code_versions(verbose=False),
        "training_module": {"_target_": "nequip.train.NequIPLightningModule", **config},
        "data": {},
        "runs": ["train"],
    }
    module = NequIPLightningModule(**config, info_dict=info)
    return save_checkpoint(module, tmp_path_factory.mktemp("plain") / "plain.ckpt")


def test_cotrained_checkpoint(pair_checkpoint: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "pair.duetto"
    assert main(["pack", str(pair_checkpoint), "-o", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    pair = ExpertPair.load(target)
    assert told["content_hash"] == pair.content_hash
    for role in ("hf", "lf"):
        assert max(told["experts"][role]["deviation_from_nequip"].values()) < 1e-9
        provenance = pair.provenance[role]
        assert provenance["file"] == "pair.ckpt"
        assert len(provenance["sha256"]) == 64
        assert provenance["training"]["energy_agreement"] == 7.0
    assert pair.provenance["lf"]["seen_pairs"] == [["Pt", "Pt"]]
    assert ["C", "O"] in pair.provenance["hf"]["seen_pairs"]
    assert pair.provenance["versions"]["nequip"]


def test_averaged_weights_are_taken(pair_checkpoint: Path) -> None:
    state = torch.load(pair_checkpoint, weights_only=False)["state_dict"]
    name = "model.hf.model.func.radial_chemical_embed.type_embed.center_embed.weight"
    averaged = next(
        value
        for key, value in state.items()
        if key.startswith("ema.") and getattr(value, "shape", None) == state[name].shape
    )
    assert not torch.equal(state[name], averaged)
    pair, _ = pack([str(pair_checkpoint)])
    assert torch.equal(pair.hf.weights["radial.centre"], averaged.double())


def test_plain_checkpoints_by_position_and_by_name(
    plain_checkpoint: Path, pair_checkpoint: Path
) -> None:
    plain, both = str(plain_checkpoint), str(pair_checkpoint)
    alone, _ = pack([plain])
    assert (alone.hf is not None, alone.lf) == (True, None)
    assert "seen_pairs" not in alone.provenance["hf"]
    only_lf, _ = pack(lf=plain)
    assert (only_lf.hf, only_lf.lf is not None) == (None, True)
    mixed, _ = pack([both, plain])
    assert mixed.hf.architecture.num_layers == 2
    assert mixed.lf.architecture.num_layers == 1
    assert mixed.provenance["lf"]["file"] == "plain.ckpt"
    assert pack(hf=both, lf=both)[0].content_hash == pack([both])[0].content_hash


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_check_holds_in_float32_too(name: str) -> None:
    from duetto.conversion.expert import expert_from_nequip

    model = build(name, dtype="float32")
    expert = AllegroExpert(*expert_from_nequip(model))
    assert max(packing_check.check_against_nequip(expert, model).values()) < 1e-11


def test_wrong_weight_is_noticed() -> None:
    from duetto.conversion.expert import expert_from_nequip

    model = build("l2_parity")
    architecture, weights = expert_from_nequip(model)
    weights["product.0"] = weights["product.0"] * (1 + 1e-6)
    with pytest.raises(InputError, match="deviate from nequip's"):
        packing_check.check_against_nequip(AllegroExpert(architecture, weights), model)


def test_failed_check_writes_nothing(
    pair_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> dict[str, float]:
        raise InputError("deviates")

    monkeypatch.setattr(packing, "check_against_nequip", fail)
    assert main(["pack", str(pair_checkpoint), "-o", str(tmp_path / "pair.duetto")]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.ckpt"], "none.ckpt: no such nequip checkpoint"),
        (["garbage.ckpt"], "garbage.ckpt: cannot be read as a nequip model"),
        (["garbage.nequip.zip"], "garbage.nequip.zip: cannot be read as a nequip model"),
        (["weights.ckpt"], "weights.ckpt: cannot be read as a nequip model"),
        ([], "pack takes one co-trained checkpoint"),
        (["a.ckpt", "b.ckpt", "c.ckpt"], "pack takes one co-trained checkpoint"),
        (["a.ckpt", "--hf", "b.ckpt"], "not both"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.ckpt").write_bytes(b"\x80garbage" * 99)
    (tmp_path / "garbage.nequip.zip").write_bytes(b"PKgarbage" * 99)
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    before = sorted(tmp_path.iterdir())
    assert main(["pack", *arguments, "-o", "pair.duetto"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("duetto: error: ")
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [("pair.pt", "a pair file is called"), ("none/pair.duetto", "does not exist")],
)
def test_bad_target_is_told_first(target: str, message: str, tmp_path: Path, capsys) -> None:
    assert main(["pack", "none.ckpt", "-o", str(tmp_path / target)]) == 2
    assert message in capsys.readouterr().err


def test_without_nequip_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from duetto.conversion import stack as training_stack

    monkeypatch.setattr(training_stack, "find_spec", lambda name: None)
    for command in (["pack", "a.ckpt", "-o", "a.duetto"], ["train", "a.yaml"]):
        assert main(command) == 2
        assert "pip install duetto[train]" in capsys.readouterr().err


def test_the_way_of_the_readme_checks_and_remembers_like_pack(monkeypatch) -> None:
    """`ExpertPair.from_nequip`: compared with nequip, its model left as it is."""
    model = build("l1_one_layer", dtype="float32")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pair = ExpertPair.from_nequip(hf=model, provenance={"note": "mine"})
    assert pair.provenance == {"note": "mine"}
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])

    real = packing.expert_from_nequip

    def wrong(model):
        architecture, weights = real(model)
        return architecture, weights | {"energy.scale": 1.01 * weights["energy.scale"]}

    monkeypatch.setattr(packing, "expert_from_nequip", wrong)
    with pytest.raises(InputError, match="deviate from nequip's"):
        ExpertPair.from_nequip(hf=model)


def test_the_guard_knows_what_a_pair_of_the_readme_s_way_has_seen(pair_checkpoint: Path) -> None:
    file = str(pair_checkpoint)
    pair = ExpertPair.from_nequip(hf=file, lf=file)
    assert pair.provenance["lf"]["seen_pairs"] == [["Pt", "Pt"]]
    low = ExpertPair(None, pair.lf, pair.provenance)
    with pytest.raises(RunStopped, match="never trained on C"):
        DuettoCalculator(low, device="cpu").get_potential_energy(Atoms("C"))
