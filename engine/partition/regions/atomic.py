"""Regions that go by what an atom is: its species, its index."""

from dataclasses import dataclass, field, replace
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from duetto.errors import InputError
from duetto.partition.regions.region import Mask, ParseRegion
from duetto.settings.values import Place, entries, mapping, suggestion, whole

ELEMENTS = tuple(chemical_symbols[1:])


@dataclass(frozen=True)
class Species:
    """The atoms of the given chemical elements.

    An element that the structure lacks is a mistake, unless the region is `optional`: then it has
    no atoms there.
    """

    symbols: tuple[str, ...]
    place: Place = field(compare=False, repr=False)
    optional: bool = False

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError if the structure has no atom of an element."""
        present = np.array(atoms.get_chemical_symbols(), dtype=str)
        for symbol in self.symbols:
            if symbol not in present and not self.optional:
                kinds = ", ".join(sorted(set(present.tolist()))) or "no atoms"
                raise InputError(
                    f"{self.place.key}: no {symbol} in the structure, which has {kinds}; if some "
                    f"structures have none, {{symbols: [{', '.join(self.symbols)}], "
                    "optional: true} allows it"
                )
        return np.isin(present, self.symbols)

    def to_dict(self) -> dict[str, Any]:
        """Return `{species: […]}`, or `{species: {symbols: […], optional: true}}`."""
        symbols = list(self.symbols)
        return {"species": {"symbols": symbols, "optional": True} if self.optional else symbols}


def parse_species(value: object, place: Place, parse: ParseRegion) -> Species:
    """Read one chemical symbol or a list of them, or `{symbols, optional}`."""
    if isinstance(value, dict):
        fields = mapping(value, place, ["symbols"], ["optional"])
        optional = fields.get("optional", False)
        if not isinstance(optional, bool):
            raise place.at("optional").refuse(optional, "true or false")
        if isinstance(fields["symbols"], dict):
            raise place.at("symbols").refuse(fields["symbols"], "a chemical symbol or a list")
        species = parse_species(fields["symbols"], place.at("symbols"), parse)
        return replace(species, optional=optional)
    if isinstance(value, str):
        return Species((_symbol(value, place),), place)
    listed = entries(value, place, "a chemical symbol or a list of them, such as [C, O]")
    return Species(tuple(_symbol(item, place.at(i)) for i, item in enumerate(listed)), place)


def _symbol(value: object, place: Place) -> str:
    if isinstance(value, str) and value in ELEMENTS:
        return value
    if isinstance(value, bool):
        raise place.refuse(value, "a chemical symbol (YAML reads No as false: quote it)")
    near = suggestion(value, ELEMENTS) if isinstance(value, str) else ""
    raise place.refuse(value, "a chemical symbol, such as Pt" + near)


@dataclass(frozen=True)
class Indices:
    """The atoms of the given indices, counted from 0."""

    indices: tuple[int, ...]
    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError if the structure has no atom of an index."""
        mask = np.zeros(len(atoms), dtype=bool)
        for i, index in enumerate(self.indices):
            if index >= len(atoms):
                raise self.place.at(i).refuse(index, _allowed_index(len(atoms)))
            mask[index] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Return `{indices: […]}`."""
        return {"indices": list(self.indices)}


@dataclass(frozen=True)
class IndexRange:
    """The atoms `start` to `stop`, counted from 0, without `stop` itself."""

    start: int
    stop: int
    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError if the range ends beyond the last atom."""
        if self.stop > len(atoms):
            raise self.place.at("stop").refuse(self.stop, f"at most {len(atoms)}, all the atoms")
        index = np.arange(len(atoms))
        return (index >= self.start) & (index < self.stop)

    def to_dict(self) -> dict[str, Any]:
        """Return `{indices: {start, stop}}`."""
        return {"indices": {"start": self.start, "stop": self.stop}}


def _allowed_index(count: int) -> str:
    return f"0 to {count - 1} (the structure has {count} atoms, counted from 0)"


def parse_indices(value: object, place: Place, _: ParseRegion) -> Indices | IndexRange:
    """Read a list of indices, or `{start, stop}`."""
    if isinstance(value, dict):
        fields = mapping(value, place, ["start", "stop"])
        start = whole(fields["start"], place.at("start"), least=0)
        return IndexRange(start, whole(fields["stop"], place.at("stop"), least=start + 1), place)
    listed = entries(
        value, place, "a list of atom indices counted from 0, or a mapping with start and stop"
    )
    return Indices(tuple(whole(item, place.at(i), least=0) for i, item in enumerate(listed)), place)
