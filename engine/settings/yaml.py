"""YAML as the user meant it: no duplicate keys, `1e-3` a number, overrides from the command line.

Errors name the file and the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from duetto.errors import InputError
from duetto.settings.values import shown

NUMBER = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
"""Numbers with an exponent. YAML 1.1, and so PyYAML, reads 1e-3 and 1.0e3 as text."""


class _Loader(yaml.SafeLoader):
    """Plain data only; refuses duplicate keys and aliases that contain themselves."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, f"aliases (*{event.anchor}) are not allowed", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {name!r} is given twice, first on line {seen[name]}",
                    key.start_mark,
                )
            seen[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789."))


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a YAML file as plain data.

    Raises:
        InputError: the file cannot be read or is not YAML; names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file: byte {error.start} is not UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML text as plain data; `where` is what errors call it.

    Raises:
        InputError: the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{where}{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise InputError(f"{where}: character {error.position} is not allowed in YAML") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep") from error
    except (ValueError, OverflowError) as error:
        # Such as the 30th of February, or a number of more digits than Python reads.
        raise InputError(f"{where}: {error}") from error


def load_mapping(path: str | os.PathLike[str], key: str) -> dict[str, Any]:
    """Read a file that must hold a mapping.

    Args:
        path: the YAML file.
        key: one that belongs there, for the message.

    Raises:
        InputError: as `load_yaml`; the file is empty or holds something else.
    """
    data = load_yaml(path)
    if not isinstance(data, dict):
        given = "is empty" if data is None else f"holds {shown(data)}"
        raise InputError(f"{path}: the file {given}; allowed: a mapping of keys such as {key}")
    return data


def apply_overrides(data: Any, overrides: Sequence[str]) -> list[str]:
    """Set `key.sub=value` in nested plain data, in place; entries of lists go by number.

    The value is YAML. Keys that are missing are made.

    Returns:
        The dotted keys that were set.

    Raises:
        InputError: an override that cannot be read or does not fit the data.
    """
    return [_apply_override(data, override) for override in overrides]


def _apply_override(data: Any, override: str) -> str:
    where = f"override {override!r}"
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise InputError(f"{where}: write it as key.sub=value, such as stages.0.steps=100")
    value = parse_yaml(text, where)
    if isinstance(value, str) and len(text.strip().splitlines()) > 1:
        # YAML would make a space of it, and of a path another one.
        raise InputError(f"{where}: has a line break; allowed: text on one line")
    target = data
    steps = key.split(".")
    for depth, step in enumerate(steps[:-1]):
        index = _index(target, step, steps[:depth], where)
        if isinstance(target, dict) and target.get(index) is None:
            target[index] = {}
        target = target[index]
    target[_index(target, steps[-1], steps[:-1], where)] = value
    return key


def _index(target: Any, step: str, before: list[str], where: str) -> str | int:
    """The key or index of `step` in `target`, which stands at the keys `before`."""
    place = ".".join(before) or "the file"
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise InputError(f"{where}: {place} is {target!r}, which has no key {step!r}")
    if not step.isdecimal() or int(step) >= len(target):
        raise InputError(
            f"{where}: {place} is a list; allowed: an index from 0 to {len(target) - 1}, "
            f"got {step!r}"
        )
    return int(step)
