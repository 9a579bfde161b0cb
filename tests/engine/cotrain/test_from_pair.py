"""An expert of a pair file as a model to train towards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from ase.build import bulk
from ase.io import read

from duetto.cotrain import ModelFromPair
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from tests.engine.cotrain.training import ROOT, TYPES
from tests.structures import nequip_frame, nequip_results

PAIR = ROOT / "examples" / "ptco" / "ptco.duetto"


@pytest.mark.parametrize("role", ["hf", "lf"])
def test_it_is_the_expert_of_the_file(role: str) -> None:
    pair = ExpertPair.load(PAIR)
    atoms = bulk("Pt", a=3.97, cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.1, seed=1)
    if role == "hf":
        atoms = read(ROOT / "examples" / "ptco" / "data" / "ptco_chgnet_test.extxyz.gz", index=-1)
    model = ModelFromPair(str(PAIR), role, TYPES, "float64").eval()
    expert = pair.experts[role]
    cutoffs = np.full((3, 3), expert.architecture.r_max)
    found = nequip_results(model, atoms, cutoffs)
    weights = np.full(len(atoms), float(role == "hf"))
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
    expected = potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    # Float64 sums of some hundred terms in another order.
    assert np.abs(found["energies"].ravel() - expected.energies.numpy()).max() < 1e-9
    assert np.abs(found["forces"] - expected.forces.numpy()).max() < 1e-9


def test_it_can_be_trained_as_it_comes() -> None:
    model = ModelFromPair(str(PAIR), "lf", TYPES, "float64")
    atoms = bulk("Pt", a=3.97, cubic=True)
    atoms.rattle(0.1, seed=1)
    frame = nequip_frame(atoms, np.full((3, 3), 4.5))
    parameter = next(model.parameters())
    for _ in range(2):  # a graph that outlives its backward pass shows in the second step
        model(dict(frame))["forces"].square().sum().backward()
    assert parameter.grad is not None
    assert float(parameter.grad.abs().max()) > 0


def test_what_the_file_lacks_is_said(tmp_path) -> None:
    alone = tmp_path / "alone.duetto"
    ExpertPair(ExpertPair.load(PAIR).hf, None).save(alone)
    with pytest.raises(InputError, match="lacks the expert lf"):
        ModelFromPair(str(alone), "lf", TYPES)
    with pytest.raises(InputError, match="type_names says Pt O C"):
        ModelFromPair(str(alone), "hf", ["Pt", "O", "C"])
