"""Types of values that configurations share: strict numbers, paths, sections without stray keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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


def _whole_number(value: Any) -> Any:
    """A count written with an exponent, such as 1e5, is a float to YAML."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _path_from_folder(value: Any, info: ValidationInfo) -> Path:
    """A path relative to the configuration's folder."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("a path, relative to the folder of the configuration")
    return Path((info.context or {}).get("folder", "."), Path(value).expanduser())


Real = Annotated[float, Strict(), AllowInfNan(False)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole_number)]
FilePath = Annotated[Path, PlainValidator(_path_from_folder), PlainSerializer(str)]


class Section(BaseModel):
    """A mapping of the configuration: keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
