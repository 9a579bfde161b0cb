"""What a linear expert consists of: its species, radii and products of moments."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ase.data import atomic_numbers

from duetto.errors import InputError
from duetto.kernels.linear import COMPRESSION, MomentLayout
from duetto.settings.read import NO_STRAY_KEYS, read_json

Matrix = tuple[tuple[float, ...], ...]

MAXIMUM_DEGREE = 3
MAXIMUM_RADIALS = 16


@dataclass(frozen=True)
class WallTerm:
    """ZBL repulsion at short distance.

    Attributes:
        polynomial_cutoff_p: exponent of its cutoff.
        radii: (T, T) Å, where it ends.
    """

    polynomial_cutoff_p: float
    radii: Matrix

    __pydantic_config__ = NO_STRAY_KEYS


@dataclass(frozen=True)
class LinearDescription:
    """The shape of a linear expert.

    Attributes:
        species: chemical symbols in the order of the expert's types, T of them.
        neighbors: those of them that have moments, S of them; a neighbor of any other species
            adds nothing but the wall, and the run's guard watches for it.
        cutoffs: (T, T) cutoff per centre and neighbor type, Å.
        inner: (T, T) distance below which the radial functions no longer follow, Å.
        radials: (l_max + 1,) radial functions of each degree.
        three_body: (l_max + 1,) how many of them enter products of two moments.
        four_body: rows [l1, l2, l3, n] with l1 ≤ l2 ≤ l3: products of three moments of these
            degrees, with the first n radial functions each.
        wall: the ZBL term, or None.
    """

    species: tuple[str, ...]
    neighbors: tuple[str, ...]
    cutoffs: Matrix
    inner: Matrix
    radials: tuple[int, ...]
    three_body: tuple[int, ...]
    four_body: tuple[tuple[int, int, int, int], ...] = ()
    wall: WallTerm | None = None

    __pydantic_config__ = NO_STRAY_KEYS

    def __post_init__(self) -> None:
        """Refuse by name what cannot be."""
        _check(self)

    @property
    def layout(self) -> MomentLayout:
        """Where the moments stand."""
        return MomentLayout(self.radials, len(self.neighbors))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LinearDescription:
        """Inverse of `to_json`.

        Raises:
            InputError: a field is missing, unknown, of the wrong type or out of range.
        """
        return read_json(cls, data, "linear expert")


def _check(d: LinearDescription) -> None:
    T = len(d.species)
    _require(T >= 1 and len(set(d.species)) == T, "species", d.species, "distinct symbols")
    for name in d.species:
        known = isinstance(name, str) and atomic_numbers.get(name, 0) > 0
        _require(known, "species", name, "chemical symbols")
    among = 1 <= len(set(d.neighbors)) == len(d.neighbors) and set(d.neighbors) <= set(d.species)
    _require(among, "neighbors", d.neighbors, f"some of {', '.join(d.species)}, each once")
    _check_matrix("cutoffs", d.cutoffs, T, 0.5, 100.0)
    smallest = min(min(row) for row in d.cutoffs)
    _check_matrix("inner", d.inner, T, 0.0, smallest)
    if d.wall is not None:
        _check_matrix("wall.radii", d.wall.radii, T, 0.0, smallest)
        p = d.wall.polynomial_cutoff_p
        _require(1.99 < p <= 100.0, "wall.polynomial_cutoff_p", p, "a number from 2 to 100")
    _check_products(d)


def _check_products(d: LinearDescription) -> None:
    degrees = len(d.radials)
    _require(1 <= degrees <= MAXIMUM_DEGREE + 1, "radials", d.radials, "1 to 4 numbers")
    for count in d.radials:
        _require_integer("radials", count, 1, MAXIMUM_RADIALS)
    _require(len(d.three_body) == degrees, "three_body", d.three_body, f"{degrees} numbers")
    for count, most in zip(d.three_body, d.radials, strict=True):
        _require_integer("three_body", count, 0, most)
    for row in d.four_body:
        _require(len(row) == 4, "four_body", row, "rows [l1, l2, l3, n]")
        *ls, n = row
        for degree in ls:
            _require_integer("four_body", degree, 0, degrees - 1)
        ordered, even = ls == sorted(ls), sum(ls) % 2 == 0
        couples = ordered and even and ls[2] <= ls[0] + ls[1]
        allowed = "degrees l1 <= l2 <= l3 <= l1 + l2 of even sum"
        _require(couples, "four_body", row, allowed)
        _require_integer("four_body", n, 1, min(d.radials[degree] for degree in ls))
    once = len({tuple(row[:3]) for row in d.four_body}) == len(d.four_body)
    _require(once, "four_body", d.four_body, "each set of degrees once")


def _check_matrix(key: str, rows: Matrix, types: int, above: float, most: float) -> None:
    square = len(rows) == types and all(len(row) == types for row in rows)
    _require(square, key, rows, f"{types} rows of {types} numbers")
    for value in (value for row in rows for value in row):
        fits = math.isfinite(value) and above < value <= most
        _require(fits, key, value, f"numbers above {above:g} and at most {most:g} Å")
        if key == "inner":
            _require(value > COMPRESSION, key, value, f"numbers above {COMPRESSION:g} Å")


def _require(condition: bool, key: str, given: object, allowed: str) -> None:
    if not condition:
        raise InputError(f"linear expert: {key}: got {given!r}; allowed: {allowed}")


def _require_integer(key: str, given: object, low: int, high: int) -> None:
    valid = isinstance(given, int) and not isinstance(given, bool) and low <= given <= high
    _require(valid, key, given, f"whole numbers from {low} to {high}")
