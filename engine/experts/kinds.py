"""The kinds of experts, by name: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from duetto.errors import InputError
from duetto.experts.base import Expert

KINDS: dict[str, str | type[Any]] = {
    "allegro": "duetto.experts.allegro.expert:AllegroExpert",
    "eam": "duetto.experts.eam.expert:EamExpert",
    "linear": "duetto.experts.linear.expert:LinearExpert",
    "torch": "duetto.experts.torch_model:TorchExpert",
}
"""Where the class of each kind is; imported when a file or a configuration asks for it."""


def register(kind: str, expert: type[Any]) -> None:
    """Make a class of experts known under `kind`, which pair files then may name."""
    KINDS[kind] = expert


def expert_class(kind: str) -> type[Expert]:
    """The class of a kind.

    Raises:
        InputError: there is no such kind.
    """
    home = KINDS.get(kind)
    if home is None:
        raise InputError(f"expert kind {kind!r} is not one of {', '.join(sorted(KINDS))}")
    if isinstance(home, str):
        module, _, name = home.partition(":")
        home = getattr(import_module(module), name)
    return home
