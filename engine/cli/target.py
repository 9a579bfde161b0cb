"""Where a command writes a pair file."""

from __future__ import annotations

import os
from pathlib import Path

from duetto.errors import InputError


def pair_target(name: str) -> Path:
    """The path of a pair file that can be written, told before the work.

    Raises:
        InputError: another ending, or a folder that is not there or cannot be written.
    """
    target = Path(name)
    if target.suffix != ".duetto":
        raise InputError(f"{target}: a pair file is called *.duetto")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{target}: the folder {target.parent} does not exist or is read-only")
    return target
