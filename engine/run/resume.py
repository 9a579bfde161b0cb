"""What may change between a run and its continuation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from duetto.errors import InputError
from duetto.settings.values import shown

FREE = ("stages", "limits", "guard", "output.dir", "output.checkpoint_every", "device")
"""Keys that do not change the steps already done. Device and stages are checked on their own."""

CONTENT = ("structure.file", "pair")
"""Files may move; what counts is their content."""


def require_same_run(before: dict[str, Any], now: dict[str, Any], step: int, where: str) -> None:
    """Refuse to continue a run as another one.

    Args:
        before: the configuration at the checkpoint, as plain data.
        now: the configuration given.
        step: the step of the checkpoint.
        where: the configuration's file.

    Raises:
        InputError: naming the first key that differs where it must not.
    """
    ignored = (*FREE, *CONTENT)
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in [*old, *(key for key in new if key not in old)]:
        if any(key == prefix or key.startswith(f"{prefix}.") for prefix in ignored):
            continue
        _require_equal(key, old.get(key), new.get(key), where)
    begin = 0
    for index, stage in enumerate(before["stages"]):
        if begin >= step:
            return
        key = f"stages[{index}]"
        if index >= len(now["stages"]):
            _require_equal(key, stage, None, where)
        other = now["stages"][index]
        done = min(stage.get("steps", 0), step - begin)
        for name in stage.keys() | other.keys():
            if name != "steps":
                _require_equal(f"{key}.{name}", stage.get(name), other.get(name), where)
        if min(other.get("steps", 0), step - begin) != done:
            _require_equal(f"{key}.steps", stage.get("steps"), other.get("steps"), where)
        begin += stage.get("steps", 0)


def _require_equal(key: str, before: Any, now: Any, where: str) -> None:
    if before != now:
        raise InputError(
            f"{where}: {key}: the run was started with {shown(before)}, now it is {shown(now)}; "
            "a resumed run goes on as it began: change it back, or start another run in another "
            "output.dir"
        )


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
