"""What long runs of mixture and full HF have in common, with error bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms, units

from duetto.atoms.periodic import pairs_within

Array = npt.NDArray[np.float64]

FARTHEST, BIN = 6.0, 0.1
"""Å, of the distances that are counted."""

APART_FS = 50.0
"""Between configurations whose distances are counted: some vibrations of a heavy atom."""

SEGMENT_FS = 1000.0
"""Of a spectrum, whose lines are then 33 cm⁻¹ wide."""

PER_FS_IN_PER_CM = 1e15 / (units._c * 100.0)


@dataclass(frozen=True)
class Samples:
    """Instants of one run, at even distances.

    Attributes:
        every_fs: from instant to instant.
        positions: (S, A, 3) Å, never wrapped.
        velocities: (S, A, 3) Å/fs.
        temperature_k: (S,).
    """

    every_fs: float
    positions: Array
    velocities: Array
    temperature_k: Array

    def blocks(self, number: int) -> list[Samples]:
        """The run cut into as many pieces of equal length, the rest left out."""
        length = len(self.positions) // number
        cuts = [slice(k * length, (k + 1) * length) for k in range(number)]
        return [
            Samples(self.every_fs, self.positions[c], self.velocities[c], self.temperature_k[c])
            for c in cuts
        ]


def compared(
    mixture: Sequence[Samples], hf: Sequence[Samples], atoms: Atoms, blocks: int
) -> dict[str, Any]:
    """Every quantity of both, its difference and the difference's standard error.

    Each run is cut into blocks, taken as independent: they have to be longer than what they
    measure. The error is that of a difference of two means, each from its own blocks.

    Args:
        mixture, hf: one run per seed.
        atoms: whose symbols, cell and pbc all runs share.
        blocks: pieces of a run.

    Returns:
        `length_ps` of a run, `runs`, `blocks`; `temperature_k`; by pair of species `pairs`, the
        neighbors per atom and Å against `distance_angstrom`; by species `spectrum`, the power of
        the velocities, of area one, against `frequency_per_cm`; by species `displacement`, the mean
        square across periodic directions in Å², against `time_ps`. Of each `mixture`, `hf`,
        `standard_error` and, of curves, `within_two_errors`, the share of points whose difference
        is below two standard errors: 0.95 where both are the same and there are many blocks.
    """
    pieces = [[b for run in runs for b in run.blocks(blocks)] for runs in (mixture, hf)]
    first = mixture[0]
    kinds = sorted(set(atoms.symbols))
    pairs = list(combinations_with_replacement(kinds, 2))
    edges = np.arange(0.0, FARTHEST + BIN / 2, BIN)
    axes = {
        "pairs": ("distance_angstrom", (edges[1:] + edges[:-1]) / 2),
        "spectrum": ("frequency_per_cm", _frequencies(pieces[0][0])),
        "displacement": ("time_ps", _lags(pieces[0][0]) * first.every_fs / 1000.0),
    }
    curves = {
        "pairs": [_distances(b, atoms, pairs, edges) for b in pieces[0] + pieces[1]],
        "spectrum": [_spectra(b, atoms, kinds) for b in pieces[0] + pieces[1]],
        "displacement": [_displacements(b, atoms, kinds) for b in pieces[0] + pieces[1]],
    }
    found: dict[str, Any] = {
        "length_ps": len(first.positions) * first.every_fs / 1000.0,
        "runs": len(mixture),
        "blocks": blocks,
        "temperature_k": _scalar(*(np.array([b.temperature_k.mean() for b in p]) for p in pieces)),
    }
    for name, values in curves.items():
        axis, points = axes[name]
        found[name] = {axis: points.tolist()} | {
            key: _curve(
                np.array([v[key] for v in values[: len(pieces[0])]]),
                np.array([v[key] for v in values[len(pieces[0]) :]]),
            )
            for key in values[0]
        }
    return found


def _scalar(mixture: Array, hf: Array) -> dict[str, float]:
    return {
        "mixture": float(mixture.mean()),
        "hf": float(hf.mean()),
        "standard_error": float(_error(mixture, hf)),
    }


def _curve(mixture: Array, hf: Array) -> dict[str, Any]:
    """From (B, N) of each."""
    error, apart = _error(mixture, hf), mixture.mean(axis=0) - hf.mean(axis=0)
    counted = error > 0
    within = np.abs(apart[counted]) <= 2 * error[counted]
    return {
        "mixture": mixture.mean(axis=0).tolist(),
        "hf": hf.mean(axis=0).tolist(),
        "standard_error": error.tolist(),
        "within_two_errors": float(within.mean()) if counted.any() else None,
    }


def _error(mixture: Array, hf: Array) -> Array:
    """Standard error of the difference of the two means, over the first axis."""
    variances = [x.var(axis=0, ddof=1) / len(x) for x in (mixture, hf)]
    return np.asarray(np.sqrt(variances[0] + variances[1]))


def _distances(
    block: Samples, atoms: Atoms, pairs: list[tuple[str, str]], edges: Array
) -> dict[str, Array]:
    """Neighbors of an atom of the first species per Å, by distance."""
    step = max(1, round(APART_FS / block.every_fs))
    kept = block.positions[::step]
    symbols = np.array(atoms.symbols)
    counts = {pair: np.zeros(len(edges) - 1) for pair in pairs}
    for positions in kept:
        found = pairs_within(positions, positions, atoms.cell.array, atoms.pbc, FARTHEST)
        apart = found.distance > 0.0  # not the atom itself
        one, other = symbols[found.query], symbols[found.point]
        for a, b in pairs:
            chosen = apart & (one == a) & (other == b)
            counts[a, b] += np.histogram(found.distance[chosen], edges)[0]
    number = {kind: int((symbols == kind).sum()) for kind, _ in pairs}
    return {f"{a}-{b}": n / (len(kept) * number[a] * BIN) for (a, b), n in counts.items()}


def _segment(block: Samples) -> int:
    return min(len(block.positions), round(SEGMENT_FS / block.every_fs))


def _frequencies(block: Samples) -> Array:
    return np.asarray(np.fft.rfftfreq(_segment(block), block.every_fs) * PER_FS_IN_PER_CM)


def _spectra(block: Samples, atoms: Atoms, kinds: list[str]) -> dict[str, Array]:
    """Power of the velocities of each species by Welch's method, of area one."""
    from scipy.signal import welch  # slow to import

    frequency = _frequencies(block)
    found = {}
    for kind in kinds:
        moving = block.velocities[:, atoms.symbols == kind]
        power = welch(moving, 1.0 / block.every_fs, nperseg=_segment(block), axis=0)[1]
        total = power.sum(axis=(1, 2))
        found[kind] = total / (total.sum() * (frequency[1] - frequency[0]))
    return found


def _lags(block: Samples) -> npt.NDArray[np.int64]:
    """Up to half of a block, so that every lag has as many starts again."""
    return np.unique(np.linspace(0, len(block.positions) // 2, 26).astype(np.int64))


def _displacements(block: Samples, atoms: Atoms, kinds: list[str]) -> dict[str, Array]:
    """Mean square of how far atoms went along periodic directions, over all starts."""
    along = block.positions @ np.where(atoms.pbc[:, None], np.eye(3), 0.0).T
    found = {kind: np.zeros(0) for kind in kinds}
    for lag in _lags(block):
        moved = ((along[lag:] - along[: len(along) - lag]) ** 2).sum(axis=2).mean(axis=0)
        for kind in kinds:
            found[kind] = np.append(found[kind], moved[atoms.symbols == kind].mean())
    return found
