"""Multiple time steps in graphs: the bits of launched ones, and of plain steps at k = 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units

from duetto.kernels.triton.dynamics import Dynamics
from duetto.md import Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.potential.base import Bath, Start
from duetto.potential.split import SplitPotential
from tests.gpu.systems import layered, system

TIMESTEP_FS = 1.0
BATHS = [None, Bath(units.kB * 600.0, 0.02, 5)]


def potential(skin: float = 0.5, **options: object) -> tuple[SplitPotential, Start]:
    """Bulk platinum, partly blended, and where its dynamics begins."""
    atoms, pair = system("pt", 500)
    settings = {"precision": "bf16x3", "device": "cuda", "backend": "triton"} | options
    p = SplitPotential(
        pair, list(atoms.symbols), layered(atoms), atoms.pbc, skin=skin, **settings
    )  # fmt: skip
    state = initial_state(atoms, p, temperature_K=600.0, seed=3, device=p.device)
    start = Start(
        state.positions, state.velocities, state.forces, state.cell, state.response, 0,
        state.slow_forces,
    )  # fmt: skip
    return p, start


def dynamics(every: int, skin: float, bath: Bath | None) -> Dynamics:
    p, start = potential(skin)
    run: Dynamics = p.propagator(start, TIMESTEP_FS, bath, every)
    return run


@pytest.mark.parametrize("bath", BATHS, ids=["nve", "langevin"])
@pytest.mark.parametrize("skin", [0.5, 0.03])
def test_graphs_equal_launches_bit_for_bit(skin: float, bath: Bath | None) -> None:
    """With the thin skin inner steps are void now and then, and the host must help."""
    captured, launched = (dynamics(3, skin, bath) for _ in range(2))
    launched.mixture.capturable = False
    for run in (captured, launched):
        for _ in range(4):
            run.run(48)
    assert captured._graphs is not None
    assert launched._graphs is None
    assert captured.neighbors.n_rebuilds == launched.neighbors.n_rebuilds > 2
    for name in ("positions", "velocities", "slow_forces", "heat"):
        assert torch.equal(getattr(captured, name), getattr(launched, name)), name
    assert torch.equal(captured.mixture.forces, launched.mixture.forces)
    assert captured._steps_done.item() == 192


def test_lists_leave_no_trace() -> None:
    """A skin that lasts, and one that fails within outer steps."""
    one, other = dynamics(3, 1.0, None), dynamics(3, 0.03, None)
    for run in (one, other):
        run.run(60)
    assert other.neighbors.n_rebuilds > one.neighbors.n_rebuilds
    for name in ("positions", "velocities", "slow_forces"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("bath", BATHS, ids=["nve", "langevin"])
def test_one_inner_step_is_the_plain_integrator(bath: Bath | None) -> None:
    """Over the same list: which centres share a program may show in the last bit."""
    stepped = dynamics(1, 0.5, bath)
    p, start = potential()
    plain = p.propagator(start, TIMESTEP_FS, bath)
    assert type(plain) is Dynamics
    for run in (stepped, plain):
        run.run(50)
    assert torch.equal(stepped.positions, plain.positions)
    assert torch.equal(stepped.velocities, plain.velocities)


def test_states_are_those_of_whole_outer_steps() -> None:
    atoms, pair = system("ptco", 300)
    p = SplitPotential(
        pair, list(atoms.symbols), layered(atoms), atoms.pbc, device="cuda", backend="triton"
    )
    state = initial_state(atoms, p, temperature_K=300.0, seed=3, device="cuda")
    states = list(
        run_md(
            state, p, [SplitNVE(24, every=4)], timestep_fs=0.5, limits=Limits(None, None), every=8
        )
    )
    assert [s.step for s in states] == [8, 16, 24]
    energies = [s.conserved(s.kinetic_energy) for s in (state, *states)]
    assert np.ptp(energies) < 0.05 * states[-1].kinetic_energy
    # As the potential finds them anew, over a list of its own.
    again = p.evaluate(states[-1].positions, states[-1].cell)
    assert torch.equal(again.slow_forces.cpu(), states[-1].slow_forces)
