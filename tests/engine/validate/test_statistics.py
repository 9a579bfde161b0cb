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


def test_errors_are_those_of_means_over_blocks(found):
    blocks = [b.temperature_k.mean() for s in (1, 2) for b in oscillating(s, 0.02).blocks(4)]
    others = [b.temperature_k.mean() for s in (3, 4) for b in oscillating(s, 0.04).blocks(4)]
    expected = np.sqrt(np.var(blocks, ddof=1) / 8 + np.var(others, ddof=1) / 8)
    assert found["temperature_k"]["standard_error"] == pytest.approx(expected, rel=1e-12)
    assert found["temperature_k"]["mixture"] == pytest.approx(np.mean(blocks), rel=1e-12)


def test_unlike_motions_are_told_apart(found):
    assert found["displacement"]["Pt"]["within_two_errors"] < 0.5
