"""Statistics of runs against motions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from duetto.validate.statistics import Samples, compared

EVERY_FS = 2.0
TIMES = np.arange(4000) * EVERY_FS
FREQUENCY_PER_CM = 2001.4  # 60 THz


def oscillating(seed: int, amplitude: float) -> Samples:
    """A crystal at rest, each atom swinging along x with a phase of its own, and drifting in y."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Pt", "fcc", a=4.0, cubic=True) * (2, 2, 2)
    omega = 2 * np.pi * 0.06  # 1/fs
    phase = rng.uniform(0, 2 * np.pi, len(atoms))
    size = amplitude * rng.uniform(0.9, 1.1)
    positions = np.repeat(atoms.positions[None], len(TIMES), axis=0)
    velocities = np.zeros_like(positions)
    positions[:, :, 0] += size * np.sin(omega * TIMES[:, None] + phase)
    velocities[:, :, 0] = size * omega * np.cos(omega * TIMES[:, None] + phase)
    positions[:, :, 1] += 1e-4 * TIMES[:, None]
    return Samples(EVERY_FS, positions, velocities, rng.normal(300.0, 10.0, len(TIMES)))


@pytest.fixture(scope="module")
def found():
    atoms = bulk("Pt", "fcc", a=4.0, cubic=True) * (2, 2, 2)
    atoms.pbc = (True, True, False)
    mixture = [oscillating(s, 0.02) for s in (1, 2)]
    return compared(mixture, [oscillating(s, 0.04) for s in (3, 4)], atoms, 4)


def test_the_spectrum_is_one_line_of_area_one(found):
    spectrum = found["spectrum"]
    axis, power = np.array(spectrum["frequency_per_cm"]), np.array(spectrum["Pt"]["mixture"])
    width = axis[1] - axis[0]
    # A window of 1 ps: lines 33 per cm apart
    assert width == pytest.approx(33.356, rel=1e-3)
    assert abs(axis[power.argmax()] - FREQUENCY_PER_CM) <= width
    assert power.sum() * width == pytest.approx(1.0, rel=1e-12)


def test_neighbors_and_displacements_are_counted(found):
    pairs = found["pairs"]
    axis, near = np.array(pairs["distance_angstrom"]), np.array(pairs["Pt-Pt"]["hf"])
    first = (axis > 2.5) & (axis < 3.2)
    # 12 of fcc less the missing ones: two free faces of four layers, four each of 32 atoms' eight
    assert near[first].sum() * 0.1 == pytest.approx(10.0, rel=1e-12)
    moved = found["displacement"]
    times = np.array(moved["time_ps"])
    # 1e-4 Å/fs in y; a swing of 0.04 Å adds at most (0.08 Å)²
    ballistic = (0.1 * times) ** 2
    assert (np.abs(np.array(moved["Pt"]["hf"]) - ballistic) <= 0.09**2).all()


def test_errors_are_those_of_blocks_about_their_own_run(found):
    runs = [oscillating(s, a) for s, a in ((1, 0.02), (2, 0.02), (3, 0.04), (4, 0.04))]
    means = np.array([[b.temperature_k.mean() for b in run.blocks(4)] for run in runs])
    warmth = found["temperature_k"]
    within = means.var(axis=1, ddof=1) / 4
    expected = np.sqrt(within.sum()) / 2 * warmth["widened"] * max(1, warmth["between_starts"])
    assert warmth["standard_error"] == pytest.approx(expected, rel=1e-12)
    assert warmth["mixture"] == pytest.approx(means[:2].mean(), rel=1e-12)
    # Drawn one by one: half an instant of memory, and blocks of 1,000 need no widening
    assert warmth["correlation_time_ps"] == pytest.approx(0.5 * EVERY_FS / 1000, rel=0.1)
    assert 1.0 <= warmth["widened"] < 1.001
    differences = means[:2].mean(axis=1) - means[2:].mean(axis=1)
    chi = differences.var(ddof=1) / (within.sum() / 2)
    assert warmth["between_starts"] == pytest.approx(np.sqrt(chi), rel=1e-3)


def test_runs_come_in_pairs():
    atoms = bulk("Pt", "fcc", a=4.0, cubic=True) * (2, 2, 2)
    with pytest.raises(ValueError, match="1 runs of the mixture and 2 of HF: not in pairs"):
        compared([oscillating(1, 0.02)], [oscillating(s, 0.02) for s in (2, 3)], atoms, 4)


def test_unlike_motions_are_told_apart(found):
    assert found["displacement"]["Pt"]["within_two_errors"] < 0.5
