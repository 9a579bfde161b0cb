"""Standard errors of means over instants that remember each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 5.0
"""Correlation times over which the autocorrelation is summed (Sokal, Monte Carlo Methods in
Statistical Mechanics, 1996): what comes later is e⁻⁵ of an exponential one, and noise."""

INDEPENDENT = 0.5
"""The integrated correlation time, in instants, of a series without memory."""


class Jackknifed(NamedTuple):
    """What a function of a mean is, (K,), its standard error (K,), and whose memory widened it.

    `correlation` is the integrated correlation time in instants. Of a single instant there is no
    error: None.
    """

    value: Array
    standard_error: Array | None
    correlation: float | None


def correlation_time(runs: Sequence[Array]) -> float:
    """Integrated autocorrelation time ½ + Σ_{t>0} ρ(t), in instants.

    ρ is that of a curve as one vector: the autocovariances of all its points, of all runs, summed.
    Each is about the mean of its own run, so that what lasts as long as a run is not seen.

    Args:
        runs: (N,) or (N, K) each, at even distances.

    Returns:
        At least `INDEPENDENT`: where instants alternate, their mean is better known than this
        tells. That, too, where nothing varies.
    """
    longest = min(len(run) for run in runs)
    covariance = np.sum([_covariance(run)[:longest] for run in runs], axis=0)
    if longest < 2 or covariance[0] <= 0.0:
        return INDEPENDENT
    summed = np.cumsum(covariance / covariance[0]) - 0.5
    closed = np.arange(longest) >= WINDOW * summed
    return max(INDEPENDENT, float(summed[closed.argmax() if closed.any() else -1]))


def _covariance(run: Array) -> Array:
    """(N,) autocovariance times N at every lag, summed over points, by FFT."""
    apart = np.asarray(run, dtype=np.float64).reshape(len(run), -1)
    apart = apart - apart.mean(axis=0)
    power = (np.abs(np.fft.rfft(apart, 2 * len(run), axis=0)) ** 2).sum(axis=1)
    return np.asarray(np.fft.irfft(power, 2 * len(run))[: len(run)])


def widening(correlation: float, length: float) -> float:
    """By how much the error from blocks that are taken as independent is too small.

    Exact for many blocks of an autoregressive series of first order, whose memory is exponential:
    the variance of a block's mean over that of a mean of independent ones. 1 for long blocks,
    sqrt(2 correlation) for blocks of one instant.

    Args:
        correlation: integrated correlation time, instants.
        length: of a block, instants.
    """
    correlation = max(correlation, INDEPENDENT)
    memory = (2 * correlation - 1) / (2 * correlation + 1)  # from one instant to the next
    lost = 2 * memory * (1 - memory**length) / (length * (1 - memory**2))
    return float(1 / np.sqrt(1 - lost))


def jackknife(instants: Array, of: Callable[[Array], Array]) -> Jackknifed:
    """A function of the mean over instants, with the error by leaving one out at a time.

    Args:
        instants: (N, M), in the order of time.
        of: (M,) to (K,).
    """
    number = len(instants)
    mean = instants.mean(axis=0)
    value = np.atleast_1d(of(mean))
    if number < 2:
        return Jackknifed(value, None, None)
    left = np.array([np.atleast_1d(of((number * mean - x) / (number - 1))) for x in instants])
    scatter = np.sqrt((number - 1) * left.var(axis=0))
    # The memory is that of the function's own linear response, not of quantities it hardly sees.
    correlation = correlation_time([-(number - 1) * left])
    return Jackknifed(value, scatter * widening(correlation, 1.0), correlation)


def of_pairs(first: Array, second: Array, correlation: float, length: float) -> Array:
    """Standard error (K,) of the difference of two means, of runs from common starts.

    Blocks are compared with the mean of their own run: what two runs from one start share, their
    energy first of all, is no difference. To that come the blocks' memory (`widening`), and the
    starts: where differences scatter from start to start by more than the blocks say, the error is
    that much larger, the scale factor of the Particle Data Group's averages.

    Args:
        first, second: (R, B, K): starts, blocks of a run, points.
        correlation, length: integrated correlation time and length of a block, instants.
    """
    starts, blocks = first.shape[:2]
    within = sum(x.var(axis=1, ddof=1) / blocks for x in (first, second))  # (R, K)
    within = within * widening(correlation, length) ** 2
    error = np.sqrt(np.sum(within, axis=0)) / starts
    return np.asarray(error * max(1.0, between_starts(first, second, within)))


def between_starts(first: Array, second: Array, within: Array) -> float:
    """Scatter of the differences over starts, in units of what is expected from each start's own.

    Args:
        first, second: (R, B, K).
        within: (R, K), the expected variance of each difference.

    Returns:
        1 on average where runs are long enough to forget their start; 0 for a single start.
    """
    starts = len(first)
    apart = first.mean(axis=1) - second.mean(axis=1)
    expected = float(within.mean(axis=0).sum()) * (starts - 1)
    if starts < 2 or expected <= 0.0:
        return 0.0
    return float(np.sqrt(((apart - apart.mean(axis=0)) ** 2).sum() / expected))


def of_mean(values: Sequence[float], errors: Sequence[float]) -> float:
    """Standard error of the plain mean of values with errors of their own.

    Larger by the Particle Data Group's scale factor where they scatter by more than these say.
    """
    x, sigma = np.array(values), np.array(errors)
    error = float(np.sqrt((sigma**2).sum())) / len(x)
    if len(x) < 2 or not (sigma > 0).all():
        return error
    scale = float(np.sqrt((((x - x.mean()) / sigma) ** 2).sum() / (len(x) - 1)))
    return error * max(1.0, scale)
