"""What `duetto distil` is asked for, from a YAML file and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duetto.errors import InputError
from duetto.settings.values import Place, choice, entries, mapping, number, whole
from duetto.settings.yaml import apply_overrides, load_yaml

LATTICES = ("fcc", "bcc", "sc")
_KEYS = (
    "data",
    "test",
    "families",
    "every",
    "species",
    "cutoff",
    "inner",
    "radials",
    "three_body",
    "four_body",
    "wall",
    "crystal",
    "make",
    "noise",
    "ridge",
    "folds",
    "largest_force",
    "seed",
)


@dataclass(frozen=True)
class Crystal:
    """A cubic crystal of one atom per cell, at which the fit is held exactly.

    Attributes:
        symbol: of its atoms.
        lattice: fcc, bcc or sc.
        a: guess of the lattice constant, Å.
    """

    symbol: str
    lattice: str
    a: float


@dataclass(frozen=True)
class Made:
    """Structures of the crystal that are made on the fly, how many of each.

    Attributes:
        strained: supercells under random strain, also rattled.
        rattled: supercells with random displacements.
        vacancy: rattled supercells without one atom.
        md: snapshots of HF's own dynamics at each of `temperature_K`.
        temperature_K: of the dynamics, K.
    """

    strained: int = 0
    rattled: int = 0
    vacancy: int = 0
    md: int = 0
    temperature_K: tuple[float, ...] = (300.0, 900.0)


@dataclass(frozen=True)
class DistilSettings:
    """All that a fit is told.

    Attributes:
        data, test: structure files to fit to, and to measure errors on.
        families: patterns for the `config_type` of frames; others are left out.
        every: of the frames of `data`, only every so many.
        species: of the expert, and of the structures that are fitted; other frames are left out.
        cutoff, inner: Å, see `duetto.kernels.linear`.
        radials, three_body, four_body: the products, see `LinearDescription`.
        wall: Å, where ZBL repulsion ends; None for no wall.
        crystal: where lattice constant, energy and elastic constants are HF's; None for no
            constraints.
        make: structures made on the fly.
        noise: eV per atom, eV/Å and eV per atom: what site energies, forces and virials weigh.
        ridge: strength of the regularisation, relative; None: chosen by cross-validation.
        folds: parts of the data for that.
        largest_force: eV/Å, frames with larger forces of HF are left out.
        seed: of what is random.
    """

    data: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    families: tuple[str, ...] = ("*",)
    every: int = 1
    species: tuple[str, ...] = ()
    cutoff: float = 4.5
    inner: float = 2.2
    radials: tuple[int, ...] = (5, 5, 5)
    three_body: tuple[int, ...] = (5, 5, 5)
    four_body: tuple[tuple[int, int, int, int], ...] = ((0, 0, 0, 5),)
    wall: float | None = 2.0
    crystal: Crystal | None = None
    make: Made = Made()
    noise: tuple[float, float, float] = (0.003, 0.03, 0.05)
    ridge: float | None = None
    folds: int = 8
    largest_force: float = 15.0
    seed: int = 0


def read_settings(
    config: str | os.PathLike[str] | None, overrides: Sequence[str] = ()
) -> DistilSettings:
    """Settings from a YAML file, or the defaults, with overrides `key=value`.

    Raises:
        InputError: an unknown key, a value of the wrong type or out of range, by name.
    """
    data: Any = {} if config is None else load_yaml(config)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError(f"{config}: allowed: a mapping with the keys {', '.join(_KEYS)}")
    apply_overrides(data, overrides)
    return settings_of(data)


def settings_of(data: Mapping[str, Any]) -> DistilSettings:
    """Settings of plain data; see `read_settings`."""
    place = Place("distil")
    given = dict(mapping(data, place, (), _KEYS))
    fields: dict[str, Any] = {}
    for key in ("data", "test", "families", "species"):
        if key in given:
            listed = [given[key]] if isinstance(given[key], str) else given[key]
            words = entries(listed, place.at(key), "a list of words")
            if not all(isinstance(word, str) for word in words):
                raise place.at(key).refuse(listed, "a list of words")
            fields[key] = tuple(words)
    for key in ("cutoff", "inner", "largest_force"):
        if key in given:
            fields[key] = number(given[key], place.at(key), above=0.0)
    for key, least in (("every", 1), ("folds", 2), ("seed", 0)):
        if key in given:
            fields[key] = whole(given[key], place.at(key), least=least)
    for key in ("radials", "three_body"):
        if key in given:
            fields[key] = _counts(given[key], place.at(key))
    fields |= _products_and_terms(given, place)
    return DistilSettings(**fields)


def _counts(value: object, place: Place) -> tuple[int, ...]:
    listed = entries(value, place, "a list of whole numbers, one for each degree")
    return tuple(whole(item, place.at(i), least=0) for i, item in enumerate(listed))


def _products_and_terms(given: Mapping[str, Any], place: Place) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "four_body" in given:
        at, rows = place.at("four_body"), given["four_body"]
        if not isinstance(rows, list):
            raise at.refuse(rows, "a list of rows [l1, l2, l3, n]")
        fields["four_body"] = tuple(_counts(row, at.at(i)) for i, row in enumerate(rows))
    if "wall" in given:
        wall = given["wall"]
        fields["wall"] = None if wall is None else number(wall, place.at("wall"), above=0.0)
    if "ridge" in given:
        ridge = given["ridge"]
        at = place.at("ridge")
        fields["ridge"] = None if ridge is None else number(ridge, at, above=0.0, unit="")
    if "noise" in given:
        at = place.at("noise")
        listed = entries(given["noise"], at, "three numbers: eV, eV/Å, eV", count=3)
        fields["noise"] = tuple(
            number(item, at.at(i), above=0.0, unit="") for i, item in enumerate(listed)
        )
    if given.get("crystal") is not None:
        fields["crystal"] = _crystal(given["crystal"], place.at("crystal"))
    if "make" in given:
        fields["make"] = _made(given["make"], place.at("make"))
    return fields


def _crystal(value: object, place: Place) -> Crystal:
    told = mapping(value, place, ("symbol", "lattice", "a"))
    if not isinstance(told["symbol"], str):
        raise place.at("symbol").refuse(told["symbol"], "a chemical symbol")
    lattice = choice(told["lattice"], place.at("lattice"), LATTICES)
    return Crystal(told["symbol"], lattice, number(told["a"], place.at("a"), above=0.5))


def _made(value: object, place: Place) -> Made:
    told = mapping(value, place, (), ("strained", "rattled", "vacancy", "md", "temperature_K"))
    fields: dict[str, Any] = {
        key: whole(count, place.at(key), least=0)
        for key, count in told.items()
        if key != "temperature_K"
    }
    if "temperature_K" in told:
        at = place.at("temperature_K")
        listed = entries(told["temperature_K"], at, "a list of temperatures in K")
        fields["temperature_K"] = tuple(
            number(item, at.at(i), above=0.0, unit="K") for i, item in enumerate(listed)
        )
    return Made(**fields)
