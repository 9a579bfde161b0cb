"""Reading a part of a configuration where it stands: all of it goes through pydantic."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from duetto.errors import InputError
from duetto.settings.fields import Section
from duetto.settings.messages import error_at, input_error
from duetto.settings.values import Place
from duetto.settings.yaml import apply_overrides, load_mapping

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


def read_file(
    section: type[S],
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    key: str,
    folder: Path | None = None,
    shorthand: Callable[[dict[str, Any]], None] = lambda data: None,
) -> S:
    """Read a YAML file as a `Section`, with changes from the command line.

    Args:
        section: what it is to be.
        path: the file.
        overrides: `key.sub=value`, applied on top; the values are YAML.
        key: one that belongs there, for the message about a file that is something else.
        folder: what relative paths in it start from; its own by default.
        shorthand: writes out, in place, what the file may say in short, before the changes.

    Raises:
        InputError: one line naming the file, the key, what was given and what is allowed.
    """
    data = load_mapping(path, key)
    shorthand(data)
    overridden = apply_overrides(data, overrides)
    context = {"folder": folder or Path(path).absolute().parent}
    try:
        return section.model_validate(data, context=context)
    except ValidationError as error:
        raise input_error(error, section, str(path), overridden) from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deep") from error
