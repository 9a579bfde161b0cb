"""Rows of a report's tables, one column for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from duetto.report.numbers import with_error

Cell = tuple[float | None, float | None]
"""A number and its standard error, None where there is none."""


class PageRow(NamedTuple):
    """A quantity of every pair; `form` is how a number without an error is written."""

    name: str
    cells: Sequence[Cell]
    form: str = ".3g"


def table_of(labels: Sequence[str], rows: Sequence[PageRow]) -> str:
    """The rows under the pairs' names."""
    lines = [f"| quantity | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for name, cells, form in rows:
        written = ["" if v is None else with_error(v, error, form) for v, error in cells]
        lines.append(f"| {name} | {' | '.join(written)} |")
    return "\n".join(lines)
