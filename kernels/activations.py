"""The nonlinearities of Allegro's multilayer perceptrons, by nequip's names."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def _linear(x: Tensor) -> Tensor:
    return x


def _shifted_softplus(x: Tensor) -> Tensor:
    return functional.softplus(x) - math.log(2.0)


ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: _linear,
    "silu": functional.silu,
    "mish": functional.mish,
    "gelu": functional.gelu,
    "ssp": _shifted_softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
}
