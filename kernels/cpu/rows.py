"""Rows of three numbers as rows of four and back, for all atoms at once."""

from __future__ import annotations

from typing import Any

from duetto.kernels.cpu.compiling import compiled


@compiled
def widen(x: Any, rows: Any) -> None:
    """Copy x (A, 3) to the first columns of rows (A, 4) OUTPUT; the last stays."""
    for a in range(x.shape[0]):
        rows[a, 0], rows[a, 1], rows[a, 2] = x[a, 0], x[a, 1], x[a, 2]


@compiled
def add_narrowed(rows: Any, low: int, x: Any) -> None:
    """x[low + a] += the first three columns of rows (n, 4), for x (A, 3)."""
    for a in range(rows.shape[0]):
        x[low + a, 0] += rows[a, 0]
        x[low + a, 1] += rows[a, 1]
        x[low + a, 2] += rows[a, 2]
