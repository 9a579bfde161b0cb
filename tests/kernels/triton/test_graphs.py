"""Steps and rebuilds that are captured and replayed, on a stand-in for a GPU's graphs."""

from __future__ import annotations

import pytest
import torch
from ase import units

from duetto.kernels.triton.branches import Branches
from duetto.kernels.triton.dynamics import Dynamics, Thermostat
from duetto.kernels.triton.multiple_timestep import SplitDynamics
from tests.kernels.triton.stand_in import Chip
from tests.kernels.triton.two_experts import (
    cell,
    mixture,
    positions,
    second_everywhere,
    shallow,
)

PARTS = (1, 5, 2)
EXPERTS = shallow(1), shallow(2)
BATHS = [None, Thermostat(thermal_energy=0.05, friction=0.02, seed=11)]
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a stand-in for what is here")


def taken(
    bath: Thermostat | None,
    branches: Branches | None = None,
    parts: tuple[int, ...] = PARTS,
    every: int | None = None,
) -> Dynamics:
    """The state after some steps and a rebuild, in parts as records part them."""
    found = mixture(*EXPERTS, skin=0.15)
    found._branches = branches or found._branches
    masses = torch.tensor([195.084, 195.084, 100.0, 50.0], dtype=torch.float64)
    velocities = 0.012 * torch.sin(torch.arange(12.0, dtype=torch.float64)).reshape(4, 3)
    state = found, positions(), velocities, cell(), units.fs**2 / masses, 1.0
    if every is None:
        run = Dynamics(*state, thermostat=bath)
    else:
        fast = second_everywhere(found)
        run = SplitDynamics(*state, thermostat=bath, every=every, fast_weights=fast)
    for steps in parts:
        run.run(steps)
    return run


@pytest.mark.parametrize("bath", BATHS, ids=["nve", "langevin"])
def test_captured_steps_are_those_that_are_launched(
    bath: Thermostat | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: nothing that a step needs to know stays behind on the host."""
    launched = taken(bath)
    chip = Chip(monkeypatch)
    with chip:
        captured = taken(bath, Branches(torch.device("cuda"), EXPERTS))
    step, rebuild = chip.graphs
    assert step.replays >= sum(PARTS) - 2
    assert rebuild.replays >= 1
    assert captured.neighbors.n_rebuilds == launched.neighbors.n_rebuilds
    for name in ("positions", "velocities", "heat"):
        assert torch.equal(getattr(captured, name), getattr(launched, name)), name
    for name in ("forces", "energies", "centre_virials"):
        assert torch.equal(getattr(captured.mixture, name), getattr(launched.mixture, name)), name


def test_both_kinds_of_inner_steps_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ask both experts and those that ask one, with a rebuild between them."""
    parts = (4, 8)
    launched = taken(BATHS[1], parts=parts, every=4)
    chip = Chip(monkeypatch)
    with chip:
        captured = taken(BATHS[1], Branches(torch.device("cuda"), EXPERTS), parts, every=4)
    whole, fast, rebuild = chip.graphs
    # The first outer step is launched as it is; what lies behind a void step is replayed again.
    assert whole.replays >= 2
    assert fast.replays >= 6
    assert rebuild.replays >= 1
    assert captured.neighbors.n_rebuilds == launched.neighbors.n_rebuilds
    one, other = captured.snapshot(), launched.snapshot()
    for name in ("positions", "velocities", "forces", "slow_forces", "energies", "virial", "heat"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_other_buffers_are_captured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that were captured before write where nobody reads any more."""
    chip = Chip(monkeypatch)
    with chip:
        run = taken(None, parts=(2,))
        graphs = len(chip.graphs)
        assert graphs == 2
        EXPERTS[1].generation += 1
        run.run(2)
    assert len(chip.graphs) == graphs + 2
