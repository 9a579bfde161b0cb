"""Where a value stands in a nested configuration, and how messages show it."""

import difflib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from duetto.errors import InputError

# Regions nested deeper than this are a mistake (or refer to themselves).
MAXIMUM_DEPTH = 64

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60


@dataclass(frozen=True)
class Place:
    """Where in the configuration a value stands.

    Attributes:
        key: the path of keys, such as `regions.complex.any[1].within.distance`.
        depth: how many regions it is nested in.
        folder: what relative file names start from.
    """

    key: str = "regions"
    depth: int = 0
    folder: Path = Path()

    def at(self, key: object) -> "Place":
        """Return the place of `key` (of an entry, if a whole number) inside this one."""
        step = f"[{key}]" if isinstance(key, int) else f".{key}"
        return Place(self.key + step, self.depth, self.folder)

    def deeper(self) -> "Place":
        """Return this place, counted as one region further down."""
        if self.depth >= MAXIMUM_DEPTH:
            raise InputError(
                f"{self.key}: regions are nested more than {MAXIMUM_DEPTH} deep; "
                "flatten them, or look for a YAML alias that refers to itself"
            )
        return Place(self.key, self.depth + 1, self.folder)

    def refuse(self, given: object, allowed: str) -> InputError:
        """Return the error for a value that is not allowed here."""
        return InputError(f"{self.key}: got {shown(given)}; allowed: {allowed}")


def shown(value: object) -> str:
    """Return `value` as a person would write it, cut short where it is long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    return _shown.repr(value)


def suggestion(word: object, options: Iterable[str]) -> str:
    """Return ` (did you mean "…"?)` where an option is close, else nothing."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.6)
    return f' (did you mean "{by_lower[close[0]]}"?)' if close else ""
