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
Weight = Annotated[float, real(above=1e-9, unit="")]
Product = Annotated[
    tuple[Whole, Whole, Whole, Whole], listed("a row [l1, l2, l3, n] of whole numbers", 4)
]


def _lengths(value: Any) -> PairLengths:
    if not isinstance(value, dict):
        return number(value, above=0.0)
    if "default" not in value or not all(isinstance(key, str) for key in value):
        raise ValueError(_PAIRS)
    return {key: number(length, above=0.0) for key, length in value.items()}


def _wall(value: Any) -> PairLengths | None:
    return None if value is None else _lengths(value)


PairLengths = float | dict[str, float]
"""Å: one for all pairs of species, or `default` and those of some, such as `C-O`."""

_PAIRS = "a number Å of 0 < x, or a mapping of default and pairs such as C-O to such numbers"


def pair_matrix(
    lengths: PairLengths, species: Sequence[str], key: str
) -> tuple[tuple[float, ...], ...]:
    """Lengths (T, T), Å, by the species of the expert.

    Args:
        lengths: as in the settings.
        species: symbols, T of them.
        key: of the setting, for the message.

    Raises:
        InputError: a pair is none of these species.
    """
    table = lengths if isinstance(lengths, dict) else {"default": lengths}
    known = {f"{a}-{b}": frozenset((a, b)) for a in species for b in species}
    for name in table:
        if name != "default" and name not in known:
            raise InputError(
                f"{key}: got {name!r}; allowed: default, and pairs of {', '.join(species)}, such "
                f"as {species[0]}-{species[-1]}"
            )
    given = {known[name]: length for name, length in table.items() if name != "default"}
    return tuple(
        tuple(given.get(frozenset((a, b)), table["default"]) for b in species) for a in species
    )


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


class Slow(Section):
    """What keeps the forces' difference from HF slow: rows of its change along short stretches.

    From each structure HF's own dynamics at constant energy is followed, and the forces' change
    from look to look is fitted beside the forces. What is fast changes most.

    Attributes:
        noise: eV/Å, what a change weighs.
        families: patterns for the `config_type` of the structures to start from.
        temperature_K: of the velocities at the start, K.
        timestep_fs: of the dynamics.
        steps: from look to look.
        looks: how many.
    """

    noise: Weight = 0.01
    families: Words = ("*",)
    temperature_K: Annotated[float, real(above=0.0, unit="K")] = 600.0
    timestep_fs: Annotated[float, real(above=0.0, unit="fs")] = 1.0
    steps: Annotated[int, count(1)] = 4
    looks: Annotated[int, count(1)] = 2


class DistilSettings(Section):
    """All that a fit is told.

    Attributes:
        data, test: structure files to fit to, and to measure errors on.
        families: patterns for the `config_type` of frames; others are left out.
        every: of the frames of `data`, only every so many.
        species: of the expert, and of the structures that are fitted; other frames are left out.
        cutoff, inner: Å, see `duetto.kernels.linear`, each for all pairs of species, or by pair;
            structures with atoms closer than `inner` are left out, since the expert could not tell
            how close.
        radials, three_body, four_body: the products, see `LinearDescription`.
        wall: Å, where ZBL repulsion ends, likewise; None for no wall.
        crystal: where lattice constant, energy and elastic constants are HF's; None for no
            constraints.
        make: structures made on the fly.
        slow: how the difference from HF is kept slow, for multiple time steps; None: it is not.
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
    cutoff: Annotated[PairLengths, PlainValidator(_lengths)] = 4.5
    inner: Annotated[PairLengths, PlainValidator(_lengths)] = 2.2
    radials: Counts = (5, 5, 5)
    three_body: Counts = (5, 5, 5)
    four_body: Annotated[tuple[Product, ...], BeforeValidator(_rows)] = ((0, 0, 0, 5),)
    wall: Annotated[PairLengths | None, PlainValidator(_wall)] = 2.0
    crystal: Crystal | None = None
    make: Made = Made()
    slow: Slow | None = None
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
