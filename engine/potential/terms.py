"""The energy as a list of terms, and what each expert has to compute for it.

    E(R) = Σ_t Σ_i c_ti E_i^t(R)

A term is an expert, a coefficient for every atom, and a period: how many steps pass between two
evaluations. The mixture is two terms, w for HF and 1 − w for LF.

Where HF is a correction Δ to LF, E_i^HF = E_i^LF + Δ_i, terms are the same: "hf" is E^HF. What the
experts compute for them is another thing, and is found out here alone: for w and 1 − w it is LF on
every atom, with a coefficient of 1, and Δ where w > 0.
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
        expert: role of the expert in its pair; "hf" is E^HF whatever its form.
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
        role: "hf" or "lf"; where HF is a correction to LF, "hf" is the correction.
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


def by_expert(terms: Sequence[Term], *, correction: bool) -> dict[str, NDArray[np.float64]]:
    """What the energies of each expert count for in a sum of terms: (A,) by role.

    w + (1 − w) is 1 to the last bit for any w in [0, 1]: half a unit in the last place of 1 − w, at
    most 2⁻⁵⁴, is rounded away.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for term in terms:
        roles = ("hf", "lf") if correction and term.expert == "hf" else (term.expert,)
        for role in roles:
            sums[role] = sums.get(role, 0.0) + term.coefficients
    return sums


def divide(
    groups: Sequence[Sequence[Term]],
    types: Mapping[str, NDArray[np.int64]],
    active: Mapping[str, NDArray[np.bool_]] | None = None,
    *,
    correction: bool = False,
) -> list[ExpertWork]:
    """What each expert computes so that every group of terms has its energy.

    Args:
        groups: terms whose sums are wanted, each sum on its own.
        types: (A,) by role, the expert's type of every atom.
        active: (A,) by role, atoms that the expert computes even where no term counts them.
        correction: whether the expert "hf" is a correction to the expert "lf".
    """
    spelled = [by_expert(group, correction=correction) for group in groups]
    work = []
    for role in dict.fromkeys(role for sums in spelled for role in sums):
        sums = np.zeros((len(groups), len(types[role])))
        for g, found in enumerate(spelled):
            sums[g] += found.get(role, 0.0)
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
