"""Experts beside a backend: what it offers, and what it must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from duetto.errors import InputError
from duetto.experts.base import Edges
from duetto.experts.pair import ExpertPair
from duetto.experts.torch_model import TorchExpert
from duetto.potential.base import Propagating
from duetto.potential.mixture import Potential
from duetto.potential.region_backend import RegionBackend
from tests.engine.experts.lennard_jones import LennardJones
from tests.engine.experts.torch_models.models import rod
from tests.engine.experts.torch_models.toy import CrowdedBonds


def potential(weights: Any) -> Potential:
    atoms = rod(3)
    pair = ExpertPair(TorchExpert("toy", "crowded", CrowdedBonds()), LennardJones())
    return Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")


def test_steps_are_not_left_to_a_device_that_knows_only_the_local_experts() -> None:
    made = potential(np.ones(12))
    assert isinstance(made.backend, RegionBackend)
    made.backend.local.propagator = lambda *_: None  # it takes steps by itself, as on a GPU
    assert isinstance(made.backend.local, Propagating)
    assert not made.takes_steps_on_device


def test_edges_alone_are_refused_with_the_reason() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    edges = Edges(torch.zeros(1, dtype=torch.int64), nothing, nothing, torch.zeros(0, 3))
    made = potential(np.ones(12))
    with pytest.raises(InputError, match="sees beyond the neighbours of an atom"):
        made.backend.site_energies("hf", edges)
    with pytest.raises(InputError, match="no functions of the edges of one atom"):
        made.pair.experts["hf"].site_energies(edges)
