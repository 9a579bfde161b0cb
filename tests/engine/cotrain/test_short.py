"""A training by a short configuration, from the files to a pair."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from duetto.cli.main import main
from duetto.cotrain.draft import Files, draft
from duetto.cotrain.epochs import duration, epoch_line
from duetto.cotrain.train import train
from duetto.distil.gathered import evaluate
from duetto.distil.structures import Structure
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.folders import claimed
from tests.engine.cotrain.test_draft import nickel
from tests.engine.cotrain.training import logged

SMALL = (
    "epochs=3",
    "hf={cutoff: 4.2, l_max: 1, layers: 1, scalars: 8, tensors: 4}",
    "lf={cutoff: 3.0, l_max: 1, layers: 1, scalars: 8, tensors: 4}",
    "agreement.warmup_epochs=1",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folder of a tiny training, and what it said."""
    folder = tmp_path_factory.mktemp("short")
    write(folder / "bulk.extxyz", nickel(10, False, 1))
    write(folder / "hydrogen.extxyz", nickel(10, True, 2))
    files = Files((folder / "bulk.extxyz", folder / "hydrogen.extxyz"))
    draft(["Ni", "H"], files, folder)
    said: list[str] = []
    train(folder / "cotrain.yaml", SMALL, say=said.append)
    return folder, said


def test_it_trains_what_the_file_says(trained: tuple[Path, list[str]], capsys) -> None:
    folder, said = trained
    assert said[0] == "training: 18 labelled frames (18 for hf, 9 for lf)"
    errors = logged(folder / "training", "val0_epoch/hf_forces_rmse")
    assert len(errors) == 3
    assert np.isfinite(errors).all()
    checkpoint = torch.load(folder / "training" / "last.ckpt", weights_only=False)
    module = checkpoint["hyper_parameters"]["info_dict"]["training_module"]
    # Nine batches of two frames an epoch; one epoch of warm-up.
    assert checkpoint["global_step"] == 27
    assert module["agreement_warmup_steps"] == 9
    pair = folder / "pair.duetto"
    assert main(["pack", str(folder / "training" / "best.ckpt"), "-o", str(pair), "--json"]) == 0
    loaded = ExpertPair.load(pair)
    assert loaded.species == ("Ni", "H")
    assert loaded.provenance["lf"]["seen_pairs"] == [["Ni", "Ni"]]


def test_a_linear_lf_is_fitted_to_hf_at_the_end(
    trained: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = trained
    changes = [
        *SMALL[:2],
        "lf={linear: {radials: [3, 2], three_body: [3, 2], four_body: [], cutoff: 3.2}}",
        "output=linear",
        "epochs=2",
    ]
    assert main(["train", str(folder / "cotrain.yaml"), *changes]) == 0
    said = capsys.readouterr().out
    assert "training: 18 labelled frames (18 for hf)" in said
    assert "fitting a linear LF to HF on" in said
    pair = ExpertPair.load(folder / "linear" / "pair.duetto")
    assert pair.hf is not None
    assert pair.hf.kind == "allegro"
    assert pair.lf is not None
    assert pair.lf.kind == "linear"
    # LF has met nickel alone: hydrogen is HF's.
    assert pair.lf.species == ("Ni",)
    report = json.loads((folder / "linear" / "pair.json").read_text())
    # Two epochs have taught HF little but a smooth function, and LF follows that.
    assert report["fit_rmse"]["forces"] < 0.5 * hf_force_rms(pair, folder / "bulk.extxyz")
    with pytest.raises(InputError, match=r"lf\.linear\.cutoff: got 'far'"):
        train(folder / "cotrain.yaml", ["lf={linear: {cutoff: far}}"])
    with pytest.raises(InputError, match=r"lf\.linear: takes no data, test or families"):
        train(folder / "cotrain.yaml", ["lf={linear: {data: [more.extxyz]}}"])


def hf_force_rms(pair: ExpertPair, path: Path) -> float:
    """Of HF's forces on the frames of a file, meV/Å."""
    forces = [
        evaluate(pair.hf, Structure(atoms, "", "")).forces.numpy() for atoms in read(path, ":")
    ]
    return 1e3 * float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))


def test_a_folder_is_trained_in_once_and_by_one(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    with pytest.raises(InputError, match="holds a training already; continue it with --resume"):
        train(folder / "cotrain.yaml", SMALL)
    with claimed(folder / "training"), pytest.raises(InputError, match="is writing there"):
        train(folder / "cotrain.yaml", SMALL, overwrite=True)
    train(folder / "cotrain.yaml", [*SMALL, "epochs=4"], resume=True)
    assert len(logged(folder / "training", "val0_epoch/hf_forces_rmse")) == 1


def test_every_expert_may_learn_from_every_frame(
    trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = trained
    said: list[str] = []
    changes = [*SMALL, "epochs=1", "fits.lf=all", "agreement.frames=all", f"output={tmp_path}"]
    train(folder / "cotrain.yaml", changes, say=said.append)
    assert said[0] == "training: 18 labelled frames (18 for hf, 18 for lf)"
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    assert state["lf_seen_pairs"].nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]


def test_the_line_of_an_epoch() -> None:
    numbers = {
        "hf_forces_rmse": 0.0451,
        "hf_per_atom_energy_rmse": 0.0012,
        "agreement_forces_rmse": 0.003,
        "agreement_energy_rmse": 0.0004,
        "loss": 0.0123,
    }
    line = epoch_line(7, 200, numbers, 4000.0, best=True)
    assert re.split("  +", line) == [
        "epoch",
        "7/200",
        "HF 45.1 meV/Å 1.20 meV",
        "HF − LF 3.0 meV/Å 0.40 meV",
        "loss 0.0123*",
        "67 min left",
    ]
    assert [duration(s) for s in (30, 120, 6000)] == ["30 s", "2 min", "1 h 40 min"]
