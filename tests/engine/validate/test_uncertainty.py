"""Error bars against series whose memory and scatter are known."""

from __future__ import annotations

import numpy as np
import pytest

from duetto.validate.dynamics import drift_error
from duetto.validate.kept import Run
from duetto.validate.statistics import Samples
from duetto.validate.uncertainty import (
    between_starts,
    correlation_time,
    jackknife,
    of_mean,
    of_pairs,
    widening,
)

MEMORY = 0.9
"""From one instant to the next; the integrated correlation time is then 9.5 instants."""


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], memory: float = MEMORY):
    """Series (…, N) of variance one."""
    noise = rng.normal(size=shape) * np.sqrt(1 - memory**2)
    noise[..., 0] /= np.sqrt(1 - memory**2)
    series = noise.copy()
    for n in range(1, shape[-1]):
        series[..., n] += memory * series[..., n - 1]
    return series


def test_correlation_time_of_an_exponential_memory():
    rng = np.random.default_rng(1)
    exact = 0.5 * (1 + MEMORY) / (1 - MEMORY)
    runs = autoregressive(rng, (4, 20000))
    # Sokal: relative variance 2 (2 W + 1) / N with the window W of five times
    scatter = exact * np.sqrt(2 * (2 * 5 * exact + 1) / (4 * 20000))
    assert correlation_time(list(runs)) == pytest.approx(exact, abs=4 * scatter)
    assert correlation_time([rng.normal(size=20000)]) == pytest.approx(0.5, abs=0.1)
    assert correlation_time([np.ones(50)]) == 0.5
    # A curve's memory is that of the points that vary most
    curve = np.stack([10 * runs[0], rng.normal(size=20000)], axis=1)
    assert correlation_time([curve]) == pytest.approx(correlation_time([runs[0]]), rel=0.02)


@pytest.mark.parametrize("length", [1, 3, 20, 200])
def test_widening_makes_up_for_blocks_that_remember(length: int):
    """Against the exact variances: of a block's mean and of the mean of many blocks."""
    lags = np.arange(-100_000, 100_001)
    exact = (MEMORY ** np.abs(lags)).sum()  # N times the variance of a mean of N instants
    near = lags[np.abs(lags) < length]
    of_a_block = (MEMORY ** np.abs(near) * (1 - np.abs(near) / length)).sum()
    correlation = 0.5 * (1 + MEMORY) / (1 - MEMORY)
    assert widening(correlation, length) == pytest.approx(np.sqrt(exact / of_a_block), rel=1e-9)
    assert widening(0.5, length) == 1.0


def test_jackknife_of_a_mean_is_the_standard_error():
    x = np.random.default_rng(2).normal(3.0, 2.0, (400, 1))
    found = jackknife(x, lambda mean: mean)
    assert found.value[0] == pytest.approx(x.mean(), rel=1e-12)
    plain = x.std(ddof=1) / np.sqrt(400)
    assert found.standard_error[0] / widening(found.correlation, 1) == pytest.approx(plain)
    assert found.correlation < 0.7
    assert jackknife(x[:1], lambda mean: mean).standard_error is None


def test_jackknife_covers_the_largest_of_several():
    """Root mean squares of three layers, the largest of them: scatter of what is reported."""
    rng = np.random.default_rng(3)
    deviations = np.array([1.0, 2.0, 1.5])
    found = [
        jackknife((rng.normal(size=(20, 8, 3)) * deviations).__pow__(2).mean(axis=1), _largest)
        for _ in range(300)
    ]
    scatter = np.std([one.value[0] for one in found])
    said = np.sqrt(np.mean([one.standard_error[0] ** 2 for one in found]))
    # The widening by a memory that is not there but noise makes it larger, never smaller: some 10 %
    assert 0.95 * scatter < said < 1.3 * scatter


def _largest(mean):
    return np.sqrt(mean).max()


@pytest.mark.parametrize("length", [15, 100])
def test_differences_of_pairs_are_within_their_errors(length: int):
    """Runs that share an offset, with blocks of few correlation times and of many."""
    rng = np.random.default_rng(4)
    starts, blocks, correlation = 2, 10, 0.5 * (1 + MEMORY) / (1 - MEMORY)
    scores = []
    for _ in range(400):
        shared = 5.0 * rng.normal(size=(starts, 1, 1))
        runs = [
            (autoregressive(rng, (starts, blocks * length)) + shared[:, 0])
            .reshape(starts, blocks, length)
            .mean(axis=2)[..., None]
            for _ in range(2)
        ]
        error = of_pairs(runs[0], runs[1], correlation, length)[0]
        scores.append((runs[0].mean() - runs[1].mean()) / error)
    # Without widening 1.2 and 1.05; the scale factor of two starts takes some 15 % off. Errors that
    # took in the offset of the starts would be four times as large and the scores near 0.2.
    assert 0.7 < np.std(scores) < 1.05


def test_starts_that_scatter_by_more_widen_the_error():
    rng = np.random.default_rng(5)
    blocks = rng.normal(size=(2, 8, 10, 6))
    first, second = blocks
    within = first.var(axis=1, ddof=1) / 10 + second.var(axis=1, ddof=1) / 10
    assert between_starts(first, second, within) == pytest.approx(1.0, abs=0.3)
    apart = first + 3.0 * rng.normal(size=(8, 1, 6))
    ratio = between_starts(apart, second, within)
    assert ratio > 4.0
    # As large as the scatter over starts makes it
    error = of_pairs(apart, second, 0.5, 1.0)
    over_starts = (apart - second).mean(axis=1).std(axis=0, ddof=1) / np.sqrt(8)
    assert np.sqrt((error**2).mean()) == pytest.approx(np.sqrt((over_starts**2).mean()), rel=1e-9)
    assert between_starts(first[:1], second[:1], within[:1]) == 0.0


def test_error_of_a_mean_of_values_with_errors():
    assert of_mean([1.0, 1.0], [0.3, 0.4]) == pytest.approx(0.25)
    assert of_mean([2.0], [0.3]) == 0.3
    scale = np.sqrt((1 / 0.1) ** 2 * 2)
    assert of_mean([0.0, 2.0], [0.1, 0.1]) == pytest.approx(0.1 / np.sqrt(2) * scale)


@pytest.mark.parametrize("number", [400, 20000])
def test_drift_error_knows_the_energy_s_memory(number: int):
    """Blocks of two correlation times, and of a hundred: slopes scatter as is said."""
    rng = np.random.default_rng(6)
    time_fs, none = np.arange(number) * 1.0, np.zeros((0, 1, 3))
    nothing = Samples(1.0, none, none, np.zeros(0))
    slopes, errors = [], []
    for _ in range(150):
        energy = autoregressive(rng, (number,))
        slopes.append(1e6 * np.polyfit(time_fs, energy, 1)[0])
        errors.append(drift_error(Run(0.0, time_fs, energy, none, none, nothing), 1))
    said = np.sqrt(np.mean(np.square(errors)))
    # Scatter of 150 slopes to 6 %; a line takes out some of the memory of the shorter ones.
    assert 0.8 * np.std(slopes) < said < 1.3 * np.std(slopes)
