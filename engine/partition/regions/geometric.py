"""Regions that go by where an atom is: within, sphere, slab, box.

Boundaries belong to the region, to within `TOLERANCE`, so that a crystal plane that lies on
one is not torn apart by the last digit of a file.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import ase
import numpy as np

from duetto.atoms.geometry import check_geometry_of
from duetto.atoms.periodic import Array, nearest, wrap
from duetto.errors import InputError
from duetto.partition.regions.region import Mask, ParseRegion, Region
from duetto.settings.fields import Coordinate, Length, OpenCoordinate, Section, listed, one_of
from duetto.settings.read import read
from duetto.settings.values import Place

AXES = ("x", "y", "z")
Axis = Annotated[str, one_of(AXES)]

TOLERANCE = 1e-6  # Å


def distance_to(points: Array, atoms: ase.Atoms, limit: float) -> Array:
    """Return (A,) the minimum-image distance, in Å, to the nearest of `points` (P, 3).

    Distances of `limit` and more are returned as inf.
    """
    check_geometry_of(atoms)
    return nearest(atoms.positions, points, atoms.cell.array, atoms.pbc, limit).distance


def wrapped_positions(atoms: ase.Atoms) -> Array:
    """Return (A, 3) the positions moved into the cell along its periodic vectors, Å."""
    check_geometry_of(atoms)
    return wrap(atoms.positions, atoms.cell.array, atoms.pbc)


@dataclass(frozen=True)
class Within:
    """The atoms of a region and all atoms up to `distance` Å from one of them."""

    distance: float
    of: Region

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        inner = self.of.select(atoms)
        near = distance_to(atoms.positions[inner], atoms, self.distance + TOLERANCE)
        return inner | np.isfinite(near)

    def to_dict(self) -> dict[str, Any]:
        """Return `{within: …}`."""
        return {"within": {"distance": self.distance, "of": self.of.to_dict()}}


class _Within(Section):
    distance: Length
    of: Any


def parse_within(value: object, place: Place, parse: ParseRegion) -> Within:
    """Read the distance and the region it is measured from."""
    fields = read(_Within, value, place)
    return Within(fields.distance, parse(fields.of, place.at("of")))


@dataclass(frozen=True)
class Sphere:
    """The atoms up to `radius` Å from a fixed point or one of its periodic images."""

    center: tuple[float, float, float]
    radius: float

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        center = np.array([self.center])
        return np.isfinite(distance_to(center, atoms, self.radius + TOLERANCE))

    def to_dict(self) -> dict[str, Any]:
        """Return `{sphere: …}`."""
        return {"sphere": {"center": list(self.center), "radius": self.radius}}


class _Sphere(Section):
    center: Annotated[list[Coordinate], listed("three numbers in Å: [x, y, z]", 3)]
    radius: Length


def parse_sphere(value: object, place: Place, _: ParseRegion) -> Sphere:
    """Read the centre and the radius."""
    fields = read(_Sphere, value, place)
    x, y, z = fields.center
    return Sphere((x, y, z), fields.radius)


@dataclass(frozen=True)
class Slab:
    """The atoms between two planes perpendicular to an axis, one of which may be missing."""

    axis: str
    minimum: float | None
    maximum: float | None

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool, from wrapped positions."""
        coordinate = wrapped_positions(atoms)[:, AXES.index(self.axis)]
        return _between(coordinate, self.minimum, self.maximum)

    def to_dict(self) -> dict[str, Any]:
        """Return `{slab: …}`."""
        ends = {"min": self.minimum, "max": self.maximum}
        given = {key: end for key, end in ends.items() if end is not None}
        return {"slab": {"axis": self.axis, **given}}


class _Slab(Section):
    axis: Axis
    min: Coordinate = None  # type: ignore[assignment]  # missing, never null
    max: Coordinate = None  # type: ignore[assignment]


def parse_slab(value: object, place: Place, _: ParseRegion) -> Slab:
    """Read the axis and the one or two planes."""
    fields = read(_Slab, value, place)
    if not fields.model_fields_set & {"min", "max"}:
        raise InputError(f"{place.key}: neither min nor max is given; at least one is required")
    _check_order(fields.min, fields.max, place)
    return Slab(fields.axis, fields.min, fields.max)


@dataclass(frozen=True)
class Box:
    """The atoms in a box along x, y and z, open where a side is missing."""

    minimum: tuple[float | None, ...]
    maximum: tuple[float | None, ...]

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool, from wrapped positions."""
        positions = wrapped_positions(atoms)
        mask = np.ones(len(atoms), dtype=bool)
        for axis in range(3):
            mask &= _between(positions[:, axis], self.minimum[axis], self.maximum[axis])
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Return `{box: …}`."""
        return {"box": {"min": list(self.minimum), "max": list(self.maximum)}}


Corner = Annotated[list[OpenCoordinate], listed("[x, y, z] in Å, null for an open side", 3)]


class _Box(Section):
    min: Corner
    max: Corner


def parse_box(value: object, place: Place, _: ParseRegion) -> Box:
    """Read the two corners, in which null stands for an open side."""
    fields = read(_Box, value, place)
    for axis, ends in zip(AXES, zip(fields.min, fields.max, strict=True), strict=True):
        _check_order(*ends, place, f" along {axis}")
    return Box(tuple(fields.min), tuple(fields.max))


def _check_order(
    minimum: float | None, maximum: float | None, place: Place, along: str = ""
) -> None:
    if minimum is not None and maximum is not None and not minimum < maximum:
        raise InputError(
            f"{place.key}: min {minimum:g} is not below max {maximum:g}{along}; for a region "
            "across the periodic boundary combine two with any, or use not"
        )


def _between(coordinate: Array, minimum: float | None, maximum: float | None) -> Mask:
    mask = np.ones(len(coordinate), dtype=bool)
    if minimum is not None:
        mask &= coordinate >= minimum - TOLERANCE
    if maximum is not None:
        mask &= coordinate <= maximum + TOLERANCE
    return mask
