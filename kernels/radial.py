"""Radial bases of the two-body embedding, on distances divided by the pair's cutoff."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def polynomial_cutoff(x: Tensor, p: float) -> Tensor:
    """1 at x = 0, 0 from x = 1 on, with two continuous derivatives there.

    Gasteiger et al., arXiv 2003.03123, eq. 8.
    """
    value = (
        1.0
        - (p + 1) * (p + 2) / 2 * x**p
        + p * (p + 2) * x ** (p + 1)
        - p * (p + 1) / 2 * x ** (p + 2)
    )
    return value * (x < 1.0)


@dataclass(frozen=True)
class BesselBasis:
    """w sinc(w x) under a polynomial cutoff; sinc(t) = sin(π t) / (π t).

    Attributes:
        roots: (B,) the w, in units of π; 1 … B unless trained.
        p: exponent of the cutoff.
    """

    roots: Tensor
    p: float

    @property
    def size(self) -> int:
        """Number of basis functions, B."""
        return self.roots.numel()

    def __call__(self, x: Tensor) -> Tensor:
        """(E,) scaled distances to (E, B)."""
        scaled = x[:, None] * self.roots.to(x.dtype)
        bessel = torch.sinc(scaled) * self.roots.to(x.dtype)
        return bessel * polynomial_cutoff(x, self.p)[:, None]


@dataclass(frozen=True)
class SplineBasis:
    """Bumps ¼ (1 − cos)² of finite support on a regular grid; all vanish at x = 1."""

    num_splines: int
    spline_span: int

    @property
    def size(self) -> int:
        """Number of basis functions, B."""
        return self.num_splines

    def __call__(self, x: Tensor) -> Tensor:
        """(E,) scaled distances to (E, B)."""
        grid = torch.arange(
            -self.spline_span, self.num_splines - self.spline_span, dtype=x.dtype, device=x.device
        )
        lower = grid / self.num_splines
        width = (self.spline_span + 1) / self.num_splines
        inside = torch.clamp(x[:, None], min=lower, max=lower + width) - lower
        return 0.25 * (1 - torch.cos(2 * math.pi / width * inside)).square()


RadialBasis = BesselBasis | SplineBasis
