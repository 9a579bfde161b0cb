"""Weights that follow atoms: exact gradients, whatever the experts' difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.md import NVE, Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitFollowingPotential
from tests.pairs import high_fidelity, mismatched_pair

CORE, BLEND = 1.4, 2.4


def slab(x: float = 5.0) -> Atoms:
    """A rattled Pt slab with two C, closer than the blend is wide, and an O that is no seed."""
    atoms = fcc111("Pt", (4, 4, 2), a=3.97, vacuum=6.0)
    atoms.pbc = (True, True, False)
    top = atoms.positions[:, 2].max()
    atoms += Atoms("CCO", [(x, 3.0, top + 1.6), (x + 1.9, 3.4, top + 1.9), (x, 3.1, top + 2.8)])
    atoms.rattle(0.08, seed=5)
    return atoms


def seeds_of(atoms: Atoms) -> Any:
    return np.flatnonzero(atoms.symbols == "C")


def potential(atoms: Atoms, weights: Any = None, **settings: Any) -> Any:
    kind = settings.pop("kind", FollowingPotential)
    fields = {"core": CORE, "blend": BLEND, "seeds": seeds_of(atoms)}
    fields |= {name: settings.pop(name) for name in tuple(fields) if name in settings}
    return kind(
        settings.pop("pair", None) or mismatched_pair(zbl=True),
        list(atoms.symbols),
        np.zeros(len(atoms)) if weights is None else weights,
        atoms.pbc,
        dtype="float64",
        following=Following(**fields),
        **settings,
    )


def evaluate(p: Potential, positions: Any, cell: Any) -> Any:
    return p.evaluate(torch.tensor(positions), torch.tensor(np.asarray(cell)))


def plain_weights(atoms: Atoms, static: Any, core: float = CORE, blend: float = BLEND) -> Any:
    """w by its definition, image by image."""
    q = 1.0 - static
    for s in seeds_of(atoms):
        for a in range(-2, 3):
            for b in range(-2, 3):
                there = atoms.positions[s] + [a, b, 0] @ atoms.cell.array
                r = np.linalg.norm(atoms.positions - there, axis=1)
                x = np.clip((r - core) / blend, 0.0, 1.0)
                q = q * (6 * x**5 - 15 * x**4 + 10 * x**3)
    return 1.0 - q


def test_weights_are_the_product_over_seeds_and_their_images() -> None:
    atoms = slab()
    static = np.zeros(len(atoms))
    static[:4] = (1.0, 0.5, 0.25, 0.0)
    p = potential(atoms, static)
    evaluation = evaluate(p, atoms.positions, atoms.cell)
    expected = plain_weights(atoms, static)
    # The polynomial's terms of order 10 cancel to numbers of order 1.
    np.testing.assert_allclose(p.weights, expected, atol=1e-14)
    assert torch.equal(evaluation.weights, torch.from_numpy(p.weights))
    for zone in (p.weights == 1, (p.weights > 0) & (p.weights < 1), p.weights == 0):
        assert zone.sum() >= 2
    # Both seeds have a say in one atom's weight: they overlap.
    alone = [
        potential(atoms, static, seeds=seeds_of(atoms)[[k]], core=CORE, blend=BLEND) for k in (0, 1)
    ]
    for one in alone:
        evaluate(one, atoms.positions, atoms.cell)
    both = [(one.weights > 0) & (one.weights < 1) & (static == 0) for one in alone]
    assert (both[0] & both[1]).sum() >= 2


def test_forces_are_the_gradient_in_every_zone() -> None:
    atoms = slab()
    p = potential(atoms)
    forces = evaluate(p, atoms.positions, atoms.cell).forces.numpy()
    w = p.weights
    chosen = [*seeds_of(atoms), len(atoms) - 1, int(np.flatnonzero(w == 0)[-1])]
    chosen += np.flatnonzero((w > 0) & (w < 1))[:3].tolist()
    step, worst = 1e-4, 0.0
    for atom in chosen:
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = atoms.positions.copy()
                moved[atom, axis] += sign * step
                ends.append(evaluate(p, moved, atoms.cell).energy)
            worst = max(worst, abs(forces[atom, axis] + (ends[0] - ends[1]) / (2 * step)))
    assert worst < 1e-6
    # The part that a fixed partition does not have is no small thing here.
    fixed = Potential(mismatched_pair(zbl=True), list(atoms.symbols), w, atoms.pbc, dtype="float64")
    assert np.abs(forces - evaluate(fixed, atoms.positions, atoms.cell).forces.numpy()).max() > 0.1


def test_momentum_and_strain() -> None:
    atoms = slab()
    p = potential(atoms)
    evaluation = evaluate(p, atoms.positions, atoms.cell)
    assert evaluation.forces.sum(dim=0).abs().max() < 1e-10
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            strain = np.eye(3)
            strain[i, j] += step
            ends.append(evaluate(p, atoms.positions @ strain, atoms.cell.array @ strain).energy)
        slope = -(ends[0] - ends[1]) / 2e-5
        # Rounding of energies of some 100 eV over the strain: 1e-14 · 100 / 1e-5.
        assert float(evaluation.virial[i, j]) == pytest.approx(slope, abs=1e-5), (i, j)


def test_crossing_the_boundary_is_nothing_special() -> None:
    """The same structure with the seeds carried through the face of the cell, step by step."""
    atoms = slab(x=0.2)
    here = evaluate(potential(atoms), atoms.positions, atoms.cell)
    carried = atoms.positions.copy()
    carried[seeds_of(atoms)] -= atoms.cell.array[0]
    there = evaluate(potential(atoms), carried, atoms.cell)
    assert there.energy == pytest.approx(here.energy, abs=1e-10)
    np.testing.assert_allclose(there.forces, here.forces, atol=1e-10)
    p = potential(atoms, skin=0.4)
    energies = []
    for shift in np.arange(-0.5, 0.5, 0.1):
        positions = atoms.positions + np.array([shift, 0.0, 0.0])
        energies.append(evaluate(p, positions, atoms.cell).energy)
    np.testing.assert_allclose(energies, here.energy, atol=1e-9)
    assert p.n_rebuilds > 2


def test_far_from_everything_all_and_none() -> None:
    atoms = slab()
    away = atoms.copy()
    away.positions[seeds_of(atoms)] += [0.0, 0.0, 60.0]
    p = potential(away)
    energy = evaluate(p, away.positions, away.cell).energy
    fixed = np.zeros(len(atoms))
    fixed[seeds_of(atoms)] = 1.0
    pair = mismatched_pair(zbl=True)
    plain = Potential(pair, list(atoms.symbols), fixed, atoms.pbc, dtype="float64")
    assert energy == pytest.approx(evaluate(plain, away.positions, away.cell).energy, abs=1e-10)

    full = potential(atoms, core=30.0)
    everything = evaluate(full, atoms.positions, atoms.cell)
    assert (full.weights == 1).all()
    hf = Potential(pair, list(atoms.symbols), np.ones(len(atoms)), atoms.pbc, dtype="float64")
    np.testing.assert_array_equal(
        everything.forces, evaluate(hf, atoms.positions, atoms.cell).forces
    )


@pytest.mark.parametrize(
    ("atom", "way"),
    [
        (0, (-4.5, 0.0, 0.0)),  # away from the other seed, and out through a face of the cell
        (0, (1.2, 0.3, 0.2)),  # towards it, until each is deep inside the other's region
        (1, (0.0, 0.0, 9.0)),  # off the surface, until its region holds nothing but itself
    ],
)
def test_work_along_a_way_is_the_difference_of_the_energy(atom: int, way: Any) -> None:
    """Seeds that part, meet, cross the cell's face and leave the surface."""
    atoms = slab(x=3.2)
    p = potential(atoms, skin=1.0)
    seed, way = seeds_of(atoms)[atom], np.array(way)
    pieces = int(np.ceil(np.linalg.norm(way) / 0.25))
    nodes, shares = np.polynomial.legendre.leggauss(8)

    def at(part: float) -> Any:
        positions = atoms.positions.copy()
        positions[seed] += part * way
        return evaluate(p, positions, atoms.cell)

    work, seen = 0.0, []
    for piece in range(pieces):
        for node, share in zip(nodes, shares, strict=True):
            force = at((piece + 0.5 * (node + 1.0)) / pieces).forces[seed].numpy()
            work -= 0.5 * share / pieces * float(force @ way)
            seen.append(p.weights)
    difference = at(1.0).energy - at(0.0).energy
    assert abs(difference) > 0.1
    assert np.ptp(seen, axis=0).max() > 0.5  # atoms have come or gone
    # The forces' second derivative jumps, by some eV/Å³, where an atom enters or leaves a blend:
    # over the 0.03 Å between two nodes that is worth some 1e-6 eV. Without their extra part they
    # are off by what the experts differ, eV.
    assert work == pytest.approx(difference, abs=1e-5)


def test_an_expert_is_there_before_its_weight_leaves_zero() -> None:
    """One list serves a whole skin of motion: the same numbers as from a list built there."""
    atoms = slab()
    p = potential(atoms, skin=1.0)
    evaluate(p, atoms.positions, atoms.cell)
    entered = 0
    before = p.weights
    for x in np.linspace(-0.49, 0.49, 8):
        moved = atoms.positions.copy()
        moved[seeds_of(atoms), :2] += [0.7 * x, 0.7 * x]
        evaluation = evaluate(p, moved, atoms.cell)
        fresh = evaluate(potential(atoms), moved, atoms.cell)
        np.testing.assert_allclose(evaluation.forces, fresh.forces, atol=1e-11)
        entered += int(((before == 0) & (p.weights > 0)).sum())
    assert p.n_rebuilds == 1
    assert entered > 0


@pytest.mark.parametrize("twin", [True, False])
def test_energy_is_conserved_however_far_the_experts_disagree(twin: bool) -> None:
    """Velocity Verlet's error falls with the square of the step, and nothing else is left."""
    pair = mismatched_pair(zbl=True)
    if twin:
        pair = ExpertPair(pair.hf, high_fidelity(7, zbl=pair.hf.architecture.zbl))
    atoms = slab()
    spreads = []
    for timestep in (1.0, 0.5):
        p = potential(atoms, pair=pair, skin=0.5)
        state = initial_state(atoms, p, temperature_K=300.0, seed=2)
        steps = round(40 / timestep)
        states = run_md(state, p, [NVE(steps)], timestep_fs=timestep, limits=Limits(None, None))
        kept = [(s.conserved(s.kinetic_energy), s.weights, s.n_rebuilds) for s in states]
        spreads.append(np.ptp([energy for energy, _, _ in kept]))
        assert kept[-1][2] > 0
        assert not torch.equal(kept[0][1], kept[-1][1])
    assert 3.0 < spreads[0] / spreads[1] < 5.5


def test_the_gradient_of_the_weights_is_slow() -> None:
    atoms = slab()
    at = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    split = potential(atoms, kind=SplitFollowingPotential)
    whole, fast = split.evaluate(*at), split.evaluate_fast(*at)
    mixture = potential(atoms).evaluate(*at)
    pair = mismatched_pair(zbl=True)
    low = Potential(pair, list(atoms.symbols), np.zeros(len(atoms)), atoms.pbc, dtype="float64")
    # Float64 sums of some hundred terms of at most 10 eV/Å, in another order.
    for name in ("energies", "forces", "virial", "weights"):
        assert (getattr(whole, name) - getattr(mixture, name)).abs().max() < 1e-11, name
    assert (fast.forces - low.evaluate(*at).forces).abs().max() < 1e-11
    assert (whole.slow_forces + fast.forces - mixture.forces).abs().max() < 1e-11
    # With fixed weights the slow force of a far atom's neighbour would be another.
    fixed = Potential(pair, low.species, split.weights, atoms.pbc, dtype="float64").evaluate(*at)
    assert (whole.slow_forces - (fixed.forces - fast.forces)).abs().max() > 0.1


def test_energy_is_conserved_where_time_is_split_too() -> None:
    """At a fixed number of inner steps the error falls with the square of the step."""
    atoms = slab()
    spreads = []
    for timestep in (0.5, 0.25):
        p = potential(atoms, skin=0.5, kind=SplitFollowingPotential)
        state = initial_state(atoms, p, temperature_K=300.0, seed=2)
        stage = SplitNVE(round(40 / timestep), every=2)
        states = run_md(state, p, [stage], timestep_fs=timestep, limits=Limits(None, None))
        kept = [(s.conserved(s.kinetic_energy), s.weights, s.n_rebuilds) for s in states]
        spreads.append(np.ptp([energy for energy, _, _ in kept]))
        assert kept[-1][2] > 0
        assert not torch.equal(kept[0][1], kept[-1][1])
    assert 3.0 < spreads[0] / spreads[1] < 5.5


def test_what_cannot_follow_is_refused() -> None:
    atoms = slab()
    with pytest.raises(InputError, match="needs both experts, and the pair lacks lf"):
        potential(atoms, np.ones(len(atoms)), pair=ExpertPair(high_fidelity(), None))
