"""HF as a correction Δ to LF: the energy is Σ E^LF + Σ w Δ, whoever asks and however."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.types import atom_kinds
from duetto.frontends.lammps.unified import DuettoUnified
from duetto.md import NVE, Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.partition.ledger import Ledger
from duetto.potential.base import Evaluation
from duetto.potential.edges import EdgePotential, edges_of
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential, Term
from duetto.potential.neighbors import neighbors_of
from duetto.potential.split import SplitFollowingPotential, SplitPotential
from duetto.potential.terms import by_expert, mixture_terms
from duetto.run.pair_model import open_pair
from tests.linear_experts import random_expert
from tests.pairs import high_fidelity, low_fidelity, mismatched_pair

SUMS = 1e-11
"""eV and eV/Å: float64 sums of some hundred terms of at most 10 eV/Å, in another order."""


def corrected(linear: bool = False) -> ExpertPair:
    """A Δ as large as any energy, on an LF with a kernel by edges or in one pass."""
    apart = mismatched_pair(zbl=True)
    lf = random_expert("three species, one without moments, wall") if linear else apart.lf
    return ExpertPair(apart.hf, lf, correction=True)


def crystal() -> Atoms:
    atoms = bulk("Pt", "fcc", a=4.2, cubic=True).repeat((3, 2, 2))
    atoms.symbols[[1, 10]] = "C"
    atoms.symbols[[5]] = "O"
    atoms.rattle(0.1, seed=1)
    return atoms


def weights() -> np.ndarray:
    w = np.zeros(48)
    w[:12], w[12:18] = 1.0, 0.4
    return w


def at(atoms: Atoms) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)


def make(kind: Any, pair: ExpertPair, w: np.ndarray, atoms: Atoms, **options: Any) -> Any:
    options = {"dtype": "float64", "skin": 0.3, **options}
    return kind(pair, list(atoms.symbols), w, atoms.pbc, **options)


def following(atoms: Atoms) -> Following:
    return Following(np.flatnonzero(atoms.symbols == "C"), 1.4, 2.4)


def alone(pair: ExpertPair, atoms: Atoms, c: np.ndarray) -> tuple[Evaluation, Evaluation]:
    """Σ E^LF and Σ c Δ, each by a pair that has one expert and knows nothing of corrections."""
    ones = np.ones(len(atoms))
    lf = make(Potential, ExpertPair(None, pair.lf), 0.0 * ones, atoms)
    delta = make(Potential, ExpertPair(pair.hf, None), ones, atoms)
    (of_delta,) = delta.evaluate_terms(*at(atoms), [[Term("hf", c)]])
    return lf.evaluate(*at(atoms)), of_delta


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_the_mixture_is_lf_and_the_weighted_correction(linear: bool, backend: str) -> None:
    atoms, pair, w = crystal(), corrected(linear), weights()
    found = make(Potential, pair, w, atoms, backend=backend).evaluate(*at(atoms))
    lf, delta = alone(pair, atoms, w)
    for name in ("energies", "forces", "virial"):
        expected = getattr(lf, name) + getattr(delta, name)
        assert (getattr(found, name) - expected).abs().max() < SUMS, name
    assert found.energy == pytest.approx(lf.energy + delta.energy, abs=SUMS)
    sites = found.site_energies
    assert (sites["lf"] - lf.energies).abs().max() < SUMS  # LF computes every atom
    known = torch.from_numpy(w > 0.0)
    whole = lf.site_energies["lf"] + delta.site_energies["hf"]
    assert (sites["hf"] - whole)[known].abs().max() < SUMS
    assert bool(sites["hf"][~known].isnan().all())


def test_full_hf_is_w_of_one_and_full_lf_of_zero() -> None:
    atoms, pair = crystal(), corrected()
    for w in (np.ones(48), np.zeros(48)):
        found = make(Potential, pair, w, atoms).evaluate(*at(atoms))
        lf, delta = alone(pair, atoms, w)
        assert (found.forces - lf.forces - delta.forces).abs().max() < SUMS
    assert (found.forces - lf.forces).abs().max() < SUMS


def test_lf_counts_once_to_the_last_bit() -> None:
    """w + (1 − w) is 1, so that LF's sum of all atoms is one sum whatever the weights."""
    w = np.concatenate([np.random.default_rng(1).random(200_000), np.geomspace(1e-300, 1.0, 1000)])
    found = by_expert(mixture_terms(w), correction=True)
    assert (found["lf"] == 1.0).all()
    assert (found["hf"] == w).all()
    slow = by_expert([Term("hf", w), Term("lf", -w)], correction=True)
    assert (slow["lf"] == 0.0).all()


def test_a_run_does_not_give_it_another_lf(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "delta.duetto"
    corrected().save(path)
    monkeypatch.setattr("duetto.run.pair_model._open_expert", lambda named: high_fidelity(5))
    named = SimpleNamespace(model_dump=lambda **_: {"torch": "another"})

    def config(**experts: Any) -> Any:
        both = SimpleNamespace(**({"hf": None, "lf": None} | experts))
        return SimpleNamespace(pair=path, pair_name="delta.duetto", experts=both)

    assert open_pair(config()).correction
    with pytest.raises(InputError, match=r"experts.lf: the hf of delta.duetto is a correction"):
        open_pair(config(lf=named))
    assert not open_pair(config(hf=named)).correction  # that HF is an energy of its own


def test_energies_and_forces_of_each_expert() -> None:
    atoms, pair = crystal(), corrected()
    potential = make(Potential, pair, weights(), atoms)
    lf, delta = alone(pair, atoms, np.ones(48))
    e_hf, e_lf = potential.expert_energies(*at(atoms), [3, 40])
    f_hf, f_lf = potential.expert_forces(*at(atoms), np.arange(48))
    assert (e_hf - e_lf - delta.site_energies["hf"])[[3, 40]].abs().max() < SUMS
    assert int(e_hf.isnan().sum()) == 46
    assert (f_lf - lf.forces).abs().max() < SUMS
    assert (f_hf - lf.forces - delta.forces).abs().max() < SUMS
    assert potential.self_check(*at(atoms)) < 1e-10


@pytest.mark.parametrize("kind", [Potential, FollowingPotential, SplitPotential])
def test_forces_are_the_gradient(kind: Any) -> None:
    atoms, pair = crystal(), corrected()
    options = {"following": following(atoms)} if kind is FollowingPotential else {}
    potential = make(kind, pair, weights(), atoms, **options)
    x, cell = at(atoms)
    forces, step, worst = potential.evaluate(x, cell).forces, 1e-4, 0.0
    blend = np.flatnonzero((potential.weights > 0) & (potential.weights < 1))
    for atom in (1, 5, int(blend[0]), 47):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = x.clone()
                moved[atom, axis] += sign * step
                ends.append(potential.evaluate(moved, cell).energy)
            worst = max(worst, abs(float(forces[atom, axis]) + (ends[0] - ends[1]) / (2 * step)))
    assert worst < 1e-6


def test_weights_that_follow_weigh_the_correction() -> None:
    atoms, pair = crystal(), corrected()
    static = np.zeros(48)
    static[20] = 0.3
    potential = make(FollowingPotential, pair, static, atoms, following=following(atoms))
    found = potential.evaluate(*at(atoms))
    lf, delta = alone(pair, atoms, potential.weights)
    energies = lf.energies + delta.energies
    assert (found.energies - energies).abs().max() < SUMS
    # The same with HF an expert of its own: E^HF = E^LF + Δ has the same difference to LF.
    (of_delta,) = [alone(pair, atoms, np.ones(48))[1].site_energies["hf"].numpy()]
    extra, virial = np.zeros((48, 3)), np.zeros((1, 3, 3))
    q = 1.0 - potential.weights
    around = potential._around
    around.pull(atoms.positions, atoms.cell.array, q, of_delta, extra, virial)
    assert np.abs(extra).max() > 0.1
    expected = lf.forces + delta.forces + torch.from_numpy(extra)
    assert (found.forces - expected).abs().max() < SUMS
    expected = lf.virial + delta.virial + torch.from_numpy(virial[0])
    assert (found.virial - expected).abs().max() < SUMS


@pytest.mark.parametrize("kind", [SplitPotential, SplitFollowingPotential])
def test_the_slow_force_is_the_corrections(kind: Any) -> None:
    atoms, pair = crystal(), corrected()
    options = {} if kind is SplitPotential else {"following": following(atoms)}
    potential = make(kind, pair, weights(), atoms, **options)
    whole, fast = potential.evaluate(*at(atoms)), potential.evaluate_fast(*at(atoms))
    lf, delta = alone(pair, atoms, potential.weights)
    assert (fast.forces - lf.forces).abs().max() < SUMS
    assert (whole.slow_forces + fast.forces - whole.forces).abs().max() < SUMS
    if kind is SplitPotential:
        assert (whole.slow_forces - delta.forces).abs().max() < SUMS


@pytest.mark.parametrize("linear", [False, True])
def test_an_outer_step_asks_lf_once_and_the_correction_where_it_weighs(linear: bool) -> None:
    atoms = crystal()
    split = make(SplitPotential, corrected(linear), weights(), atoms)
    computed = dict.fromkeys(split.backend.experts, 0)
    for role, expert in split.backend.experts.items():
        name = "add_forces" if hasattr(expert, "add_forces") else "evaluate"
        original = getattr(expert, name)

        def counted(*args: Any, role: str = role, name: str = name, of: Any = original) -> Any:
            computed[role] += len(args[4] if name == "add_forces" else args[1].types)
            return of(*args)

        setattr(expert, name, counted)
    split.evaluate(*at(atoms))
    assert computed == {"hf": 18, "lf": 48}
    split.evaluate_fast(*at(atoms))
    assert computed == {"hf": 18, "lf": 96}


@pytest.mark.parametrize("linear", [False, True])
def test_one_inner_step_is_velocity_verlet_to_the_last_bit(linear: bool) -> None:
    """LF's sum is the same in the mixture and alone, so nothing rounds otherwise."""
    atoms, last = crystal(), []
    for kind, stage in ((Potential, NVE(20)), (SplitPotential, SplitNVE(20, every=1))):
        potential = make(kind, corrected(linear), weights(), atoms)
        start = initial_state(atoms, potential, temperature_K=300.0, seed=2)
        *_, state = run_md(start, potential, [stage], timestep_fs=0.5)
        last.append(state)
    plain, split = last
    assert torch.equal(plain.positions, split.positions)
    assert torch.equal(plain.velocities, split.velocities)


def test_energy_is_conserved_where_weights_follow_and_time_is_split() -> None:
    """At a fixed number of inner steps the error falls with the square of the step."""
    atoms, spreads = crystal(), []
    for timestep in (0.5, 0.25):
        options = {"following": following(atoms), "skin": 0.5}
        potential = make(SplitFollowingPotential, corrected(), np.zeros(48), atoms, **options)
        state = initial_state(atoms, potential, temperature_K=300.0, seed=2)
        stage = SplitNVE(round(40 / timestep), every=2)
        limits = Limits(None, None)
        states = run_md(state, potential, [stage], timestep_fs=timestep, limits=limits)
        kept = [(s.conserved(s.kinetic_energy), s.weights) for s in states]
        spreads.append(np.ptp([energy for energy, _ in kept]))
        assert not torch.equal(kept[0][1], kept[-1][1])
    assert 3.0 < spreads[0] / spreads[1] < 5.5


def test_what_a_change_of_weights_costs_is_the_corrections() -> None:
    atoms, pair, w = crystal(), corrected(), weights()
    potential = make(Potential, pair, w, atoms)
    to = np.roll(w, 5)
    before = potential.evaluate(*at(atoms)).energy
    energies = [e.numpy() for e in potential.expert_energies(*at(atoms))]
    ledger = Ledger(w)
    ledger.change(np.arange(48), to, *energies)
    potential.set_weights(to)
    booked = potential.evaluate(*at(atoms)).energy - before
    assert abs(booked) > 0.1
    assert ledger.e_repartition == pytest.approx(booked, abs=SUMS)


def centres_and_edges(atoms: Atoms, reach: float) -> tuple[Any, ...]:
    x, cell = at(atoms)
    near = neighbors_of(np.arange(len(atoms)), reach, x, cell, np.asarray(atoms.pbc))
    row = np.repeat(np.arange(len(atoms)), np.diff(near.first))
    vectors = atoms.positions[near.neighbor] - atoms.positions[row] + near.shift @ cell.numpy()
    return near.first, row, near.neighbor, vectors


def forces_of(row: Any, neighbor: Any, gradient: Any) -> np.ndarray:
    forces = np.zeros((48, 3))
    np.add.at(forces, row, gradient)
    np.add.at(forces, neighbor, -gradient)
    return forces


def test_over_edges_of_others() -> None:
    atoms, pair, w = crystal(), corrected(), weights()
    expected = make(Potential, pair, w, atoms).evaluate(*at(atoms))
    names = sorted(set(atoms.symbols))
    potential = EdgePotential(pair, names, dtype="float64")
    first, row, neighbor, vectors = centres_and_edges(atoms, potential.cutoff)
    kinds = np.array([names.index(symbol) for symbol in atoms.symbols])
    edges = edges_of(first, kinds, kinds[neighbor], vectors)
    energies, gradient = potential.evaluate_edges(edges, mixture_terms(w))
    assert (energies - expected.energies).abs().max() < SUMS
    found = forces_of(row, neighbor, gradient.numpy())
    assert np.abs(found - expected.forces.numpy()).max() < SUMS


@pytest.mark.parametrize("terms", ["mixture", "fast", "slow"])
def test_in_lammps(terms: str) -> None:
    atoms, pair, w = crystal(), corrected(), weights()
    kinds = atom_kinds(atoms.symbols, w)
    types = list(dict.fromkeys(kinds))
    unified = DuettoUnified(pair, [kind.name for kind in types], terms=terms)
    assert unified.roles == {"mixture": ["hf", "lf"], "fast": ["lf"], "slow": ["hf"]}[terms]
    _, row, neighbor, vectors = centres_and_edges(atoms, 2 * unified.rcutfac)
    elems = np.array([types.index(kind) for kind in kinds])
    given: dict[str, Any] = {}
    data: Any = SimpleNamespace(
        ntotal=48,
        nlistatoms=48,
        npairs=len(row),
        iatoms=np.arange(48),
        elems=elems,
        pair_i=row,
        pair_j=neighbor,
        rij=vectors,
        weights=w,
        update_pair_forces=lambda fij: given.update(gradient=fij),
    )
    unified.compute_forces(data)
    split = make(SplitPotential, pair, w, atoms)
    whole, fast = split.evaluate(*at(atoms)), split.evaluate_fast(*at(atoms))
    slow = whole.slow_forces, whole.energy - fast.energy
    expected, energy = {
        "mixture": (whole.forces, whole.energy),
        "fast": (fast.forces, fast.energy),
        "slow": slow,
    }[terms]
    assert data.energy == pytest.approx(energy, abs=1e-10)
    found = forces_of(row, neighbor, given["gradient"])
    assert np.abs(found - expected.numpy()).max() < SUMS


@pytest.mark.parametrize("terms", ["mixture", "slow"])
def test_in_lammps_weights_follow_by_the_correction(terms: str) -> None:
    """The difference of the experts is Δ, with LF asked and without."""
    atoms, pair, w = crystal(), corrected(), weights()
    kinds = atom_kinds(atoms.symbols, np.zeros(48), following(atoms).seeds)
    types = list(dict.fromkeys(kinds))
    names = [kind.name for kind in types]
    unified = DuettoUnified(pair, names, terms=terms, follow=(1.4, 2.4))
    _, row, neighbor, vectors = centres_and_edges(atoms, 2 * unified.rcutfac)
    pulled: list[np.ndarray] = []
    asked = torch.from_numpy(w > 0.0)
    fake: Any = SimpleNamespace(
        of_centres=lambda centres: (torch.from_numpy(w), {"hf": asked, "lf": asked}),
        pull=lambda centres, difference: pulled.append(difference.numpy()),
    )
    data: Any = SimpleNamespace(
        ntotal=48,
        nlistatoms=48,
        npairs=len(row),
        iatoms=np.arange(48),
        elems=np.array([types.index(kind) for kind in kinds]),
        pair_i=row,
        pair_j=neighbor,
        rij=vectors,
        following=fake,
        update_pair_forces=lambda fij: None,
    )
    unified.compute_forces(data)
    delta = alone(pair, atoms, np.ones(48))[1].site_energies["hf"].numpy()
    assert np.abs(pulled[0] - delta)[w > 0].max() < SUMS


def test_an_atom_that_either_does_not_know_is_named() -> None:
    atoms = crystal()
    delta = high_fidelity(type_names=("Pt", "C"))
    pair = ExpertPair(delta, low_fidelity(), correction=True)
    make(Potential, pair, np.zeros(48), atoms)
    with pytest.raises(InputError, match="atom 5 is O, which the expert hf does not know"):
        make(Potential, pair, np.ones(48), atoms)
    short = ExpertPair(delta, low_fidelity(type_names=("C", "Pt")), correction=True)
    with pytest.raises(InputError, match="atom 5 is O, which the expert lf does not know"):
        make(Potential, short, np.zeros(48), atoms)
