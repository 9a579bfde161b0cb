"""Partitions that move, in words: `follow` and `update`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ase
import numpy as np

from duetto.atoms.periodic import Indices
from duetto.errors import InputError
from duetto.partition.regions.region import Region
from duetto.partition.regions.terms import parse_region
from duetto.settings.values import Place, choice, mapping, number, shown, suggestion, whole


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


def parse_follow(value: object, place: Place) -> Follow:
    """Read the seeds and the two lengths."""
    fields = mapping(value, place, ["seeds", "core", "blend"])
    return Follow(
        seeds=parse_region(fields["seeds"], place.at("seeds")),
        core=number(fields["core"], place.at("core"), above=0.0),
        blend=number(fields["blend"], place.at("blend"), above=0.0),
        place=place,
    )


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


def parse_update(value: object, place: Place) -> Update:
    """Read how often, how slowly, and by what.

    Raises:
        InputError: as everywhere; also where `leave` is not wider than `enter`.
    """
    known = ["average", "ramp", "seeds", "enter", "leave", "return"]
    fields = mapping(value, place, ["every"], known)
    seeds = None
    if "seeds" in fields:
        seeds = _quantity(fields["seeds"], place.at("seeds"))
        if "enter" not in fields:
            raise InputError(f"{place.at('enter').key}: missing; with seeds it takes min, max")
        enter = _bounds(fields["enter"], place.at("enter"))
        leave = _bounds(fields.get("leave", fields["enter"]), place.at("leave"))
    else:
        enter = Bounds(_share(fields.get("enter", 0.5), place.at("enter")))
        leave = Bounds(_share(fields.get("leave", enter.least), place.at("leave")))
    if leave.least > enter.least or leave.most < enter.most:
        raise InputError(
            f"{place.at('leave').key}: got {shown(fields.get('leave'))}, which is narrower than "
            "enter; allowed: bounds that hold all that enter holds"
        )
    return Update(
        every=whole(fields["every"], place.at("every"), least=1),
        average=whole(fields.get("average", 0), place.at("average"), least=0),
        ramp=whole(fields.get("ramp", 1), place.at("ramp"), least=1),
        seeds=seeds,
        enter=enter,
        leave=leave,
        return_within=_return(fields["return"], place.at("return")) if "return" in fields else None,
    )


def _return(value: object, place: Place) -> float:
    within = mapping(value, place, ["within"])["within"]
    return number(within, place.at("within"), above=0.0)


def _bounds(value: object, place: Place) -> Bounds:
    fields = mapping(value, place, [], ["min", "max"])
    if not fields:
        raise InputError(f"{place.key}: neither min nor max is given; at least one is required")
    ends = {key: number(fields[key], place.at(key), unit="") for key in fields}
    bounds = Bounds(ends.get("min", -math.inf), ends.get("max", math.inf))
    if bounds.least > bounds.most:
        raise InputError(f"{place.key}: min {bounds.least:g} is above max {bounds.most:g}")
    return bounds


def _share(value: object, place: Place) -> float:
    share = number(value, place, above=0.0, unit="")
    if share > 1.0:
        raise place.refuse(value, "a share of the time, above 0 and up to 1")
    return share


def _quantity(value: object, place: Place) -> Quantity:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise place.refuse(value, f"a mapping with one of {', '.join(QUANTITIES)}")
    ((name, settings),) = value.items()
    if name not in QUANTITIES:
        raise InputError(
            f"{place.key}: unknown quantity {shown(name)}{suggestion(name, QUANTITIES)}; "
            f"allowed: {', '.join(QUANTITIES)}"
        )
    return Quantity(str(name), QUANTITIES[name](settings, place.at(name)))


def _coordination(value: object, place: Place) -> dict[str, Any]:
    fields = mapping(value, place, ["cutoff"])
    return {"cutoff": number(fields["cutoff"], place.at("cutoff"), above=0.0)}


def _centrosymmetry(value: object, place: Place) -> dict[str, Any]:
    fields = mapping(value, place, ["cutoff"], ["neighbors"])
    count = whole(fields.get("neighbors", 12), place.at("neighbors"), least=2)
    if count % 2 or count > 24:
        raise place.at("neighbors").refuse(count, "an even number up to 24, such as 12 (fcc)")
    return {"cutoff": number(fields["cutoff"], place.at("cutoff"), above=0.0), "neighbors": count}


def _array(value: object, place: Place) -> dict[str, Any]:
    fields = mapping(value, place, ["name"])
    if not isinstance(fields["name"], str) or not fields["name"]:
        raise place.at("name").refuse(fields["name"], "the name of an array of the structure")
    return {"name": fields["name"]}


def _disagreement(value: object, place: Place) -> dict[str, Any]:
    fields = mapping(value, place, ["of"], ["shell"])
    return {
        "of": choice(fields["of"], place.at("of"), ["energies", "forces"]),
        "shell": number(fields.get("shell", 3.0), place.at("shell"), above=0.0),
    }


QUANTITIES = {
    "coordination": _coordination,
    "centrosymmetry": _centrosymmetry,
    "array": _array,
    "disagreement": _disagreement,
}
"""What seeds may go by, with the reader of its settings. Species are a region of their own."""
