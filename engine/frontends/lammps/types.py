"""Regions as LAMMPS atom types.

A type is a chemical symbol and a region: `Pt` is computed by HF, `Pt_simple` by LF, `Pt_blend` by
both, with the weight of each atom in the property `d_duetto`. Where weights follow atoms, these are
the weights that do not move, and `C_seed` is a C that is followed. Types are known on ghost atoms
and travel with their atoms through data and restart files. NULL is of other pair styles alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duetto.errors import InputError
from duetto.experts.base import Expert, types_of
from duetto.experts.pair import ExpertPair
from duetto.potential.terms import Term, by_expert, mixture_terms
from duetto.settings.values import suggestion

SIMPLE, BLEND, SEED = "_simple", "_blend", "_seed"
ABSENT = "NULL"
TERMS = ("mixture", "fast", "slow")


@dataclass(frozen=True)
class AtomType:
    """What a LAMMPS atom type means.

    Attributes:
        symbol: chemical symbol.
        weight: the share of HF in the atom's energy; None where each atom has its own.
        seed: whether weights follow such atoms; its own is 1.
    """

    symbol: str
    weight: float | None
    seed: bool = False

    @property
    def name(self) -> str:
        """As pair_coeff has it."""
        if self.seed:
            return self.symbol + SEED
        return self.symbol + (BLEND if self.weight is None else "" if self.weight else SIMPLE)

    @property
    def present(self) -> bool:
        """Whether Duetto computes it, or sees it as a neighbor."""
        return self.symbol != ABSENT

    def roles(
        self, terms: str, *, follows: bool = False, correction: bool = False
    ) -> tuple[str, ...]:
        """The experts that may compute such an atom, for a choice of TERMS.

        Args:
            terms: one of TERMS.
            follows: whether the weights follow seeds, and are never below `weight`.
            correction: whether HF is a correction to LF.
        """
        if not self.present:
            return ()
        simple = self.weight == 0.0 and not follows
        if terms == "fast":
            return ("lf",)
        if terms == "slow":
            return () if simple else ("hf",) if correction else ("hf", "lf")
        if correction or self.weight is None or (follows and self.weight == 0.0):
            return ("lf",) if simple else ("hf", "lf")
        return ("hf",) if self.weight else ("lf",)


def parse_type(name: str) -> AtomType:
    """Inverse of `AtomType.name`."""
    if name.endswith(SEED):
        return AtomType(name.removesuffix(SEED), 1.0, seed=True)
    for ending, weight in ((SIMPLE, 0.0), (BLEND, None)):
        if name.endswith(ending):
            return AtomType(name.removesuffix(ending), weight)
    return AtomType(name, 1.0)


def parse_types(
    names: Sequence[str], pair: ExpertPair, terms: str, *, follows: bool = False
) -> list[AtomType]:
    """The types of pair_coeff, checked against the pair.

    Raises:
        InputError: a type is not known, or needs an expert that the pair lacks; seeds that nothing
            follows, or nothing to follow.
    """
    types = [parse_type(name) for name in names]
    seeds = [kind.name for kind in types if kind.seed]
    if seeds and not follows and terms != "fast":
        raise InputError(
            f"atom type {seeds[0]}: weights follow seeds where pair_style duetto has the words "
            "follow CORE BLEND, in Å"
        )
    if follows and not seeds:
        raise InputError(
            f"pair_style duetto follow: none of the atom types is a seed, such as {names[0]}{SEED}"
        )
    for name, kind in zip(names, types, strict=True):
        roles = kind.roles(terms, follows=follows, correction=pair.correction)
        for role in roles or ("lf",) * kind.present:
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
                    f"also with {SIMPLE}, {BLEND} or {SEED}"
                )
    return types


def atom_kinds(
    symbols: Sequence[str], weights: ArrayLike, seeds: Sequence[int] = ()
) -> list[AtomType]:
    """The type of every atom, from its symbol and its weight in [0, 1]; `seeds` are indices."""
    kinds = []
    for symbol, weight in zip(symbols, np.asarray(weights, dtype=np.float64), strict=True):
        own = None if 0.0 < weight < 1.0 else float(weight)
        kinds.append(AtomType(symbol, own))
    for s in seeds:
        kinds[s] = AtomType(symbols[s], 1.0, seed=True)
    return kinds


def cutoffs_between(
    types: Sequence[AtomType],
    pair: ExpertPair,
    terms: str,
    *,
    follows: bool = False,
    without: str = "",
) -> NDArray[np.float64]:
    """(T, T) Å: how far a centre of one type sees neighbours of another.

    Args:
        types: in their order.
        pair: the experts.
        terms: one of TERMS.
        follows: whether the weights follow seeds.
        without: an expert that is not asked.
    """
    reach = np.zeros((len(types), len(types)))
    for i, centre in enumerate(types):
        for role in centre.roles(terms, follows=follows, correction=pair.correction):
            if role == without:
                continue
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


def coefficients(
    role: str, weight: NDArray[np.float64], terms: str, *, correction: bool = False
) -> NDArray[np.float64]:
    """What an expert's energy of each atom counts for, from HF weights (n,).

    The mixture is w E^HF + (1 − w) E^LF; its fast term E^LF and its slow term w (E^HF − E^LF).
    Where HF is a correction Δ to LF, that is E^LF + w Δ, E^LF and w Δ.
    """
    low = np.ones_like(weight)
    sums = {
        "fast": [Term("lf", low)],
        "slow": [Term("hf", weight), Term("lf", -weight)],
        "mixture": mixture_terms(weight),
    }
    return by_expert(sums[terms], correction=correction).get(role, np.zeros_like(weight))
