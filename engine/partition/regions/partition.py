"""From words to w: the complex region and the blend around it."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import ase
import numpy as np

from duetto.atoms.periodic import Array, pairs_within
from duetto.errors import InputError
from duetto.partition.regions.geometric import distance_to
from duetto.partition.regions.moving import Follow, Update, parse_follow, parse_update
from duetto.partition.regions.region import Region
from duetto.partition.regions.resolved import Partition, same_atoms, union
from duetto.partition.regions.terms import parse_region
from duetto.settings.fields import Length, Section, one_of
from duetto.settings.read import read
from duetto.settings.values import Place

PROFILES: dict[str, Callable[[Array], Array]] = {
    "cosine": lambda x: (1 + np.cos(np.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "smoothstep": lambda x: 1 - x * x * (3 - 2 * x),
}
"""w as a function of x = distance / width, from 1 at x = 0 to 0 at x = 1."""


class RegionCounts(NamedTuple):
    """How many atoms each region holds."""

    n_complex: int
    n_blend: int
    n_simple: int


def count_regions(weights: Array) -> RegionCounts:
    """Count the atoms with w = 1, with w in between, and with w = 0.

    Args:
        weights: (A,) the weight of the HF expert per atom.
    """
    weights = np.asarray(weights)
    n_complex, n_simple = int((weights == 1).sum()), int((weights == 0).sum())
    return RegionCounts(n_complex, len(weights) - n_complex - n_simple, n_simple)


@dataclass(frozen=True)
class Blend:
    """The layer around the complex region in which both experts share an atom.

    Attributes:
        width: thickness in Å; at this distance from the nearest complex atom w is 0.
        profile: how w falls: one of `PROFILES`.
    """

    width: float
    profile: str = "cosine"

    def weights(self, inside: np.ndarray[Any, np.dtype[np.bool_]], atoms: ase.Atoms) -> Array:
        """Return (A,) w: 1 where `inside`, falling to 0 over `width` Å, 0 beyond."""
        distance = distance_to(atoms.positions[inside], atoms, self.width)
        falling = PROFILES[self.profile](np.minimum(distance / self.width, 1.0))
        return np.where(inside, 1.0, np.clip(falling, 0.0, 1.0))

    def to_dict(self) -> dict[str, Any]:
        """Return `{width, profile}`."""
        return {"width": self.width, "profile": self.profile}


class _Regions(Section):
    complex: Any = "none"
    blend: Any = None
    follow: Any = None
    update: Any = None


@dataclass(frozen=True)
class Regions:
    """A partition in words, which resolves to one weight per atom of a structure.

    Attributes:
        complex: the atoms that the HF expert computes alone (w = 1).
        blend: the layer around them that both compute, or None.
        follow: what the weights follow besides, or None.
        update: how the partition is resolved again in a run, or None.
    """

    complex: Region
    blend: Blend | None = None
    follow: Follow | None = None
    update: Update | None = None

    @classmethod
    def from_dict(
        cls, data: object, *, folder: str | os.PathLike[str] = ".", key: str = "regions"
    ) -> "Regions":
        """Read a partition from plain data, as YAML gives it.

        Args:
            data: `{"complex": region, "blend": {"width": …, "profile": …}}`, and one of
                `follow: {seeds, core, blend}` and `update: {every, …}` for one that moves.
            folder: what relative names of files start from.
            key: how errors call the place where `data` stands.

        Raises:
            InputError: an unknown or missing key, a wrong type, a value out of range; names
                the path of keys, what was given and what is allowed.
        """
        place = Place(key, folder=Path(folder))
        fields = read(_Regions, data, place)
        given = fields.model_fields_set
        if {"follow", "update"} <= given:
            raise InputError(f"{key}: both follow and update are given; allowed: one of them")
        if not given & {"complex", "follow"}:
            raise InputError(f"{key}.complex: missing; it is required")
        parsers = {"blend": _parse_blend, "follow": parse_follow, "update": parse_update}
        parts: dict[str, Any] = {
            name: parse(getattr(fields, name), place.at(name))
            for name, parse in parsers.items()
            if getattr(fields, name) is not None
        }
        inner = parse_region(fields.complex, place.at("complex"))
        return cls(inner, **parts)

    def weights(self, atoms: ase.Atoms | Iterable[ase.Atoms]) -> Array:
        """Return (A,) float64 the weight w of the HF expert per atom, in [0, 1].

        Args:
            atoms: a structure, or several with the same atoms in the same order, such as the
                images of a path: then each atom has the largest weight that any of them gives it.

        Raises:
            InputError: the partition does not fit the structure (a species or an index it does
                not have, a file of other atoms), its cell is flat or lacks a vector, the
                structures have not the same atoms, or the partition moves.
        """
        if self.follow is not None or self.update is not None:
            moving = "follow" if self.follow is not None else "update"
            raise InputError(
                f"regions.{moving}: a partition that moves has no weights of its own; only a run "
                f"(duetto run) can use it. Here leave {moving} out"
            )
        return union([self._weights(structure) for structure in same_atoms(atoms)])

    def static_weights(self, atoms: ase.Atoms) -> Array:
        """Return (A,) the weights that do not move: those of `complex` and `blend` alone.

        Raises:
            InputError: as for `weights`.
        """
        return self._weights(atoms)

    def partition(self, atoms: ase.Atoms | Iterable[ase.Atoms]) -> Partition:
        """Return the partition of one or several structures, to be shared by calculators.

        Raises:
            InputError: as for `weights`.
        """
        structures = same_atoms(atoms)
        return Partition(self.weights(structures), structures, self)

    def _weights(self, atoms: ase.Atoms) -> Array:
        inside = self.complex.select(atoms)
        if self.blend is None:
            return inside.astype(np.float64)
        return self.blend.weights(inside, atoms)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back to an equal partition."""
        data: dict[str, Any] = {"complex": self.complex.to_dict()}
        if self.blend is not None:
            data["blend"] = self.blend.to_dict()
        if self.follow is not None:
            data["follow"] = self.follow.to_dict()
        if self.update is not None:
            data["update"] = self.update.to_dict()
        return data


def followed(static: Array, seeds: Array, follow: Follow, atoms: ase.Atoms) -> Array:
    """(A,) w = 1 − (1 − w_static) Π_s g((|r_i − r_s| − core) / blend), for a look before a run.

    Args:
        static: (A,) weights that do not move.
        seeds: (S, 3) Å.
        follow: core and blend.
        atoms: positions, cell, pbc.
    """
    reach = follow.core + follow.blend
    found = pairs_within(atoms.positions, seeds, atoms.cell.array, atoms.pbc, reach)
    x = np.clip((found.distance - follow.core) / follow.blend, 0.0, 1.0)
    q = 1.0 - static
    np.multiply.at(q, found.query, x**3 * (10.0 + x * (6.0 * x - 15.0)))
    return 1.0 - q


class _Blend(Section):
    width: Length
    profile: Annotated[str, one_of(PROFILES)] = "cosine"


def _parse_blend(value: object, place: Place) -> Blend:
    if value == "none":
        raise InputError(f'{place.key}: got "none"; for an abrupt partition leave blend out')
    fields = read(_Blend, value, place)
    return Blend(fields.width, fields.profile)
