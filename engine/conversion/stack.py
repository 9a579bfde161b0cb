"""nequip and Allegro, which only training and packing need."""

from __future__ import annotations

from importlib.util import find_spec

from duetto.errors import InputError

_MODULES = {"nequip": "nequip", "nequip-allegro": "allegro"}


def require_training_stack(command: str) -> None:
    """See that nequip and Allegro are installed.

    Raises:
        InputError: one is not; the message says what to install.
    """
    missing = [package for package, module in _MODULES.items() if find_spec(module) is None]
    if missing:
        raise InputError(
            f"duetto {command} needs {' and '.join(missing)}: pip install duetto[train]"
        )
