"""Further frames with CO, of what the first set has too little of.

HF that was trained on the first set has its largest errors on molecules that approach a surface,
lie on it at random or are hot. These families have more of them, and what the first set lacks:
crowded surfaces, hot steps, stretched bonds. Their runs are long, for a sampler with a fast driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms

from ptco.adsorbates import random_co
from ptco.families import Family, Rng, covered, gap
from ptco.sampling import Sampler
from ptco.structures import recentred


def _run(
    kinds: tuple[str, ...], temperatures: tuple[float, float], largest: int, **placement: Any
) -> Callable[[Sampler, Rng, int], Iterator[Atoms]]:
    """Snapshots of one run on a surface of one of the kinds, with up to `largest` CO."""

    def sample(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
        temperature = rng.uniform(*temperatures)
        kind = kinds[rng.integers(len(kinds))]
        atoms = covered(sampler, rng, kind, temperature, largest, **placement)
        yield from sampler.dynamics(atoms, temperature, count, rng, interval=20, settling=60)

    return sample


def _thrown(sampler: Sampler, rng: Rng) -> Atoms:
    """A surface with 1 to 3 CO, and another 1.8-3.2 Å from it or from them, in any direction."""
    kind = ("111", "111", "100", "211")[rng.integers(4)]
    atoms = covered(sampler, rng, kind, rng.uniform(300, 900), 3)
    while True:
        centre = rng.random(3) @ atoms.cell.array
        centre[2] = atoms.positions[:, 2].max() + rng.uniform(-1.0, 3.0)
        molecule = random_co(centre, 1.15 + rng.normal(0, 0.04), rng)
        if 1.8 < gap(atoms, molecule) < 3.2:
            return recentred(atoms + molecule)


def co_thrown(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """The first tenth of a picosecond of a CO that comes close to a surface, 300-1200 K."""
    start = _thrown(sampler, rng)
    yield from sampler.dynamics(start, rng.uniform(300, 1200), count, rng)


def co_near(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Starts of `co_thrown`, single points."""
    for _ in range(count):
        yield sampler.label(_thrown(sampler, rng))


def co_scattered(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Up to six CO at random heights and tilts, single points."""
    for _ in range(count):
        kind = ("111", "111", "100", "211")[rng.integers(4)]
        lift = rng.uniform(0.0, 1.2)
        temperature = rng.uniform(200, 900)
        yield sampler.label(
            covered(sampler, rng, kind, temperature, 6, lift=lift, apart=rng.uniform(2.6, 3.2))
        )


def co_stretched(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Every C-O bond at 1.0 to 1.6 Å, single points."""
    for _ in range(count):
        kind = ("111", "100", "211")[rng.integers(3)]
        atoms = covered(sampler, rng, kind, rng.uniform(200, 900), 4, lift=rng.uniform(0.0, 0.4))
        for carbon in np.flatnonzero(atoms.symbols == "C"):
            bond = atoms.positions[carbon + 1] - atoms.positions[carbon]
            length = rng.uniform(1.0, 1.6)
            atoms.positions[carbon + 1] += (length / np.linalg.norm(bond) - 1.0) * bond
        yield sampler.label(recentred(atoms))


MORE_FAMILIES = (
    Family("co_crowded", _run(("111", "100"), (300, 800), 9, fewest=4, apart=2.6), 13, 8),
    Family("co_steps", _run(("211",), (300, 1200), 6, apart=2.8), 17, 8),
    Family("co_hotter", _run(("111", "111", "100"), (700, 1200), 6), 17, 8),
    Family("co_thrown", co_thrown, 23, 6),
    Family("co_near", co_near, 33, 4),
    Family("co_scattered", co_scattered, 33, 4),
    Family("co_stretched", co_stretched, 17, 4),
)
