"""Packed experts against nequip's own eager models in float64."""

from __future__ import annotations

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.frontends.ase import DuettoCalculator
from tests.architectures import ARCHITECTURES, build
from tests.structures import nequip_results, structures

RELATIVE = 1e-9
"""Both sides are float64 with some thousand operations between input and force: what differs is
rounding, a few 1e-14, and 1e-9 leaves room for cancellation."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_expert_equals_nequip(name: str, tmp_path) -> None:
    model = build(name)
    ExpertPair.from_nequip(hf=model).save(tmp_path / "pair.duetto")
    pair = ExpertPair.load(tmp_path / "pair.duetto")
    cutoffs = np.array(pair.hf.architecture.cutoffs)
    for atoms in structures().values():
        expected = nequip_results(model, atoms, cutoffs)
        atoms.calc = DuettoCalculator(pair, dtype="float64")
        found = {
            "energy": atoms.get_potential_energy(),
            "energies": atoms.get_potential_energies(),
            "forces": atoms.get_forces(),
        }
        if "stress" in expected:
            found["stress"] = voigt_6_to_full_3x3_stress(atoms.get_stress())
        for quantity, value in expected.items():
            # Forces and stress of nearly isolated atoms are nearly zero: 1 meV/Å sets the scale.
            scale = max(np.abs(value).max(), 1e-3)
            np.testing.assert_allclose(
                found[quantity], value, rtol=0, atol=RELATIVE * scale, err_msg=quantity
            )


@pytest.mark.parametrize("name", ["l2_parity", "spline", "deep_mlps", "per_type", "zbl"])
def test_float32_is_as_good_as_its_rounding(name: str) -> None:
    pair = ExpertPair.from_nequip(hf=build(name))
    atoms = structures()["triclinic"]
    atoms.calc = DuettoCalculator(pair, dtype="float64")
    exact = atoms.get_forces()
    atoms.calc = DuettoCalculator(pair, dtype="float32")
    # Float32 has 6e-8; some hundred terms of both signs per force: 100 roundings.
    limit = 100 * 6e-8 * max(np.abs(exact).max(), 1.0)
    assert np.abs(atoms.get_forces() - exact).max() < limit


def test_model_trained_in_float32_packs() -> None:
    model = build("l2_parity", dtype="float32")
    pair = ExpertPair.from_nequip(hf=model)
    atoms = structures()["cubic"]
    expected = nequip_results(model, atoms, np.array(pair.hf.architecture.cutoffs))
    atoms.calc = DuettoCalculator(pair, dtype="float32")
    limit = 100 * 6e-8 * max(np.abs(expected["forces"]).max(), 1.0)
    assert np.abs(atoms.get_forces() - expected["forces"]).max() < limit


def test_unsupported_parts_are_refused_by_name() -> None:
    lennard_jones = {
        "_target_": "nequip.nn.pair_potential.LennardJones",
        "lj_sigma": 1.0,
        "lj_epsilon": 0.1,
    }
    with pytest.raises(InputError, match=r"pair_potential \(LennardJones\)"):
        ExpertPair.from_nequip(hf=build("l1_one_layer", pair_potential=lennard_jones))
    with pytest.raises(InputError, match="num_layers"):
        ExpertPair.from_nequip(hf=build("l1_one_layer", num_layers=4))
    with pytest.raises(InputError, match="depth"):
        ExpertPair.from_nequip(hf=build("l1_one_layer", readout_mlp_hidden_layers_depth=3))
