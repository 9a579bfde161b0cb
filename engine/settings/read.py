"""Reading a part of a configuration where it stands: all of it goes through pydantic."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from duetto.settings.fields import Section
from duetto.settings.messages import error_at
from duetto.settings.values import Place

S = TypeVar("S", bound=Section)
T = TypeVar("T")

NO_STRAY_KEYS = ConfigDict(extra="forbid")
"""`__pydantic_config__` of a dataclass that is read from a file."""


def read(section: type[S], value: object, place: Place | None = None) -> S:
    """Read a mapping as a `Section`; one that is the whole has no place.

    Raises:
        InputError: one line naming the path of keys, what was given and what is allowed.
    """
    try:
        return section.model_validate(value)
    except ValidationError as error:
        raise error_at(error, section, *([place.key] if place else [])) from error


def read_as(kind: TypeAdapter[Any], value: object, place: Place) -> Any:
    """Read a value that is no mapping, by its type.

    Raises:
        InputError: as `read`.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise error_at(error, Section, place.key) from error


def read_json(kind: type[T], data: object, key: str) -> T:
    """Read a dataclass from what JSON has: numbers, words, lists, mappings.

    Raises:
        InputError: as `read`; also those of the dataclass itself.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise error_at(error, Section, key) from error
