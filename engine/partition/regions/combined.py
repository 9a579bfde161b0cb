"""Regions made of regions: `any`, `all_of`, `not`, and the words `all` and `none`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import ase
import numpy as np
from pydantic import TypeAdapter

from duetto.errors import InputError
from duetto.partition.regions.region import Mask, ParseRegion, Region
from duetto.settings.fields import listed
from duetto.settings.read import read_as
from duetto.settings.values import Place


@dataclass(frozen=True)
class Word:
    """`all`: every atom; `none`: no atom."""

    word: str

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        return np.full(len(atoms), self.word == "all")

    def to_dict(self) -> str:
        """Return the word."""
        return self.word


SEEDS = "duetto_seeds"
"""Array of the structure, (A,) bool, in which an updated partition says which atoms are seeds."""


@dataclass(frozen=True)
class SeedsWord:
    """`seeds`: the atoms that an updated partition's quantity picks at the time."""

    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError where nothing picks seeds."""
        if SEEDS not in atoms.arrays:
            raise InputError(
                f"{self.place.key}: got seeds, which only regions.update.seeds picks; add it, or "
                "use another region"
            )
        return np.asarray(atoms.arrays[SEEDS], dtype=bool)

    def to_dict(self) -> str:
        """Return the word."""
        return "seeds"


@dataclass(frozen=True)
class AnyOf:
    """The atoms that at least one of the regions holds."""

    regions: tuple[Region, ...]

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        return np.any([region.select(atoms) for region in self.regions], axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Return `{any: […]}`."""
        return {"any": [region.to_dict() for region in self.regions]}


@dataclass(frozen=True)
class AllOf:
    """The atoms that every one of the regions holds."""

    regions: tuple[Region, ...]

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        return np.all([region.select(atoms) for region in self.regions], axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Return `{all_of: […]}`."""
        return {"all_of": [region.to_dict() for region in self.regions]}


@dataclass(frozen=True)
class Not:
    """The atoms that the region does not hold."""

    region: Region

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool."""
        return ~self.region.select(atoms)

    def to_dict(self) -> dict[str, Any]:
        """Return `{not: …}`."""
        return {"not": self.region.to_dict()}


_REGIONS = TypeAdapter(Annotated[list[Any], listed("a list of regions, at least one")])


def parse_any(value: object, place: Place, parse: ParseRegion) -> AnyOf:
    """Read a list of regions."""
    return AnyOf(_parse_list(value, place, parse))


def parse_all_of(value: object, place: Place, parse: ParseRegion) -> AllOf:
    """Read a list of regions."""
    return AllOf(_parse_list(value, place, parse))


def parse_not(value: object, place: Place, parse: ParseRegion) -> Not:
    """Read one region."""
    return Not(parse(value, place))


def _parse_list(
    value: object, place: Place, parse: Callable[[object, Place], Region]
) -> tuple[Region, ...]:
    inner = read_as(_REGIONS, value, place)
    return tuple(parse(item, place.at(i)) for i, item in enumerate(inner))
