"""What pydantic finds wrong with a configuration, in one line that a person can act on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from duetto.errors import InputError
from duetto.settings.values import shown, suggestion

Location = tuple[int | str, ...]

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a stray key, of a model and of a dataclass."""


_IN_WORDS = {
    "bool_type": "true or false",
    "invalid_key": "keys that are words",
    "tuple_type": "a list",
}
"""What is allowed where pydantic speaks of Python's types."""


def input_error(
    error: ValidationError, model: type[BaseModel], where: str, overridden: Collection[str] = ()
) -> InputError:
    """The first thing that is wrong, and how many more there are.

    Args:
        error: what pydantic raised for `model`.
        model: the whole configuration.
        where: the file's name.
        overridden: dotted keys that came from the command line.

    Returns:
        An error that reads `file: key: got …; allowed: …`.
    """
    path, sentence = _first(error, model)
    dotted = ".".join(str(step) for step in path)
    from_command_line = any(dotted == key or dotted.startswith(f"{key}.") for key in overridden)
    source = "command line" if from_command_line else where
    return InputError(f"{source}: {sentence}")


def error_at(error: ValidationError, model: type[BaseModel], *key: str) -> InputError:
    """The same for a part of a configuration, which stands at `key`: `key.sub: got …`."""
    return InputError(_first(error, model, key)[1])


def _first(
    error: ValidationError, model: type[BaseModel], at: Location = ()
) -> tuple[Location, str]:
    """Where the first thing that is wrong stands, and what to say of it."""
    # A misspelt key is also a missing one: say the misspelling, it carries the remedy.
    found = sorted(error.errors(), key=lambda detail: detail["type"] not in _UNKNOWN)
    path, section = _follow(model, found[0]["loc"])
    if found[0]["type"].startswith("union_tag"):
        path = (*path, found[0]["ctx"]["discriminator"].strip("'"))
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return path, _sentence(found[0], (*at, *path), section) + more


def dotted_key(path: Location) -> str:
    """Write a path of keys as `stages[0].steps`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _follow(model: type[BaseModel], location: Location) -> tuple[Location, type[BaseModel]]:
    """The keys as the user wrote them, and the innermost model on the way.

    Pydantic puts the tag of a union into the location, where the user wrote no key.
    """
    path: list[int | str] = []
    section = model
    options: list[type[BaseModel]] = []
    for step in location:
        if isinstance(step, str) and len(options) > 1:
            section = next(option for option in options if _has_tag(option, step))
            options = []
            continue
        path.append(step)
        if isinstance(step, str) and step in section.model_fields:
            options = list(_models(section.model_fields[step].annotation))
            section = options[0] if len(options) == 1 else section
    return tuple(path), section


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _sentence(detail: ErrorDetails, path: Location, section: type[BaseModel]) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    key = dotted_key(path)
    if kind == "value_error" and isinstance(context.get("error"), InputError):
        return str(context["error"])
    if kind in _UNKNOWN:
        owner = f"{dotted_key(path[:-1])}: " if len(path) > 1 else ""
        keys = _keys(section)
        allowed = f"; allowed: {', '.join(keys)}" if keys else ""
        return f"{owner}unknown key {shown(path[-1])}{suggestion(path[-1], keys)}{allowed}"
    if kind in ("missing", "union_tag_not_found"):
        return f"{key}: missing; it is required"
    given = context.get("tag", detail["input"])
    return f"{key}: got {shown(given)}; allowed: {_allowed(detail, given, section)}"


def _keys(section: type[BaseModel]) -> list[str]:
    """As the user writes them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _allowed(detail: ErrorDetails, given: Any, section: type[BaseModel]) -> str:
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "model_type":
        return f"a mapping with the keys {', '.join(_keys(section))}"
    if kind in ("model_attributes_type", "dataclass_type"):
        return "a mapping"
    if kind in ("literal_error", "union_tag_invalid"):
        words = context["expected" if kind == "literal_error" else "expected_tags"]
        options = [word.strip("' ") for word in words.replace(" or ", ", ").split(",")]
        return ", ".join(options) + (suggestion(given, options) if isinstance(given, str) else "")
    if kind in ("too_short", "too_long"):
        bound = "at least" if kind == "too_short" else "at most"
        number = context["min_length" if kind == "too_short" else "max_length"]
        kind_of = "mapping" if context.get("field_type") == "Dictionary" else "list"
        return f"a {kind_of} of {bound} {number} {'entry' if number == 1 else 'entries'}"
    if kind in _IN_WORDS:
        return _IN_WORDS[kind]
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return text.replace("a valid ", "a ").replace("a integer", "a whole number")
