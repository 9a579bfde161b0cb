"""The noise of the thermostat and the half step around it, against plain Python and torch."""

from __future__ import annotations

import math

import pytest
import torch
import triton
import triton.language as tl

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.thermostat import (
    drift_thermalized,
    kick_and_thermalize,
    normal_numbers,
)

A, BLOCK, BLOCKS = 7, 4, 2
H, KEPT, THERMAL_ENERGY = 0.7, 0.9, 0.026
SEED, STEP = (5 << 32) + 17, (3 << 32) + 123456789


@triton.jit
def draw(seed, step, numbers, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    first, second, third = normal_numbers(tl.load(seed), tl.load(step), i)
    tl.store(numbers + 3 * i, first)
    tl.store(numbers + 3 * i + 1, second)
    tl.store(numbers + 3 * i + 2, third)


def drawn(seed: int, step: int, n: int, device: str) -> torch.Tensor:
    numbers = torch.full((n, 3), torch.nan, dtype=torch.float64, device=device)
    seed_and_step = (torch.tensor([value], device=device) for value in (seed, step))
    draw[(1,)](*seed_and_step, numbers, BLOCK=n)
    return numbers.cpu()


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_numbers(counter, key, expected: str) -> None:
    """The known answers that come with Random123."""
    assert " ".join(f"{word:08x}" for word in reference.philox(counter, key)) == expected


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (SEED, STEP), (2**32 - 1, 1)])
def test_noise_equals_reference(seed: int, step: int, device: str) -> None:
    # Angles are good to float32, 2⁻²⁴ of a turn, and radii reach 6.7.
    expected = reference.normal_numbers(seed, step, 16)
    torch.testing.assert_close(drawn(seed, step, 16, device), expected, rtol=0, atol=5e-6)


def test_noise_is_standard_normal(device: str) -> None:
    n = 4096
    numbers = drawn(1, 2, n, device)
    # Four standard errors of mean, variance, fourth moment and correlations.
    assert (numbers.mean(dim=0).abs() < 4 / math.sqrt(n)).all()
    assert ((numbers.var(dim=0) - 1).abs() < 4 * math.sqrt(2 / n)).all()
    assert ((numbers.pow(4).mean(dim=0) - 3).abs() < 4 * math.sqrt(96 / n)).all()
    other = drawn(1, 3, n, device)
    for x, y in [(numbers[:, 0], numbers[:, 1]), (numbers[:, 1], numbers[:, 2]),
                 (numbers[:, 0], other[:, 0]), (numbers[1:, 2], numbers[:-1, 2])]:  # fmt: skip
        assert abs(float((x * y).mean())) < 4 / math.sqrt(n)


class State:
    """Seven atoms in two blocks."""

    def __init__(self, device: str) -> None:
        generator = torch.Generator().manual_seed(3)

        def random(scale: float) -> torch.Tensor:
            values = scale * torch.randn(A, 3, generator=generator, dtype=torch.float64)
            return values.to(device)

        def empty(*shape: int) -> torch.Tensor:
            return torch.full(shape, torch.nan, dtype=torch.float64, device=device)

        def given(*values: float) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self.positions, self.velocities, self.forces = random(3.0), random(0.01), random(1.0)
        self.accelerations = 0.0096 / torch.arange(1, A + 1, dtype=torch.float64, device=device)
        self.timestep = given(H)
        self.bath = given(KEPT, THERMAL_ENERGY * (1 - KEPT**2))
        self.seed, self.steps = (torch.tensor([n], device=device) for n in (SEED, STEP))
        self.last = empty(A, 3), empty(A, 3)
        self.momenta, self.before, self.last_heat = empty(3, BLOCKS), empty(BLOCKS), empty(BLOCKS)
        self.heat = given(0.5, 0.25)
        self.reference, self.limits = self.positions.clone(), given(1e6, 1e6)
        self.flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=device)

    def step(self) -> None:
        kick_and_thermalize[(BLOCKS,)](
            self.positions, self.velocities, self.forces, self.accelerations, self.timestep,
            self.bath, self.seed, self.steps, *self.last, self.momenta, self.before, self.flags,
            A, BLOCKS, BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
        drift_thermalized[(BLOCKS,)](
            self.positions, self.velocities, self.accelerations, self.timestep,
            self.momenta.sum(dim=1), (1 / self.accelerations).sum().reshape(1), self.before,
            self.heat, self.last_heat, self.reference, self.limits, self.flags, A, BLOCK=BLOCK,
            enable_fp_fusion=False,
        )  # fmt: skip


def test_half_step_equals_reference(device: str) -> None:
    state = State(device)
    x, v = state.positions.clone(), state.velocities.clone()
    noise = drawn(SEED, STEP, 8, device)[:A].to(device)
    expected = reference.langevin_first_half(
        x, v, state.forces, state.accelerations, H, KEPT, THERMAL_ENERGY, noise
    )
    state.step()
    torch.testing.assert_close(state.positions, expected[0], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(state.velocities, expected[1], rtol=1e-13, atol=1e-16)
    assert float(state.heat.sum()) - 0.75 == pytest.approx(expected[2], rel=1e-12)
    assert state.last_heat.tolist() == [0.5, 0.25]
    assert torch.equal(state.last[0], x)
    assert torch.equal(state.last[1], v)
    momentum = (state.velocities / state.accelerations[:, None]).sum(dim=0)
    assert momentum.abs().max() < 1e-14 * float((1 / state.accelerations).sum())
    assert not state.flags.any()


def test_nothing_happens_while_halted(device: str) -> None:
    state = State(device)
    state.flags[flag.HALTED.value] = 1
    before = state.positions.clone(), state.velocities.clone()
    state.step()
    assert torch.equal(state.positions, before[0])
    assert torch.equal(state.velocities, before[1])
    assert state.heat.tolist() == [0.5, 0.25]
    assert state.momenta.isnan().all()
    assert state.last[0].isnan().all()


@pytest.mark.parametrize(
    ("limits", "raised"), [((1e6, 1e-6), ["MOVING"]), ((1e-6, 1e-6), ["MOVING", "MOVED"])]
)
def test_displacement_raises_flags(limits, raised: list[str], device: str) -> None:
    state = State(device)
    state.limits = state.limits.new_tensor(limits)
    state.step()
    expected = sorted(getattr(flag, name).value for name in raised)
    assert state.flags.nonzero().flatten().tolist() == expected
