"""Which weights a model has."""

from __future__ import annotations

from torch import nn

from duetto.files import content_hash


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers."""
    return content_hash("", {name: t.detach().cpu() for name, t in model.state_dict().items()})
