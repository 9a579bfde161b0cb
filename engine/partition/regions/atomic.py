"""Regions that go by what an atom is: its species, its index."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import ase
import numpy as np
from ase.data import chemical_symbols
from pydantic import BeforeValidator, PlainValidator, StrictBool, TypeAdapter

from duetto.errors import InputError
from duetto.partition.regions.region import Mask, ParseRegion
from duetto.settings.fields import Section, count, listed
from duetto.settings.read import read, read_as
from duetto.settings.values import Place, suggestion

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


def _symbol(value: Any) -> str:
    if isinstance(value, str) and value in ELEMENTS:
        return value
    if isinstance(value, bool):
        raise ValueError("a chemical symbol (YAML reads No as false: quote it)")
    near = suggestion(value, ELEMENTS) if isinstance(value, str) else ""
    raise ValueError("a chemical symbol, such as Pt" + near)


Symbol = Annotated[str, PlainValidator(_symbol)]
Symbols = Annotated[
    tuple[Symbol, ...], listed("a chemical symbol or a list of them, such as [C, O]")
]
OneOrMore = Annotated[
    Symbols, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
_ONE, _SOME = TypeAdapter(Symbol), TypeAdapter(Symbols)


class _Species(Section):
    symbols: Any
    optional: StrictBool = False


def parse_species(value: object, place: Place, _: ParseRegion) -> Species:
    """Read one chemical symbol or a list of them, or `{symbols, optional}`."""
    if not isinstance(value, dict):
        return Species(_symbols(value, place), place)
    fields = read(_Species, value, place)
    return Species(_symbols(fields.symbols, place.at("symbols")), place, fields.optional)


def _symbols(value: object, place: Place) -> tuple[str, ...]:
    if isinstance(value, str):
        return (read_as(_ONE, value, place),)
    symbols: tuple[str, ...] = read_as(_SOME, value, place)
    return symbols


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


Index = Annotated[int, count(0)]
_INDICES = TypeAdapter(
    Annotated[
        list[Index],
        listed("a list of atom indices counted from 0, or a mapping with start and stop"),
    ]
)


class _Range(Section):
    start: Index
    stop: Index


def parse_indices(value: object, place: Place, _: ParseRegion) -> Indices | IndexRange:
    """Read a list of indices, or `{start, stop}`."""
    if isinstance(value, dict):
        ends = read(_Range, value, place)
        if ends.stop <= ends.start:
            raise place.at("stop").refuse(ends.stop, f"a whole number >= {ends.start + 1}")
        return IndexRange(ends.start, ends.stop, place)
    return Indices(tuple(read_as(_INDICES, value, place)), place)
