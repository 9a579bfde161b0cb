"""Reading values out of a nested configuration, with errors that name the place."""

import difflib
import math
import numbers
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duetto.errors import InputError

# Regions nested deeper than this are a mistake (or refer to themselves).
MAXIMUM_DEPTH = 64

# Coordinates and distances beyond this, in Å, are a mistake; a tenth of a millimetre.
MAXIMUM_LENGTH = 1e6

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


def mapping(
    value: object, place: Place, required: Collection[str], optional: Collection[str] = ()
) -> Mapping[str, object]:
    """Return `value` if it is a mapping with all `required` keys and no unknown one."""
    keys = [*required, *optional]
    if not isinstance(value, Mapping):
        raise place.refuse(value, f"a mapping with the keys {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise InputError(
                f"{place.key}: unknown key {shown(key)}{suggestion(key, keys)}; "
                f"allowed: {', '.join(keys)}"
            )
    for key in required:
        if key not in value:
            raise InputError(f"{place.at(key).key}: missing; it is required")
    return value


def number(
    value: object,
    place: Place,
    *,
    above: float | None = None,
    limit: float = MAXIMUM_LENGTH,
    unit: str = "Å",
) -> float:
    """Return `value` as a float: `above` < value ≤ `limit`, or |value| ≤ `limit`."""
    span = f"of {above:g} < x <= {limit:g}" if above is not None else f"of |x| <= {limit:g}"
    allowed = " ".join(["a number", unit, span] if unit else ["a number", span])
    if isinstance(value, str) and _is_number(value):
        allowed += "; this is text: leave the quotes out"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise place.refuse(value, allowed)
    least = -limit if above is None else math.nextafter(above, math.inf)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not least <= result <= limit:
        raise place.refuse(value, allowed)
    return result


def whole(value: object, place: Place, *, least: int, below: int | None = None) -> int:
    """Return `value` as an int: `least` ≤ value < `below`."""
    allowed = f"a whole number >= {least}" + ("" if below is None else f" and < {below}")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise place.refuse(value, allowed)
    result = int(value)
    if result < least or (below is not None and result >= below):
        raise place.refuse(value, allowed)
    return result


def choice(value: object, place: Place, options: Sequence[str]) -> str:
    """Return `value` if it is one of the words `options`."""
    if not isinstance(value, str) or value not in options:
        near = suggestion(value, options) if isinstance(value, str) else ""
        raise place.refuse(value, ", ".join(options) + near)
    return value


def entries(value: object, place: Place, allowed: str, *, count: int | None = None) -> list[object]:
    """Return `value` as a list that is not empty and, if given, has `count` entries."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value or len(value) != (count or len(value)):
        raise place.refuse(value, allowed)
    return list(value)


def point(value: object, place: Place) -> tuple[float, float, float]:
    """Return `value` as three coordinates in Å."""
    x, y, z = (
        number(item, place.at(i))
        for i, item in enumerate(entries(value, place, "three numbers in Å: [x, y, z]", count=3))
    )
    return x, y, z


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
