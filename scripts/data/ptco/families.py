"""The families of frames: what each trajectory of the set contains.

Every function yields the frames of one independent trajectory: it draws its own cell, strain,
temperature, coverage and sites from `rng`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from ptco.adsorbates import add_co, random_co, surface_sites
from ptco.sampling import Sampler
from ptco.structures import (
    THERMAL_EXPANSION,
    bulk_cell,
    debye_amplitude,
    random_strain,
    rattled,
    recentred,
    slab,
    strained,
)

Rng = np.random.Generator


@dataclass(frozen=True)
class Family:
    """`trajectories` independent runs of `frames` frames each, all of one config_type."""

    name: str
    sample: Callable[[Sampler, Rng, int], Iterator[Atoms]]
    trajectories: int
    frames: int
    target: str = "reference"  # or "agreement", "agreement_test": the file it is exported to


def _lattice(sampler: Sampler, temperature: float) -> float:
    return sampler.lattice_constant * (1.0 + THERMAL_EXPANSION * temperature)


def _labelled(sampler: Sampler, frames: list[Atoms]) -> Iterator[Atoms]:
    for frame in frames:
        yield sampler.label(frame)


# ---- bulk platinum ---------------------------------------------------------------------------


def _strained_frames(sampler: Sampler, rng: Rng, count: int) -> list[Atoms]:
    atoms = strained(bulk_cell(sampler.lattice_constant, rng), random_strain(rng, 0.06))
    temperature = rng.uniform(300, 1500)
    if rng.random() < 0.4:
        return [rattled(atoms, debye_amplitude(temperature), rng) for _ in range(count)]
    return sampler.thermal_platinum(atoms, temperature, count, rng)


def _thermal_frames(sampler: Sampler, rng: Rng, count: int, large: float) -> list[Atoms]:
    temperature = rng.uniform(300, 1500)
    atoms = bulk_cell(_lattice(sampler, temperature), rng, large=large)
    atoms = strained(atoms, random_strain(rng, 0.01))
    return sampler.thermal_platinum(atoms, temperature, count, rng)


def _vacancy_frames(sampler: Sampler, rng: Rng, count: int, large: float) -> list[Atoms]:
    temperature = rng.uniform(300, 1300)
    atoms = bulk_cell(_lattice(sampler, temperature), rng, large=large)
    atoms = strained(atoms, random_strain(rng, 0.02))
    removed = rng.choice(len(atoms), size=1 + int(rng.random() < 0.2), replace=False)
    del atoms[list(removed)]
    return sampler.thermal_platinum(atoms, temperature, count, rng)


def bulk_strained(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Strains up to ±6 %, thermal (300-1500 K) or rattled with the Debye amplitude."""
    yield from _labelled(sampler, _strained_frames(sampler, rng, count))


def bulk_thermal(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """300-1500 K near zero pressure; one cell in ten has 108 atoms."""
    yield from _labelled(sampler, _thermal_frames(sampler, rng, count, large=0.1))


def bulk_vacancy(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """One vacancy, sometimes two, 300-1300 K."""
    yield from _labelled(sampler, _vacancy_frames(sampler, rng, count, large=0.05))


def bulk_close(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """One atom pushed 0.3-0.7 Å towards a neighbour in a rattled crystal."""
    for _ in range(count):
        atoms = rattled(bulk_cell(sampler.lattice_constant, rng), 0.05, rng)
        distances = atoms.get_distances(0, range(1, len(atoms)), mic=True)
        neighbor = 1 + int(np.argmin(distances))
        vector = atoms.get_distance(0, neighbor, mic=True, vector=True)
        atoms.positions[0] += rng.uniform(0.3, 0.7) * vector / np.linalg.norm(vector)
        yield sampler.label(atoms)


def bulk_md(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Snapshots of the calculator's own run, 32 atoms, 300-1500 K."""
    temperature = rng.uniform(300, 1500)
    yield from _bulk_run(sampler, rng, count, temperature, 2)


def _bulk_run(
    sampler: Sampler, rng: Rng, count: int, temperature: float, repeats: int
) -> Iterator[Atoms]:
    perfect = bulk("Pt", a=_lattice(sampler, temperature), cubic=True) * ((repeats,) * 3)
    start = sampler.thermal_platinum(perfect, temperature, 1, rng)[0]
    yield from sampler.dynamics(start, temperature, count, rng, interval=12)


def _held_out(temperature: float, repeats: int) -> Callable[[Sampler, Rng, int], Iterator[Atoms]]:
    def sample(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
        yield from _bulk_run(sampler, rng, count, temperature, repeats)

    return sample


# ---- bulk frames for the agreement term: no labels --------------------------------------------


def agreement_strained(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Unlabelled strained bulk."""
    yield from _strained_frames(sampler, rng, count)


def agreement_thermal(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Unlabelled hot bulk."""
    yield from _thermal_frames(sampler, rng, count, large=0.25)


def agreement_vacancy(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Unlabelled bulk with a vacancy."""
    yield from _vacancy_frames(sampler, rng, count, large=0.25)


# ---- clean surfaces ----------------------------------------------------------------------------

_CLEAN_SIZES = {
    "111": ((3, 3, 4), (3, 3, 5), (2, 3, 6), (3, 4, 4)),
    "100": ((3, 3, 4), (3, 3, 5), (2, 3, 6)),
    "211": ((3, 3, 4), (3, 4, 4), (6, 2, 4)),
}
_CO_SIZES = {
    "111": ((3, 3, 4), (3, 3, 4), (2, 3, 4), (3, 3, 3), (2, 2, 5), (3, 4, 3)),
    "100": ((3, 3, 4), (2, 3, 4), (3, 3, 3)),
    "211": ((3, 3, 4), (3, 3, 3), (6, 2, 3)),
}


def _slab(sampler: Sampler, rng: Rng, kind: str, temperature: float, sizes: dict) -> Atoms:
    lattice = _lattice(sampler, temperature) * (1.0 + rng.uniform(-0.015, 0.015))
    choices = sizes[kind]
    return slab(kind, choices[rng.integers(len(choices))], lattice)


def _clean(kind: str) -> Callable[[Sampler, Rng, int], Iterator[Atoms]]:
    def sample(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
        temperature = rng.uniform(200, 1200)
        atoms = _slab(sampler, rng, kind, temperature, _CLEAN_SIZES)
        yield from _labelled(sampler, sampler.thermal_platinum(atoms, temperature, count, rng))

    return sample


def slab_defect(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Pt(111) or (100) with adatoms or with surface vacancies."""
    kind = ("111", "100")[rng.integers(2)]
    temperature = rng.uniform(200, 900)
    atoms = _slab(sampler, rng, kind, temperature, _CLEAN_SIZES)
    sites = surface_sites(atoms, sampler.lattice_constant / np.sqrt(2))
    if rng.random() < 0.6:
        hollows = [s for s in sites if s.kind in ("fcc", "hcp", "hollow")]
        for k in rng.permutation(len(hollows))[: rng.integers(1, 3)]:
            position = hollows[k].centre(atoms) + 2.1 * hollows[k].normal
            if atoms.get_positions()[:, 2].max() > position[2] - 1.0:
                distances = np.linalg.norm(atoms.positions - position, axis=1)
                if distances.min() < 2.2:
                    continue
            atoms += Atoms("Pt", [position])
    else:
        tops = [s.atoms[0] for s in sites if s.kind == "top"]
        del atoms[list(rng.choice(tops, size=rng.integers(1, 3), replace=False))]
    atoms = recentred(atoms)
    yield from _labelled(sampler, sampler.thermal_platinum(atoms, temperature, count, rng))


# ---- CO ----------------------------------------------------------------------------------------


def covered(
    sampler: Sampler,
    rng: Rng,
    kind: str,
    temperature: float,
    largest: int,
    *,
    fewest: int = 1,
    **placement: Any,
) -> Atoms:
    """A thermal slab with `fewest` to `largest` CO."""
    ideal = _slab(sampler, rng, kind, temperature, _CO_SIZES)
    sites = surface_sites(ideal, sampler.lattice_constant / np.sqrt(2))
    thermal = sampler.thermal_platinum(ideal, temperature, 1, rng)[0]
    count = int(rng.integers(fewest, largest + 1))
    return recentred(add_co(thermal, sites, count, rng, **placement))


def _covered_run(
    kind: str, coldest: float, hottest: float, largest: int
) -> Callable[[Sampler, Rng, int], Iterator[Atoms]]:
    def sample(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
        temperature = rng.uniform(coldest, hottest)
        # One run in two has all its molecules on one kind of site, so that rare kinds are seen.
        kinds = (("top",), ("bridge",), ("fcc",), ("hcp",), ("hollow",))[rng.integers(5)]
        present = {"111": {"top", "bridge", "fcc", "hcp"}, "100": {"top", "bridge", "hollow"}}
        alike = rng.random() < 0.5 and kinds[0] in present.get(kind, {"top", "bridge"})
        atoms = covered(sampler, rng, kind, temperature, largest, kinds=kinds if alike else None)
        yield from sampler.dynamics(atoms, temperature, count, rng)

    return sample


def co_second_layer(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """Chemisorbed CO on (111) with one to three molecules 3-4.5 Å above it, 100-300 K."""
    temperature = rng.uniform(100, 300)
    atoms = covered(sampler, rng, "111", temperature, 4, kinds=("top", "fcc", "bridge"))
    above = atoms.positions[:, 2].max()
    for _ in range(rng.integers(1, 4)):
        centre = rng.random(3) @ atoms.cell.array
        centre[2] = above + rng.uniform(3.0, 4.5)
        molecule = random_co(centre, 1.146 + rng.normal(0, 0.03), rng)
        if gap(atoms, molecule) > 2.6:
            atoms += molecule
    yield from sampler.dynamics(recentred(atoms), temperature, count, rng)


def co_random(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """CO at random heights and tilts over (111), (100) and (211), single points."""
    for _ in range(count):
        kind = ("111", "111", "100", "211")[rng.integers(4)]
        temperature = rng.uniform(200, 800)
        yield sampler.label(covered(sampler, rng, kind, temperature, 4, lift=rng.uniform(0.0, 1.2)))


def co_approach(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """A CO in any direction brought to within 1.7-3 Å of a surface or of an adsorbed CO."""
    for _ in range(count):
        atoms = covered(sampler, rng, "111", 300.0, 2)
        for _ in range(50):
            centre = rng.random(3) @ atoms.cell.array
            centre[2] = atoms.positions[:, 2].max() + rng.uniform(-0.5, 3.0)
            molecule = random_co(centre, 1.15 + rng.normal(0, 0.03), rng)
            if 1.7 < gap(atoms, molecule) < 3.0:
                yield sampler.label(recentred(atoms + molecule))
                break


def gas_co(sampler: Sampler, rng: Rng, count: int) -> Iterator[Atoms]:
    """One to four CO in a box of 13-15 Å: bonds of 1.0-1.5 Å, or a hot run."""
    edge = rng.uniform(13, 15)
    box = Atoms(cell=[edge] * 3, pbc=True)
    molecules = int(rng.integers(1, 5))
    if rng.random() < 0.5:
        hot = _gas(box, molecules, (1.10, 1.20), rng)
        yield from sampler.dynamics(hot, rng.uniform(300, 2000), count, rng)
        return
    for _ in range(count):
        yield sampler.label(_gas(box, molecules, (1.0, 1.5), rng))


def _gas(box: Atoms, molecules: int, bonds: tuple[float, float], rng: Rng) -> Atoms:
    """Molecules 2.4-6 Å from one another, so that they feel each other."""
    centre = box.cell.array.sum(axis=0) / 2
    atoms = box.copy()
    for _ in range(200):
        if len(atoms) == 2 * molecules:
            break
        offset = rng.normal(0.0, 2.0, 3)
        molecule = random_co(centre + offset, rng.uniform(*bonds), rng)
        if len(atoms) == 0 or gap(atoms, molecule) > 2.4:
            atoms += molecule
    return atoms


def gap(atoms: Atoms, molecule: Atoms) -> float:
    """Shortest distance (Å) between the two, periodic."""
    together = atoms + molecule
    distances = [
        together.get_distances(k, range(len(atoms)), mic=True).min()
        for k in range(len(atoms), len(together))
    ]
    return float(min(distances))


FAMILIES = (
    Family("bulk_strained", bulk_strained, 40, 4),
    Family("bulk_thermal", bulk_thermal, 28, 4),
    Family("bulk_vacancy", bulk_vacancy, 20, 4),
    Family("bulk_close", bulk_close, 12, 2),
    Family("bulk_md", bulk_md, 12, 5),
    Family("slab_111", _clean("111"), 20, 4),
    Family("slab_100", _clean("100"), 15, 4),
    Family("slab_211", _clean("211"), 15, 4),
    Family("slab_defect", slab_defect, 12, 4),
    Family("co_111", _covered_run("111", 200, 650, 5), 28, 8),
    Family("co_100", _covered_run("100", 200, 650, 5), 10, 5),
    Family("co_211", _covered_run("211", 200, 650, 4), 10, 7),
    Family("co_hot", _covered_run("111", 650, 1000, 5), 12, 8),
    Family("co_second_layer", co_second_layer, 10, 6),
    Family("co_random", co_random, 40, 4),
    Family("co_approach", co_approach, 40, 2),
    Family("gas_co", gas_co, 20, 4),
    Family("agreement_strained", agreement_strained, 24, 3, "agreement"),
    Family("agreement_thermal", agreement_thermal, 24, 3, "agreement"),
    Family("agreement_vacancy", agreement_vacancy, 20, 3, "agreement"),
    Family("bulk_300K_32", _held_out(300, 2), 4, 4, "agreement_test"),
    Family("bulk_300K_108", _held_out(300, 3), 2, 3, "agreement_test"),
    Family("bulk_900K_32", _held_out(900, 2), 4, 4, "agreement_test"),
    Family("bulk_900K_108", _held_out(900, 3), 2, 3, "agreement_test"),
)
