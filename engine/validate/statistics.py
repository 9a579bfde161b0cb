"""What long runs of mixture and full HF have in common, with error bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ase import Atoms, units

from duetto.atoms.periodic import pairs_within
from duetto.validate.uncertainty import between_starts, correlation_time, of_pairs, widening

Array = npt.NDArray[np.float64]

FARTHEST, BIN = 6.0, 0.1
"""Å, of the distances that are counted."""

APART_FS = 50.0
"""Between configurations whose distances are counted: some vibrations of a heavy atom."""

SEGMENT_FS = 1000.0
"""Of a spectrum, whose lines are then 33 cm⁻¹ wide; and of the displacements whose memory tells
how long that of a molecule's wandering is."""

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


class Piece(NamedTuple):
    """What a block says of one curve.

    `value` (K,); `instants` (N, K'), whose memory is that of the value, and `every`, how many
    samples they are apart.
    """

    value: Array
    instants: Array
    every: int


def compared(
    mixture: Sequence[Samples], hf: Sequence[Samples], atoms: Atoms, blocks: int
) -> dict[str, Any]:
    """Every quantity of both, its difference and the difference's standard error.

    Errors are those of `uncertainty.of_pairs`: from blocks about the mean of their own run, made
    larger by the blocks' memory and by what starts scatter beyond it.

    Args:
        mixture, hf: one run per start, in the same order.
        atoms: whose symbols, cell and pbc all runs share.
        blocks: pieces of a run.

    Returns:
        `length_ps` of a run, `runs`, `blocks`; `temperature_k`; by pair of species `pairs`, the
        neighbors per atom and Å against `distance_angstrom`; by species `spectrum`, the power of
        the velocities, of area one, against `frequency_per_cm`; by species `displacement`, the mean
        square across periodic directions in Å², against `time_ps`. Of each `mixture`, `hf`,
        `standard_error` of their difference, `correlation_time_ps`, the integrated one of what is
        averaged, `widened`, by how much its memory widened the error, and `between_starts`, see
        `uncertainty`; of curves `within_two_errors`, too, the share of points whose difference is
        below two standard errors: 0.95 where both are the same and there are many blocks.

    Raises:
        ValueError: there are not as many runs of one as of the other.
    """
    if len(mixture) != len(hf):
        raise ValueError(f"{len(mixture)} runs of the mixture and {len(hf)} of HF: not in pairs")
    first, cut = mixture[0], [run.blocks(blocks) for run in (*mixture, *hf)]
    kinds = sorted(set(atoms.symbols))
    pairs = list(combinations_with_replacement(kinds, 2))
    edges = np.arange(0.0, FARTHEST + BIN / 2, BIN)
    block = cut[0][0]
    families: dict[str, tuple[str, Array, Callable[[Samples], dict[str, Piece]]]] = {
        "pairs": (
            "distance_angstrom",
            (edges[1:] + edges[:-1]) / 2,
            lambda b: _distances(b, atoms, pairs, edges),
        ),
        "spectrum": ("frequency_per_cm", _frequencies(block), lambda b: _spectra(b, atoms, kinds)),
        "displacement": (
            "time_ps",
            np.asarray(_lags(block) * first.every_fs / 1000.0, dtype=np.float64),
            lambda b: _displacements(b, atoms, kinds),
        ),
    }
    warmth = [[_warmth(b) for b in run] for run in cut]
    found: dict[str, Any] = {
        "length_ps": len(first.positions) * first.every_fs / 1000.0,
        "runs": len(mixture),
        "blocks": blocks,
        "temperature_k": _scalar(_compared(warmth, block)),
    }
    for name, (axis, points, measured) in families.items():
        pieces = [[measured(b) for b in run] for run in cut]
        found[name] = {axis: points.tolist()} | {
            key: _curve(_compared([[p[key] for p in run] for run in pieces], block))
            for key in pieces[0][0]
        }
    return found


def _compared(pieces: list[list[Piece]], block: Samples) -> dict[str, Any]:
    """Means, error and memory of a quantity, from the blocks of the mixture's runs, then HF's."""
    values = np.array([[p.value for p in run] for run in pieces])
    mixture, hf = np.split(values, 2)
    every = pieces[0][0].every
    memory = correlation_time([np.concatenate([p.instants for p in run]) for run in pieces])
    length = max(1.0, len(block.positions) / every)
    within = sum(x.var(axis=1, ddof=1) / x.shape[1] for x in (mixture, hf))
    widened = widening(memory, length)
    return {
        "mixture": mixture.mean(axis=(0, 1)),
        "hf": hf.mean(axis=(0, 1)),
        "standard_error": of_pairs(mixture, hf, memory, length),
        "correlation_time_ps": memory * every * block.every_fs / 1000.0,
        "widened": widened,
        "between_starts": between_starts(mixture, hf, np.asarray(within * widened**2)),
    }


def _scalar(found: dict[str, Any]) -> dict[str, float]:
    return {key: float(np.squeeze(value)) for key, value in found.items()}


def _curve(found: dict[str, Any]) -> dict[str, Any]:
    error, apart = found["standard_error"], found["mixture"] - found["hf"]
    counted = error > 0
    within = np.abs(apart[counted]) <= 2 * error[counted]
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
    return plain | {"within_two_errors": float(within.mean()) if counted.any() else None}


def _warmth(block: Samples) -> Piece:
    return Piece(block.temperature_k.mean(keepdims=True), block.temperature_k[:, None], 1)


def _distances(
    block: Samples, atoms: Atoms, pairs: list[tuple[str, str]], edges: Array
) -> dict[str, Piece]:
    """Neighbors of an atom of the first species per Å, by distance."""
    step = max(1, round(APART_FS / block.every_fs))
    kept = block.positions[::step]
    symbols = np.array(atoms.symbols)
    counts = {pair: np.zeros((len(kept), len(edges) - 1)) for pair in pairs}
    for n, positions in enumerate(kept):
        found = pairs_within(positions, positions, atoms.cell.array, atoms.pbc, FARTHEST)
        apart = found.distance > 0.0  # not the atom itself
        one, other = symbols[found.query], symbols[found.point]
        for a, b in pairs:
            chosen = apart & (one == a) & (other == b)
            counts[a, b][n] = np.histogram(found.distance[chosen], edges)[0]
    number = {kind: int((symbols == kind).sum()) for kind, _ in pairs}
    curves = {f"{a}-{b}": n / (number[a] * BIN) for (a, b), n in counts.items()}
    return {key: Piece(curve.mean(axis=0), curve, step) for key, curve in curves.items()}


def _segment(block: Samples) -> int:
    return min(len(block.positions), round(SEGMENT_FS / block.every_fs))


def _frequencies(block: Samples) -> Array:
    return np.asarray(np.fft.rfftfreq(_segment(block), block.every_fs) * PER_FS_IN_PER_CM)


def _spectra(block: Samples, atoms: Atoms, kinds: list[str]) -> dict[str, Piece]:
    """Power of the velocities of each species by Welch's method, of area one."""
    from scipy.signal import spectrogram  # slow to import

    frequency, segment = _frequencies(block), _segment(block)
    found = {}
    for kind in kinds:
        moving = block.velocities[:, atoms.symbols == kind]
        power = spectrogram(
            moving,
            1.0 / block.every_fs,
            window="hann",
            nperseg=segment,
            noverlap=segment // 2,
            axis=0,
        )[2]
        parts = power.sum(axis=(1, 2)).T  # (segments, frequencies)
        parts = parts / (parts.mean(axis=0).sum() * (frequency[1] - frequency[0]))
        apart = segment - segment // 2 if len(parts) > 1 else len(block.positions)
        found[kind] = Piece(parts.mean(axis=0), parts, apart)
    return found


def _lags(block: Samples) -> npt.NDArray[np.int64]:
    """Up to half of a block, so that every lag has as many starts again."""
    return np.unique(np.linspace(0, len(block.positions) // 2, 26).astype(np.int64))


def _displacements(block: Samples, atoms: Atoms, kinds: list[str]) -> dict[str, Piece]:
    """Mean square of how far atoms went along periodic directions, over all starts.

    Blocks share no instant, so that it is not the lag that joins them but the motion: its memory is
    taken from the squares over one lag of `SEGMENT_FS`, or half of a block.
    """
    along = block.positions @ np.where(atoms.pbc[:, None], np.eye(3), 0.0).T
    of_kind = {kind: atoms.symbols == kind for kind in kinds}

    def squares(lag: int) -> Array:
        return np.asarray(((along[lag:] - along[: len(along) - lag]) ** 2).sum(axis=2))

    one = squares(min(len(along) // 2, round(SEGMENT_FS / block.every_fs)))
    moved = np.array([squares(lag).mean(axis=0) for lag in _lags(block)])  # (lags, A)
    return {
        kind: Piece(moved[:, member].mean(axis=1), one[:, member].mean(axis=1)[:, None], 1)
        for kind, member in of_kind.items()
    }
