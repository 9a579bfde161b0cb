"""Types of values that configurations share: strict numbers, paths, sections without stray keys."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationInfo,
)

from duetto.settings.values import suggestion


def _whole_number(value: Any) -> Any:
    """A count written with an exponent, such as 1e5, is a float to YAML."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _path_from_folder(value: Any, info: ValidationInfo) -> Path:
    """A path relative to the configuration's folder."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("a path, relative to the folder of the configuration")
    return Path((info.context or {}).get("folder", "."), Path(value).expanduser())


def _written(path: Path) -> str:
    """As a function of its own, for pydantic 2.7 cannot tell the arguments of `str`."""
    return str(path)


Real = Annotated[float, Strict(), AllowInfNan(False)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole_number)]
FilePath = Annotated[Path, PlainValidator(_path_from_folder), PlainSerializer(_written)]


class Section(BaseModel):
    """A mapping of the configuration: keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


MAXIMUM_LENGTH = 1e6
"""Å; coordinates and distances beyond are a mistake: a tenth of a millimetre."""


def number(
    value: Any, *, above: float | None = None, limit: float = MAXIMUM_LENGTH, unit: str = "Å"
) -> float:
    """Return `value` as a float: `above` < value ≤ `limit`, or |value| ≤ `limit`.

    Raises:
        ValueError: it is none; says what is allowed.
    """
    span = f"of {above:g} < x <= {limit:g}" if above is not None else f"of |x| <= {limit:g}"
    allowed = " ".join(["a number", unit, span] if unit else ["a number", span])
    if isinstance(value, str) and _is_number(value):
        raise ValueError(f"{allowed}; this is text: leave the quotes out")
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ValueError(allowed)
    least = -limit if above is None else math.nextafter(above, math.inf)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not least <= result <= limit:
        raise ValueError(allowed)
    return result


def real(
    *, above: float | None = None, limit: float = MAXIMUM_LENGTH, unit: str = "Å"
) -> PlainValidator:
    """Reads a `number`."""
    return PlainValidator(partial(number, above=above, limit=limit, unit=unit))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def count(least: int) -> PlainValidator:
    """A whole number, written as one, from `least` on."""

    def check(value: Any) -> int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
        if not whole or int(value) < least:
            raise ValueError(f"a whole number >= {least}")
        return int(value)

    return PlainValidator(check)


def one_of(options: Collection[str]) -> PlainValidator:
    """One of some words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            near = suggestion(value, options) if isinstance(value, str) else ""
            raise ValueError(", ".join(options) + near)
        return value

    return PlainValidator(check)


def listed(allowed: str, length: int | None = None) -> BeforeValidator:
    """A list that is not empty, of `length` entries if given; `allowed` says so in words."""

    def check(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if not isinstance(value, list | tuple) or not value or len(value) != (length or len(value)):
            raise ValueError(allowed)
        return list(value)

    return BeforeValidator(check)


Length = Annotated[float, real(above=0.0)]
Coordinate = Annotated[float, real()]
OpenCoordinate = Annotated[
    float | None, PlainValidator(lambda value: None if value is None else number(value))
]
"""None where a side is open."""
