"""The two halves of a velocity Verlet step, and how a void step stops them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.integrate import kick, kick_and_drift

A, BLOCK = 7, 4
H = 0.7
SKIN = 0.5


class State:
    """Seven atoms in two blocks, with guards behind the arrays."""

    def __init__(self, device: str) -> None:
        generator = torch.Generator().manual_seed(3)

        def random(scale: float) -> torch.Tensor:
            values = scale * torch.randn(A, 3, generator=generator, dtype=torch.float64)
            return values.to(device)

        self.positions, self.velocities, self.forces = random(3.0), random(0.01), random(1.0)
        self.accelerations = 0.0096 / torch.arange(1, A + 1, dtype=torch.float64, device=device)
        self.timestep = torch.tensor([H], dtype=torch.float64, device=device)
        self.reference = self.positions.clone()
        self.last = (
            torch.full_like(self.positions, torch.nan),
            torch.full_like(self.positions, torch.nan),
        )
        limits = [(SKIN / 2) ** 2, (0.8 * SKIN / 2) ** 2]
        self.limits = torch.tensor(limits, dtype=torch.float64, device=device)
        self.flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=device)
        self.kinetic = torch.full((2,), torch.nan, dtype=torch.float64, device=device)
        self.steps = torch.zeros(1, dtype=torch.int64, device=device)

    def first_half(self) -> None:
        kick_and_drift[(2,)](
            self.positions, self.velocities, self.forces, self.accelerations, self.timestep,
            *self.last, self.reference, self.limits, self.flags, A, BLOCK=BLOCK,
            enable_fp_fusion=False,
        )  # fmt: skip

    def second_half(self) -> None:
        kick[(2,)](
            self.velocities, self.forces, self.accelerations, self.timestep, self.kinetic,
            self.steps, self.flags, A, BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip


def test_first_half_equals_reference_bit_for_bit(device: str) -> None:
    state = State(device)
    x, v = state.positions.clone(), state.velocities.clone()
    expected = reference.velocity_verlet_step(x, v, state.forces, state.accelerations, H)
    state.first_half()
    assert torch.equal(state.positions, expected[0])
    assert torch.equal(state.velocities, expected[1])
    assert torch.equal(state.last[0], x)
    assert torch.equal(state.last[1], v)
    assert not state.flags.any()


def test_second_half_and_kinetic_energy(device: str) -> None:
    state = State(device)
    expected = state.velocities + 0.5 * H * (state.forces * state.accelerations[:, None])
    state.second_half()
    assert torch.equal(state.velocities, expected)
    assert state.steps.item() == 1
    energy = 0.5 * float((expected.square().sum(dim=1) / state.accelerations).sum())
    assert state.kinetic.sum().item() == pytest.approx(energy, rel=1e-14)


@pytest.mark.parametrize(
    ("distance", "raised"),
    [(0.15, []), (0.22, ["MOVING"]), (0.26, ["MOVING", "MOVED"]), (np.nan, ["MOVING", "MOVED"])],
)
def test_displacement_raises_flags(distance: float, raised: list[str], device: str) -> None:
    state = State(device)
    state.velocities.zero_()
    state.forces.zero_()
    state.reference[A - 1, 2] -= distance
    state.first_half()
    expected = sorted(getattr(flag, name).value for name in raised)
    assert state.flags.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("reason", range(flag.FIRST_VOIDING.value, flag.LAST_VOIDING.value + 1))
def test_void_steps_stay_half_done(reason: int, device: str) -> None:
    state = State(device)
    state.first_half()
    state.flags[reason] = 1
    kept = [state.positions.clone(), state.velocities.clone(), *(x.clone() for x in state.last)]
    state.second_half()
    state.first_half()
    state.second_half()
    now = [state.positions, state.velocities, *state.last]
    assert all(torch.equal(x, y) for x, y in zip(now, kept, strict=True))
    assert state.flags[flag.HALTED.value] == 1
    assert state.steps.item() == 0
    assert state.kinetic.isnan().all()


def test_halted_waits_for_the_host(device: str) -> None:
    """Once the reason is gone, only taking HALTED back lets steps go on."""
    state = State(device)
    state.flags[flag.HALTED.value] = 1
    before = state.positions.clone()
    state.first_half()
    state.second_half()
    assert torch.equal(state.positions, before)
    state.flags.zero_()
    state.first_half()
    state.second_half()
    assert state.steps.item() == 1
    assert not torch.equal(state.positions, before)


def test_asking_for_a_rebuild_voids_nothing(device: str) -> None:
    state = State(device)
    state.flags[flag.MOVING.value] = 1
    state.first_half()
    state.second_half()
    assert state.steps.item() == 1
