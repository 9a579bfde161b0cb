"""What is wrong with a structure file that ASE does not read, in words about the file."""

from __future__ import annotations

import re

from duetto.errors import InputError

_WORDS = (
    (r"could not convert string to float: (.+)", "{} stands where a number belongs"),
    (
        r"invalid literal for int\(\) with base 10: '(.*?)(?:\\n)?'",
        "'{}' stands where a whole number belongs, such as the number of atoms",
    ),
    (r"Frame has (\d+) atoms, expected (\d+)", "it ends after {} of {} atoms"),
    (r"codec can't decode byte", "it is no text"),
)
"""What the readers say for one common mistake each, and what that means."""


def unreadable(where: str, error: Exception) -> InputError:
    """The error for a file called `where`, which ASE answered with `error`."""
    # ASE's XYZError is an OSError without a number.
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"{where}: cannot be read: {error.strerror}")
    text = " ".join(str(error).split())
    for pattern, words in _WORDS:
        found = re.search(pattern, text)
        if found:
            return InputError(f"{where}: cannot be read: {words.format(*found.groups())}")
    text = f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
    return InputError(
        f"{where}: cannot be read: is it a structure, and its name's ending that of its format? "
        f"({text})"
    )
