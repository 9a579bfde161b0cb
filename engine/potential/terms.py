"""The energy as a list of terms, and what each expert has to compute for it.

    E(R) = Σ_t Σ_i c_ti E_i^t(R)

A term is an expert, a coefficient for every atom, and a period: how many steps pass between two
evaluations. The mixture is two terms, w for HF and 1 − w for LF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duetto.errors import InputError
from duetto.experts.base import Expert, types_of

ROLES = ("hf", "lf")


@dataclass(frozen=True)
class Term:
    """One expert's share of the energy.

    Attributes:
        expert: role of the expert in its pair.
        coefficients: (A,) float64, of each atom's energy by this expert.
        period: steps from one evaluation to the next.
    """

    expert: str
    coefficients: NDArray[np.float64]
    period: int = 1


@dataclass(frozen=True)
class ExpertWork:
    """The centres one expert computes, and what their energies count for.

    Attributes:
        role: "hf" or "lf".
        centres: (n,) int64, ascending.
        coefficients: (G, n) float64, of each centre's energy in each of G groups of terms.
        types: (A,) int64, the expert's type of every atom of the structure; −1 for a species that
            it does not know, which is never its neighbour.
    """

    role: str
    centres: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    types: NDArray[np.int64]

    def of(self, places: NDArray[np.int64]) -> ExpertWork:
        """The same work for the centres at these places alone."""
        return replace(
            self,
            centres=self.centres[places],
            coefficients=np.ascontiguousarray(self.coefficients[:, places]),
        )


def mixture_terms(weights: NDArray[np.float64]) -> tuple[Term, ...]:
    """The two terms of a mixture with HF weights (A,)."""
    return Term("hf", weights), Term("lf", 1.0 - weights)


def divide(
    groups: Sequence[Sequence[Term]],
    types: Mapping[str, NDArray[np.int64]],
    active: Mapping[str, NDArray[np.bool_]] | None = None,
) -> list[ExpertWork]:
    """What each expert computes so that every group of terms has its energy.

    Args:
        groups: terms whose sums are wanted, each sum on its own.
        types: (A,) by role, the expert's type of every atom.
        active: (A,) by role, atoms that the expert computes even where no term counts them.
    """
    work = []
    for role in dict.fromkeys(term.expert for group in groups for term in group):
        sums = np.zeros((len(groups), len(types[role])))
        for g, group in enumerate(groups):
            for term in group:
                if term.expert == role:
                    sums[g] += term.coefficients
        wanted = (sums != 0.0).any(axis=0)
        if active is not None and role in active:
            wanted |= active[role]
        centres = np.flatnonzero(wanted).astype(np.int64)
        if len(centres):
            work.append(
                ExpertWork(role, centres, np.ascontiguousarray(sums[:, centres]), types[role])
            )
    return sorted(work, key=lambda job: ROLES.index(job.role))


def atom_types(expert: Expert, species: Sequence[str]) -> NDArray[np.int64]:
    """The expert's type of every atom, (A,); −1 where it does not know the species."""
    index = types_of(expert)
    return np.array([index.get(name, -1) for name in species], dtype=np.int64)


def require_known(work: Sequence[ExpertWork], experts: Any, species: Sequence[str]) -> None:
    """Refuse centres of a species that their expert does not know.

    Raises:
        InputError: naming the first such atom.
    """
    for job in work:
        unknown = job.centres[job.types[job.centres] < 0]
        if len(unknown):
            raise InputError(
                f"atom {unknown[0]} is {species[unknown[0]]}, which the expert {job.role} does "
                f"not know ({', '.join(experts[job.role].species)})"
            )


def checked_weights(weights: ArrayLike, n_atoms: int) -> NDArray[np.float64]:
    """A copy of HF weights, (A,) float64.

    Raises:
        InputError: there are not as many as atoms, or one is not between 0 and 1.
    """
    w = np.array(weights, dtype=np.float64)
    if w.shape != (n_atoms,):
        raise InputError(f"{w.shape} weights for {n_atoms} atoms")
    bad = np.flatnonzero(~((w >= 0) & (w <= 1)))
    if len(bad):
        raise InputError(f"weight {w[bad[0]]} of atom {bad[0]} is not between 0 and 1")
    return w
