"""nequip's own exports of a co-trained checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from nequip.integrations.ase import NequIPCalculator

from duetto.conversion.expert import nequip_models
from duetto.conversion.pack import pack
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from tests.engine.cotrain.training import labelled_frames

ROUNDING = 100 * 6e-8
"""Of the largest force: float32 sums of some hundred terms of both signs."""


def test_package_holds_both_experts(joint: Path, tmp_path: Path) -> None:
    from nequip.scripts.package import main

    target = tmp_path / "pair.nequip.zip"
    main(["build", str(joint / "last.ckpt"), str(target)])
    models = nequip_models(target)
    assert set(models) == {"hf", "lf"}
    for model in models.values():  # nequip's own modules: the package needs no Duetto
        assert not any("duetto" in type(module).__module__ for module in model.modules())
    packaged, _ = pack([str(target)])
    trained, _ = pack([str(joint / "last.ckpt")])
    assert packaged.content_hash == trained.content_hash


@pytest.mark.skipif(
    "DUETTO_TEST_COMPILE" not in os.environ,
    reason="nequip-compile takes one to three minutes: set DUETTO_TEST_COMPILE=1",
)
def test_compiled_expert_is_the_packed_one(joint: Path, tmp_path: Path) -> None:
    from nequip.scripts.compile import main

    target = tmp_path / "lf.nequip.pt2"
    options = ["--model", "lf", "--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
    main([str(joint / "last.ckpt"), str(target), *options])
    pair, _ = pack([str(joint / "last.ckpt")])
    (atoms,) = labelled_frames(1, 0, seed=8)
    atoms.calc = NequIPCalculator.from_compiled_model(
        str(target), device="cpu", chemical_species_to_atom_type_map=True
    )
    expected = atoms.get_forces()
    atoms.calc = DuettoCalculator(ExpertPair(hf=None, lf=pair.lf), dtype="float64")
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=ROUNDING * scale)
