"""What `duetto distil` is asked for, from a YAML file and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from duetto.errors import InputError
from duetto.settings.fields import Length, Section, count, listed, number, real
from duetto.settings.read import read
from duetto.settings.values import Place
from duetto.settings.yaml import apply_overrides, load_yaml


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a list of words")
    return value


def _wall(value: Any) -> float | None:
    return None if value is None else number(value, above=0.0)


def _ridge(value: Any) -> float | None:
    return None if value is None else number(value, above=0.0, unit="")


def _rows(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("a list of rows [l1, l2, l3, n]")
    return value


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("two lengths in Å, the smaller first")
    return value


Span = Annotated[
    tuple[Length, Length],
    listed("two lengths in Å, the smaller first", 2),
    AfterValidator(_ascending),
]
Words = Annotated[
    tuple[Annotated[str, PlainValidator(_word)], ...],
    listed("a list of words"),
    BeforeValidator(_several),
]
Whole = Annotated[int, count(0)]
Counts = Annotated[tuple[Whole, ...], listed("a list of whole numbers, one for each degree")]
Weight = Annotated[float, real(above=0.0, unit="")]
Product = Annotated[
    tuple[Whole, Whole, Whole, Whole], listed("a row [l1, l2, l3, n] of whole numbers", 4)
]


class Crystal(Section):
    """A cubic crystal of one atom per cell, at which the fit is held exactly.

    Attributes:
        symbol: of its atoms.
        lattice: fcc, bcc or sc.
        a: guess of the lattice constant, Å.
    """

    symbol: Annotated[str, PlainValidator(_word)]
    lattice: Literal["fcc", "bcc", "sc"]
    a: Annotated[float, real(above=0.5)]


class Made(Section):
    """Structures of the crystal that are made on the fly, how many of each.

    Attributes:
        strained: supercells under random strain, also rattled.
        rattled: supercells with random displacements.
        vacancy: rattled supercells without one atom.
        amplitude: Å, standard deviations between which displacements are drawn, one a structure.
        md: snapshots of HF's own dynamics at each of `temperature_K`.
        temperature_K: of the dynamics, K.
    """

    strained: Whole = 0
    rattled: Whole = 0
    vacancy: Whole = 0
    amplitude: Span = (0.02, 0.12)
    md: Whole = 0
    temperature_K: Annotated[
        tuple[Annotated[float, real(above=0.0, unit="K")], ...],
        listed("a list of temperatures in K"),
    ] = (300.0, 900.0)


class DistilSettings(Section):
    """All that a fit is told.

    Attributes:
        data, test: structure files to fit to, and to measure errors on.
        families: patterns for the `config_type` of frames; others are left out.
        every: of the frames of `data`, only every so many.
        species: of the expert, and of the structures that are fitted; other frames are left out.
        cutoff, inner: Å, see `duetto.kernels.linear`; structures with atoms closer than `inner`
            are left out, since the expert could not tell how close.
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

    data: Words = ()
    test: Words = ()
    families: Words = ("*",)
    every: Annotated[int, count(1)] = 1
    species: Words = ()
    cutoff: Length = 4.5
    inner: Length = 2.2
    radials: Counts = (5, 5, 5)
    three_body: Counts = (5, 5, 5)
    four_body: Annotated[tuple[Product, ...], BeforeValidator(_rows)] = ((0, 0, 0, 5),)
    wall: Annotated[float | None, PlainValidator(_wall)] = 2.0
    crystal: Crystal | None = None
    make: Made = Made()
    noise: Annotated[tuple[Weight, Weight, Weight], listed("three numbers: eV, eV/Å, eV", 3)] = (
        0.003,
        0.03,
        0.05,
    )
    ridge: Annotated[float | None, PlainValidator(_ridge)] = None
    folds: Annotated[int, count(2)] = 8
    largest_force: Length = 15.0
    seed: Whole = 0


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
        raise InputError(
            f"{config}: allowed: a mapping with the keys {', '.join(DistilSettings.model_fields)}"
        )
    apply_overrides(data, overrides)
    return settings_of(data)


def settings_of(data: Mapping[str, Any]) -> DistilSettings:
    """Settings of plain data; see `read_settings`."""
    return read(DistilSettings, data, Place("distil"))
