"""Regions as LAMMPS atom types.

A type is a chemical symbol and a region: `Pt` is computed by HF, `Pt_simple` by LF, `Pt_blend` by
both, with the weight of each atom in the property `d_duetto`. Types are known on ghost atoms and
travel with their atoms through data and restart files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duetto.errors import InputError
from duetto.experts.base import Expert, types_of
from duetto.experts.pair import ExpertPair
from duetto.settings.values import suggestion

SIMPLE, BLEND = "_simple", "_blend"
TERMS = ("mixture", "fast", "slow")


@dataclass(frozen=True)
class AtomType:
    """What a LAMMPS atom type means.

    Attributes:
        symbol: chemical symbol.
        weight: the share of HF in the atom's energy; None where each atom has its own.
    """

    symbol: str
    weight: float | None

    @property
    def name(self) -> str:
        """As pair_coeff has it."""
        return self.symbol + (BLEND if self.weight is None else "" if self.weight else SIMPLE)

    def roles(self, terms: str) -> tuple[str, ...]:
        """The experts that compute such an atom, for a choice of TERMS."""
        if terms == "fast":
            return ("lf",)
        if terms == "slow":
            return () if self.weight == 0.0 else ("hf", "lf")
        if self.weight is None:
            return ("hf", "lf")
        return ("hf",) if self.weight else ("lf",)


def parse_type(name: str) -> AtomType:
    """Inverse of `AtomType.name`."""
    for ending, weight in ((SIMPLE, 0.0), (BLEND, None)):
        if name.endswith(ending):
            return AtomType(name.removesuffix(ending), weight)
    return AtomType(name, 1.0)


def parse_types(names: Sequence[str], pair: ExpertPair, terms: str) -> list[AtomType]:
    """The types of pair_coeff, checked against the pair.

    Raises:
        InputError: a type is not known, or needs an expert that the pair lacks.
    """
    types = []
    for name in names:
        kind = parse_type(name)
        for role in kind.roles(terms) or ("lf",):
            expert = pair.experts.get(role)
            if expert is None:
                raise InputError(f"atom type {name} needs the expert {role}, which the pair lacks")
            if hasattr(expert, "receptive_field"):
                raise InputError(
                    f"the expert {role} ({expert.kind}) passes messages and sees beyond its "
                    "neighbours, and LAMMPS hands over neighbours alone; use duetto run"
                )
            if kind.symbol not in expert.species:
                allowed = ", ".join(expert.species)
                raise InputError(
                    f"atom type {name}: the expert {role} does not know {kind.symbol}"
                    f"{suggestion(kind.symbol, expert.species)}; it knows {allowed}, each "
                    f"also with {SIMPLE} or {BLEND}"
                )
        types.append(kind)
    return types


def atom_kinds(symbols: Sequence[str], weights: ArrayLike) -> list[AtomType]:
    """The type of every atom, from its symbol and its weight in [0, 1]."""
    kinds = []
    for symbol, weight in zip(symbols, np.asarray(weights, dtype=np.float64), strict=True):
        own = None if 0.0 < weight < 1.0 else float(weight)
        kinds.append(AtomType(symbol, own))
    return kinds


def cutoffs_between(types: Sequence[AtomType], pair: ExpertPair, terms: str) -> NDArray[np.float64]:
    """(T, T) Å: how far a centre of one type sees neighbours of another."""
    reach = np.zeros((len(types), len(types)))
    for i, centre in enumerate(types):
        for role in centre.roles(terms):
            expert = pair.experts[role]
            known = types_of(expert)
            for j, neighbor in enumerate(types):
                if neighbor.symbol in known:
                    cutoff = expert.cutoff(centre.symbol, neighbor.symbol)
                    reach[i, j] = max(reach[i, j], cutoff)
    return reach


def expert_types(types: Sequence[AtomType], expert: Expert) -> NDArray[np.int64]:
    """(T,) the expert's type for each LAMMPS type; −1 where it does not know the species."""
    known = types_of(expert)
    return np.array([known.get(kind.symbol, -1) for kind in types], dtype=np.int64)


def coefficients(role: str, weight: NDArray[np.float64], terms: str) -> NDArray[np.float64]:
    """What an expert's energy of each atom counts for, from HF weights (n,).

    The mixture is w E^HF + (1 − w) E^LF; its fast term E^LF and its slow term w (E^HF − E^LF).
    """
    if terms == "fast":
        return np.full_like(weight, 1.0 if role == "lf" else 0.0)
    if terms == "slow":
        return weight if role == "hf" else -weight
    return weight if role == "hf" else 1.0 - weight
