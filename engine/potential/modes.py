"""What a caller has set for the whole of torch, kept away from an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def in_plain_torch(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with new tensors on the CPU unless it says otherwise, and without autocast."""

    @wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as modes:
            # Asking costs a microsecond, entering them many: they act on every call of torch's.
            if torch.get_default_device().type != "cpu":
                modes.enter_context(torch.device("cpu"))
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    modes.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **kwargs)

    return plain
