"""Partitions that move, in words: `follow` and `update`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import ase
import numpy as np
from pydantic import Field, PlainValidator, TypeAdapter

from duetto.atoms.periodic import Indices
from duetto.errors import InputError
from duetto.partition.regions.region import Region
from duetto.partition.regions.terms import parse_region
from duetto.settings.fields import Length, Section, count, number, real
from duetto.settings.read import read, read_as
from duetto.settings.values import Place, shown, suggestion


@dataclass(frozen=True)
class Follow:
    """Weights that are a function of the distances to seeds.

    Attributes:
        seeds: the atoms that are followed, chosen at the start.
        core: Å around a seed in which w = 1.
        blend: Å further out over which w falls to 0.
    """

    seeds: Region
    core: float
    blend: float
    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Indices:
        """Return (S,) indices of the seeds; InputError if there are none."""
        found = np.flatnonzero(self.seeds.select(atoms))
        if not len(found):
            raise InputError(
                f"{self.place.at('seeds').key}: holds no atom of the structure, so there is "
                "nothing to follow; leave regions.follow out, or name other seeds"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return `{seeds, core, blend}`."""
        return {"seeds": self.seeds.to_dict(), "core": self.core, "blend": self.blend}


class _Follow(Section):
    seeds: Any
    core: Length
    blend: Length


def parse_follow(value: object, place: Place) -> Follow:
    """Read the seeds and the two lengths."""
    fields = read(_Follow, value, place)
    seeds = parse_region(fields.seeds, place.at("seeds"))
    return Follow(seeds, fields.core, fields.blend, place)


@dataclass(frozen=True)
class Quantity:
    """A number per atom that seeds are chosen by.

    Attributes:
        name: one of `QUANTITIES`.
        settings: what it needs, by name.
    """

    name: str
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return `{name: settings}`."""
        return {self.name: dict(self.settings)}


@dataclass(frozen=True)
class Bounds:
    """From `least` to `most`, both included."""

    least: float = -math.inf
    most: float = math.inf

    def hold(self, values: Any) -> Any:
        """(A,) whether each of `values` (A,) lies between."""
        return (values >= self.least) & (values <= self.most)

    def to_dict(self) -> dict[str, float]:
        """Return `{min, max}`, without an open side."""
        ends = {"min": self.least, "max": self.most}
        return {name: end for name, end in ends.items() if math.isfinite(end)}


@dataclass(frozen=True)
class Update:
    """A partition that is resolved again and again while the atoms move.

    Attributes:
        every: steps between two resolutions.
        average: steps over which the quantity, or the answer of the region, is averaged with
            exponentially falling weight; 0: only the present counts.
        ramp: steps in which a weight goes all the way from 0 to 1.
        seeds: what the seeds go by; None: the region `complex` is asked itself.
        enter: bounds within which an atom becomes a seed. Without `seeds`: the share of the time,
            as averaged, from which on an atom is complex.
        leave: wider bounds, outside of which it stops being one.
        return_within: Å around an atom in which the velocities pay for its changed weight; None:
            what changes cost is booked alone.
    """

    every: int
    average: int
    ramp: int
    seeds: Quantity | None
    enter: Bounds
    leave: Bounds
    return_within: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `parse_update` reads back."""
        data: dict[str, Any] = {"every": self.every, "average": self.average, "ramp": self.ramp}
        if self.return_within is not None:
            data["return"] = {"within": self.return_within}
        if self.seeds is None:
            return {**data, "enter": self.enter.least, "leave": self.leave.least}
        bounds = {"enter": self.enter.to_dict(), "leave": self.leave.to_dict()}
        return {**data, "seeds": self.seeds.to_dict(), **bounds}


def _share(value: Any) -> float:
    share = number(value, above=0.0, unit="")
    if share > 1.0:
        raise ValueError("a share of the time, above 0 and up to 1")
    return share


_SHARE = TypeAdapter(Annotated[float, PlainValidator(_share)])


class _Update(Section):
    every: Annotated[int, count(1)]
    average: Annotated[int, count(0)] = 0
    ramp: Annotated[int, count(1)] = 1
    seeds: Any = None
    enter: Any = 0.5
    leave: Any = None
    returned: Any = Field(None, alias="return")


class _Return(Section):
    within: Length


class _Bounds(Section):
    min: Annotated[float, real(unit="")] = -math.inf
    max: Annotated[float, real(unit="")] = math.inf


def parse_update(value: object, place: Place) -> Update:
    """Read how often, how slowly, and by what.

    Raises:
        InputError: as everywhere; also where `leave` is not wider than `enter`.
    """
    fields = read(_Update, value, place)
    given = fields.model_fields_set
    seeds = None
    if "seeds" in given:
        seeds = _quantity(fields.seeds, place.at("seeds"))
        if "enter" not in given:
            raise InputError(f"{place.at('enter').key}: missing; with seeds it takes min, max")
        enter = _bounds(fields.enter, place.at("enter"))
        leave = _bounds(fields.leave, place.at("leave")) if "leave" in given else enter
    else:
        enter = Bounds(read_as(_SHARE, fields.enter, place.at("enter")))
        leave = enter
        if "leave" in given:
            leave = Bounds(read_as(_SHARE, fields.leave, place.at("leave")))
    if leave.least > enter.least or leave.most < enter.most:
        raise InputError(
            f"{place.at('leave').key}: got {shown(fields.leave)}, which is narrower than "
            "enter; allowed: bounds that hold all that enter holds"
        )
    returned = None
    if "returned" in given:
        returned = read(_Return, fields.returned, place.at("return")).within
    return Update(fields.every, fields.average, fields.ramp, seeds, enter, leave, returned)


def _bounds(value: object, place: Place) -> Bounds:
    ends = read(_Bounds, value, place)
    if not ends.model_fields_set:
        raise InputError(f"{place.key}: neither min nor max is given; at least one is required")
    if ends.min > ends.max:
        raise InputError(f"{place.key}: min {ends.min:g} is above max {ends.max:g}")
    return Bounds(ends.min, ends.max)


def _quantity(value: object, place: Place) -> Quantity:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise place.refuse(value, f"a mapping with one of {', '.join(QUANTITIES)}")
    ((name, settings),) = value.items()
    if name not in QUANTITIES:
        raise InputError(
            f"{place.key}: unknown quantity {shown(name)}{suggestion(name, QUANTITIES)}; "
            f"allowed: {', '.join(QUANTITIES)}"
        )
    fields = read(QUANTITIES[name], settings, place.at(name))
    return Quantity(str(name), fields.model_dump())


def _even(value: Any) -> int:
    if not isinstance(value, int) or value % 2 or not 2 <= value <= 24:
        raise ValueError("an even number up to 24, such as 12 (fcc)")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the name of an array of the structure")
    return value


class _Coordination(Section):
    cutoff: Length


class _Centrosymmetry(Section):
    cutoff: Length
    neighbors: Annotated[int, PlainValidator(_even)] = 12


class _Array(Section):
    name: Annotated[str, PlainValidator(_name)]


class _Disagreement(Section):
    of: Literal["energies", "forces"]
    shell: Length = 3.0


class _Extrapolation(Section):
    """No settings: `extrapolation: {}`."""


QUANTITIES: dict[str, type[Section]] = {
    "coordination": _Coordination,
    "centrosymmetry": _Centrosymmetry,
    "array": _Array,
    "disagreement": _Disagreement,
    "extrapolation": _Extrapolation,
}
"""What seeds may go by, with its settings. Species are a region of their own."""
