"""The device functions that the expert kernels call, one by one."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from duetto.kernels.activations import ACTIVATIONS
from duetto.kernels.harmonics import HARMONICS, Harmonic, slope, spherical_harmonics
from duetto.kernels.triton import expert_math, linear
from duetto.kernels.triton.expert_geometry import expression
from duetto.kernels.triton.expert_launch import interpreted

SIZE = 256


@triton.jit
def activate(x, value, slope, NAME: tl.constexpr, FAST: tl.constexpr):
    index = tl.arange(0, 256)
    y, d = expert_math.activation_and_slope(tl.load(x + index), NAME, FAST)
    tl.store(value + index, y)
    tl.store(slope + index, d)


@triton.jit
def turn(x, sine, cosine):
    index = tl.arange(0, 256)
    s, c = expert_math.sine_and_cosine_of_pi(tl.load(x + index))
    tl.store(sine + index, s)
    tl.store(cosine + index, c)


@triton.jit
def split_and_store(x, parts, PRECISION: tl.constexpr):
    index = tl.arange(0, 256)
    high, middle, low = expert_math.split(tl.load(x + index), PRECISION)
    tl.store(parts + index, high.to(tl.float32))
    tl.store(parts + 256 + index, middle.to(tl.float32))
    tl.store(parts + 512 + index, low.to(tl.float32))


@pytest.mark.parametrize("name", [name or "linear" for name in ACTIVATIONS])
def test_activations_and_slopes(name: str, device: str) -> None:
    x = torch.linspace(-30, 30, SIZE, dtype=torch.float32, device=device)
    x[:128] = torch.linspace(-4, 4, 128, device=device)
    x[0] = 0.0
    value, slope = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
    activate[(1,)](x, value, slope, NAME=name, FAST=not interpreted())
    exact = x.double().requires_grad_()
    result = ACTIVATIONS[None if name == "linear" else name](exact)
    (derivative_of_result,) = torch.autograd.grad(result.sum(), exact)
    # Some ten float32 operations on numbers up to |x|; exp loses |x| units in the last place.
    tolerance = 2e-6 * (1 + x.abs())
    assert ((value - result).abs() < tolerance).all()
    assert ((slope - derivative_of_result).abs() < tolerance).all()


@pytest.mark.parametrize("name", ["linear", "silu", "mish", "gelu", "ssp", "tanh"])
def test_padding_stays_zero(name: str, device: str) -> None:
    x = torch.zeros(SIZE, dtype=torch.float32, device=device)
    value, slope = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
    activate[(1,)](x, value, slope, NAME=name, FAST=not interpreted())
    assert (value == 0).all()


def test_sine_and_cosine(device: str) -> None:
    x = torch.rand(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 40 - 20
    x = x.float().to(device)
    x[:9] = torch.arange(-4, 5, device=device) / 2
    sine, cosine = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
    turn[(1,)](x, sine, cosine)
    angle = torch.pi * x.double()
    # The reduction is exact: what is left is the rounding of the series, a few 2⁻²⁴.
    assert (sine - angle.sin()).abs().max() < 3e-7
    assert (cosine - angle.cos()).abs().max() < 3e-7


@pytest.mark.parametrize(("precision", "parts"), [(expert_math.BF16X3, 2), (expert_math.BF16X6, 3)])
def test_each_part_is_the_nearest_to_the_rest(precision: int, parts: int, device: str) -> None:
    x = torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.float().to(device)
    x[:2] = torch.tensor([1.0 + 2**-8, 1.0 + 3 * 2**-8], device=device)  # ties
    stored = x.new_full((3, SIZE), torch.nan)
    held = expert_math.HELD if interpreted() else 0
    split_and_store[(1,)](x, stored, PRECISION=precision + held)
    rest = x.clone()
    for part in stored[:parts]:
        assert torch.equal(part, rest.to(torch.bfloat16).float())
        rest -= part
    # Three parts of 8 bits hold the 24 of a float32.
    assert parts == 2 or (rest == 0).all()


@triton.jit
def write_harmonics(unit, given, values, slopes, DEGREES: tl.constexpr):
    edge = tl.arange(0, 32)
    x, y, z = tl.load(unit + edge), tl.load(unit + 32 + edge), tl.load(unit + 64 + edge)
    Y = linear.harmonics(x, y, z, DEGREES)
    g = ()
    for d in tl.static_range(DEGREES * DEGREES):
        tl.store(values + d * 32 + edge, Y[d])
        g = g + (tl.load(given + d * 32 + edge),)  # noqa: RUF005 (Triton joins tuples by +)
    gx, gy, gz = linear.harmonics_adjoint(x, y, z, g, DEGREES)
    tl.store(slopes + edge, gx)
    tl.store(slopes + 32 + edge, gy)
    tl.store(slopes + 64 + edge, gz)


def directions() -> torch.Tensor:
    unit = torch.randn(32, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (unit / unit.norm(dim=1, keepdim=True)).requires_grad_()


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_harmonics_of_linear_experts_are_the_table_s(l_max: int, device: str) -> None:
    unit = directions()
    exact = spherical_harmonics(unit, l_max).T.contiguous()
    values = torch.full_like(exact, torch.nan, device=device)
    for d in range(len(exact)):
        given = torch.zeros_like(values)
        given[d] = 1.0
        slopes = torch.full((3, 32), torch.nan, dtype=torch.float64, device=device)
        columns = unit.detach().T.contiguous().to(device)
        write_harmonics[(1,)](columns, given, values, slopes, l_max + 1)
        # Sums of at most three products, of numbers below 30.
        assert torch.allclose(values.cpu(), exact, rtol=1e-14, atol=1e-14)
        (gradient,) = torch.autograd.grad(exact[d].sum(), unit, retain_graph=True)
        assert torch.allclose(slopes.cpu(), gradient.T, rtol=1e-13, atol=1e-13)


def test_written_harmonics_are_the_table_s() -> None:
    unit = directions()
    exact = spherical_harmonics(unit, 3)
    places = dict(zip(("ux", "uy", "uz"), unit.T, strict=True))
    for d, harmonic in enumerate(HARMONICS):
        value = unit.new_zeros(32) + eval(expression(harmonic), {}, places)
        assert torch.allclose(value, exact[:, d], rtol=1e-14, atol=1e-14)
        (gradient,) = torch.autograd.grad(exact[:, d].sum(), unit, retain_graph=True)
        for axis in range(3):
            partial = slope(harmonic.terms, axis)
            text = expression(Harmonic(harmonic.scale, partial)) if partial else "0.0"
            found = unit.new_zeros(32) + eval(text, {}, places)
            assert torch.allclose(found, gradient[:, axis], rtol=1e-13, atol=1e-13)
