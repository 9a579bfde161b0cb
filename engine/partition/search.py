"""Near pairs of atoms, remembered while the atoms move little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duetto.atoms.periodic import Array, Indices, pairs_within

Mask = npt.NDArray[np.bool_]

SLACK = 1.0
"""Å by which pairs are gathered beyond their limit: no tree until an atom has moved half of it."""


@dataclass(frozen=True)
class _Candidates:
    """The pairs that can come within their limits as long as no atom moves by SLACK / 2."""

    reference: Array  # (A, 3) Å
    cell: Array  # (3, 3) Å
    queries: Mask  # (A,)
    points: Mask  # (A,)
    limits: Array  # (K, K) Å
    query: Indices  # (P,)
    point: Indices  # (P,)
    shift: Array  # (P, 3) image of the point, in cell vectors


class Search:
    """One kind of question, which atoms are close to which, asked again and again.

    The answer depends on the configuration alone, never on what was asked before.
    """

    def __init__(self) -> None:
        self._known: _Candidates | None = None

    def closest(
        self,
        positions: Array,
        cell: Array,
        pbc: Mask,
        *,
        queries: Mask,
        points: Mask,
        kinds: Indices,
        limits: Array,
    ) -> tuple[Indices, Array, Indices]:
        """The closest point of every query atom that has one within the limit of their kinds.

        Images of the query atom itself are other atoms; the atom itself is none.

        Args:
            positions: (A, 3) Å.
            cell: (3, 3) Å, rows are the vectors.
            pbc: (3,).
            queries, points: (A,) which atoms are.
            kinds: (A,) rows and columns of `limits`.
            limits: (K, K) Å, by the kinds of query and point; 0: they never count.

        Returns:
            The query atoms (N,), distances (N,) in Å and the points (N,); the closest first.
        """
        asked = queries & (limits.max(axis=1, initial=0.0) > 0)[kinds]
        # Points that count for a kind of which no atom asks would all be searched for nothing.
        present = np.bincount(kinds[asked], minlength=len(limits)) > 0
        counted = points & (limits[present].max(axis=0, initial=0.0) > 0)[kinds]
        if not asked.any() or not counted.any():
            return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
        known = self._known
        if known is None or not _covers(known, positions, cell, asked, counted, limits):
            known = self._known = _gather(positions, cell, pbc, asked, counted, kinds, limits)
        i, j = known.query, known.point
        vectors = positions[j] - positions[i] + known.shift @ np.where(pbc[:, None], cell, 0.0)
        distance = np.sqrt(np.einsum("px,px->p", vectors, vectors))
        near = (distance < limits[kinds[i], kinds[j]]) & asked[i] & counted[j]
        i, j, distance = i[near], j[near], distance[near]
        order = np.lexsort((j, i, distance))
        # An atom may have several: keep the closest.
        order = order[np.sort(np.unique(i[order], return_index=True)[1])]
        return i[order], distance[order], j[order]


def _covers(
    known: _Candidates, positions: Array, cell: Array, queries: Mask, points: Mask, limits: Array
) -> bool:
    """Whether every pair that counts now is among the candidates."""
    if not np.array_equal(known.cell, cell) or not np.array_equal(known.limits, limits):
        return False
    if (queries & ~known.queries).any() or (points & ~known.points).any():
        return False
    moved = positions - known.reference
    return bool(np.einsum("ax,ax->a", moved, moved).max(initial=0.0) < (SLACK / 2) ** 2)


def _gather(
    positions: Array,
    cell: Array,
    pbc: Mask,
    queries: Mask,
    points: Mask,
    kinds: Indices,
    limits: Array,
) -> _Candidates:
    """Search all pairs within the longest limit and SLACK, and keep those that may count."""
    asked, counted = np.flatnonzero(queries), np.flatnonzero(points)
    found = pairs_within(
        positions[asked], positions[counted], cell, pbc, float(limits.max()) + SLACK
    )
    query, point, shift = asked[found.query], counted[found.point], found.shift
    limit = limits[kinds[query], kinds[point]]
    itself = (query == point) & ~shift.any(axis=1)
    kept = (limit > 0) & (found.distance < limit + SLACK) & ~itself
    return _Candidates(
        reference=positions.copy(),
        cell=cell.copy(),
        queries=queries,
        points=points,
        limits=limits,
        query=query[kept],
        point=point[kept],
        shift=shift[kept],
    )
