"""The triton backend against the plain reference in float64, through the same potential."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.errors import InputError, RunStopped
from duetto.experts.allegro.architecture import MLPShape
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ExpertPair
from duetto.kernels.cpu.pairs import walk_neighbors
from duetto.measure.bench.force_check import expert_work
from duetto.potential.base import Evaluation
from duetto.potential.edges import EdgePotential, edges_of
from duetto.potential.mixture import Potential
from duetto.potential.terms import Term
from duetto.potential.triton import DeviceList, TritonBackend
from tests.pairs import high_fidelity, low_fidelity, mismatched_pair
from tests.structures import structures
from tests.tolerances import FLOAT32

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = FLOAT32


def covered_by_torch() -> ExpertPair:
    """Experts that the kernels do not cover: cheap to evaluate where kernels are interpreted."""
    deep = MLPShape(2, 8, "silu")
    return ExpertPair(high_fidelity(latent=deep), low_fidelity(readout=deep))


def potential(
    atoms: Atoms,
    w: np.ndarray,
    pair: ExpertPair,
    skin: float = 0.5,
    kind: type[Potential] = Potential,
) -> Potential:
    """A potential on the triton backend, wherever that runs here."""
    backend = TritonBackend(pair.experts, DEVICE, "fp32")
    return kind(pair, list(atoms.symbols), w, atoms.pbc, device=DEVICE, backend=backend, skin=skin)


def evaluate(p: Potential, atoms: Atoms) -> Evaluation:
    return p.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))


def reference(p: Potential, atoms: Atoms) -> Evaluation:
    plain = Potential(
        p.pair, p.species, p.weights, p.pbc, backend="reference", dtype="float64", skin=0.0
    )
    return evaluate(plain, atoms)


def check(p: Potential, atoms: Atoms) -> None:
    got, expected = evaluate(p, atoms), reference(p, atoms)
    scale = max(float(expected.forces.abs().max()), 1e-3)
    assert float((got.forces - expected.forces).abs().max()) < TOLERANCE * scale
    # Energies of edges cancel where their slopes need not: what the largest force does over 1 Å
    # is a scale that survives.
    size = max(float(expected.energies.abs().max()), scale)
    assert float((got.energies - expected.energies).abs().max()) < TOLERANCE * size
    assert got.energy == pytest.approx(float(got.energies.sum()), rel=1e-14)
    size = max(float(expected.virial.abs().max()), scale)
    assert float((got.virial - expected.virial).abs().max()) < TOLERANCE * size


def blended(atoms: Atoms) -> np.ndarray:
    """Weights 0, 1 and between, in the order of the atoms."""
    return np.clip(np.linspace(-0.5, 1.5, len(atoms)), 0.0, 1.0)


def some(name: str, n: int | None = None) -> Atoms:
    return structures()[name][:n]


@pytest.mark.parametrize("name", ["cluster_no_cell", "isolated_atoms"])
def test_mixture_of_kernels_equals_reference(name: str) -> None:
    atoms = some(name)
    check(potential(atoms, blended(atoms), mismatched_pair()), atoms)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_one_expert_alone(fraction: float) -> None:
    atoms = some("smaller_than_cutoff").repeat((2, 1, 1))
    atoms.rattle(0.2, seed=1)
    check(potential(atoms, np.full(len(atoms), fraction), mismatched_pair()), atoms)


@pytest.mark.parametrize("name", list(structures()))
def test_experts_without_kernels_run_in_torch(name: str, caplog: pytest.LogCaptureFixture) -> None:
    atoms = some(name, 12)
    with caplog.at_level(logging.WARNING, "duetto"):
        p = potential(atoms, blended(atoms), covered_by_torch())
    assert "expert hf runs in plain torch" in caplog.text
    assert "more than one hidden layer" in caplog.text
    check(p, atoms)


def test_list_follows_the_atoms() -> None:
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch(), skin=0.5)
    check(p, atoms)
    atoms.positions[2, 1] += 0.2
    check(p, atoms)
    assert p.n_rebuilds == 1
    atoms.positions[2, 1] += 0.2
    check(p, atoms)
    assert p.n_rebuilds == 2
    atoms.cell[0, 1] += 0.1
    check(p, atoms)
    assert p.n_rebuilds == 3
    reference_positions = p.list_reference()
    np.testing.assert_array_equal(reference_positions, atoms.positions)


def test_positions_may_be_a_view() -> None:
    """Kernels read rows of three numbers one behind the other."""
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch())
    whole = evaluate(p, atoms).forces
    view = torch.tensor(atoms.positions.T.copy()).T
    assert not view.is_contiguous()
    fresh = potential(atoms, blended(atoms), covered_by_torch())
    assert torch.equal(fresh.evaluate(view, torch.tensor(atoms.cell.array)).forces, whole)


def test_results_are_kept_apart() -> None:
    """A state keeps its forces: the next evaluation must not change them."""
    atoms = some("isolated_atoms")
    p = potential(atoms, blended(atoms), covered_by_torch())
    first = evaluate(p, atoms)
    kept = first.forces.clone(), first.energies.clone()
    atoms.positions[0] += 0.1
    evaluate(p, atoms)
    assert torch.equal(first.forces, kept[0])
    assert torch.equal(first.energies, kept[1])


def test_rebuilding_at_the_reference_repeats_bit_for_bit() -> None:
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch())
    evaluate(p, atoms)
    atoms.positions += 0.05
    forces = evaluate(p, atoms).forces
    resumed = potential(atoms, blended(atoms), covered_by_torch())
    resumed.rebuild(p.list_reference(), torch.tensor(atoms.cell.array))
    assert torch.equal(evaluate(resumed, atoms).forces, forces)
    assert resumed.n_rebuilds == 1


def test_self_check_and_expert_energies() -> None:
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch())
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    assert p.self_check(x, cell) < TOLERANCE
    hf, lf = p.expert_energies(x, cell)
    mixed = evaluate(p, atoms).energies
    w = torch.tensor(p.weights)
    # Lists in another order: float32 sums differ in the last bits.
    torch.testing.assert_close(mixed, w * hf + (1 - w) * lf, rtol=0, atol=1e-5)


def test_no_whole_list_comes_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts or resumes a run asks for the neighbours of a few atoms alone."""

    def refuse(self: DeviceList) -> None:
        raise AssertionError("the whole list is copied to the host")

    monkeypatch.setattr(DeviceList, "_on_host", refuse)
    walked: list[int] = []

    def walk(wrapped: np.ndarray, *rest: object) -> None:
        walked.append(int((rest[9] > 0).sum()))
        walk_neighbors(wrapped, *rest)

    monkeypatch.setattr("duetto.potential.neighbors.walk_neighbors", walk)
    atoms = some("triclinic", 6).repeat((5, 1, 1))
    p = potential(atoms, blended(atoms), covered_by_torch())
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    assert p.self_check(x, cell) < TOLERANCE
    p.rebuild(p.list_reference(), cell)
    p.self_check(x, cell)
    # Twelve of each expert, and to the next whole number for each of three species.
    assert max(walked) <= 24 < len(atoms)


def test_list_on_the_host_has_every_pair_once() -> None:
    """What a guard or a check reads: the candidates of both experts, each once."""
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch())
    evaluate(p, atoms)
    plain = Potential(
        p.pair, p.species, p.weights, p.pbc, backend="torch", dtype="float64", skin=0.5
    )
    evaluate(plain, atoms)
    ours, theirs = p.neighbor_list, plain.neighbor_list
    np.testing.assert_array_equal(ours.first, theirs.first)
    for atom in range(len(atoms)):
        row = slice(ours.first[atom], ours.first[atom + 1])
        pairs = [
            sorted(zip(x.neighbor[row].tolist(), *x.shift[row].T.tolist(), strict=True))
            for x in (ours, theirs)
        ]
        assert pairs[0] == pairs[1]


def with_ghosts(atoms: Atoms, plain: Potential) -> tuple[np.ndarray, np.ndarray, SimpleNamespace]:
    """Positions with an atom for every image that the list of `plain` names, whose is whose."""
    listed = plain.neighbor_list
    keys = np.column_stack([listed.neighbor, listed.shift]).astype(int)
    home = np.column_stack([np.arange(len(atoms)), np.zeros((len(atoms), 3), dtype=int)])
    outside = np.unique(keys[keys[:, 1:].any(axis=1)], axis=0)
    every = np.concatenate([home, outside])
    place = {tuple(row): k for k, row in enumerate(every.tolist())}
    neighbors = SimpleNamespace(
        first=np.append(listed.first, np.full(len(outside), listed.first[-1])),
        neighbor=np.array([place[tuple(row)] for row in keys.tolist()], dtype=np.int32),
        shift=np.zeros((len(keys), 3), dtype=np.int16),
        n_rebuilds=1,
    )
    owner = every[:, 0]
    return atoms.positions[owner] + every[:, 1:] @ atoms.cell.array, owner, neighbors


@pytest.mark.parametrize("make", [mismatched_pair, covered_by_torch])
def test_a_list_with_ghosts_goes_to_the_kernels_as_it_is(make, monkeypatch) -> None:
    """Forces on ghosts, given back to whose images they are, are those of the periodic system."""
    atoms, pair = some("smaller_than_cutoff").repeat((2, 1, 1)), make()
    atoms.rattle(0.2, seed=1)
    plain = Potential(pair, list(atoms.symbols), blended(atoms), atoms.pbc, backend="reference")
    expected = evaluate(plain, atoms)
    positions, owner, neighbors = with_ghosts(atoms, plain)
    assert len(owner) > len(atoms)
    work = [
        replace(job, types=job.types[owner], centres=job.centres)
        for job in expert_work(pair, plain.species, plain.weights, np.ones(len(atoms), dtype=bool))
    ]
    backend = TritonBackend(pair.experts, DEVICE, "fp32")
    monkeypatch.setattr(backend, "new_list", None)  # nothing is searched
    for expert in pair.experts.values():  # nor evaluated in torch where there are kernels
        if make is mismatched_pair:
            monkeypatch.setattr(type(expert), "site_energies", None)
    x, no_cell = torch.tensor(positions), torch.zeros(3, 3, dtype=torch.float64)
    (got,) = backend.evaluate(x, no_cell, neighbors, work)
    forces = torch.zeros_like(expected.forces).index_add_(0, torch.tensor(owner), got.forces)
    scale = float(expected.forces.abs().max())
    assert float((forces - expected.forces).abs().max()) < TOLERANCE * scale
    assert got.energy == pytest.approx(expected.energy, abs=TOLERANCE * len(atoms) * scale)
    torch.testing.assert_close(got.virial, expected.virial, rtol=0, atol=TOLERANCE * 100 * scale)


def test_edges_of_others_go_to_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = mismatched_pair()
    species = sorted({symbol for expert in pair.experts.values() for symbol in expert.species})
    rng = np.random.default_rng(3)
    counts = np.array([0, 3, 17, 1])
    unit = rng.normal(size=(counts.sum(), 3))
    vectors = unit / np.linalg.norm(unit, axis=1)[:, None] * rng.uniform(2.0, 3.5, (len(unit), 1))
    known = [k for k, symbol in enumerate(species) if symbol in pair.hf.species]
    edges = edges_of(
        np.append(0, counts.cumsum()),
        rng.choice(known, len(counts)),
        rng.choice(known, len(vectors)),
        vectors,
    )
    terms = [Term("hf", np.array([0.5, 1.0, 0.0, 2.0]))]
    plain = EdgePotential(pair, species, dtype="float64", backend="reference")
    expected = plain.evaluate_edges(edges, terms)
    potential = EdgePotential(pair, species, backend="reference")
    potential.backend = TritonBackend(pair.experts, "cpu", "fp32")
    monkeypatch.setattr(type(pair.hf), "site_energies", None)
    got = potential.evaluate_edges(edges, terms)
    scale = float(expected[1].abs().max())
    for ours, theirs in zip(got, expected, strict=True):
        size = max(scale, float(theirs.abs().max()))
        assert float((ours - theirs).abs().max()) < TOLERANCE * size


def test_a_centre_with_more_edges_than_the_kernels_hold_is_refused() -> None:
    backend = TritonBackend(covered_by_torch().experts, "cpu", "fp32")
    many = np.zeros(257, dtype=np.int64)
    edges = edges_of(np.array([0, 257]), many[:1], many, np.full((257, 3), 1.5))
    with pytest.raises(RunStopped, match=r"an atom has 257 neighbours .* at most 256"):
        backend.site_energies("hf", edges)


def test_clash_names_an_atom() -> None:
    atoms = some("isolated_atoms")
    pair = covered_by_torch()
    pair = ExpertPair(scaled(pair.hf, 1e9), scaled(pair.lf, 1e9))
    p = potential(atoms, blended(atoms), pair)
    with pytest.raises(RunStopped, match=r"atom \d .* exceeds 1024 eV/Å"):
        evaluate(p, atoms)
    # Once apart, the atoms are like any others.
    atoms.positions *= 10
    assert float(evaluate(p, atoms).forces.abs().max()) == 0.0


def scaled(expert: AllegroExpert, factor: float) -> AllegroExpert:
    """The same expert in units `factor` times smaller."""
    weights = {k: v * (factor if k == "energy.scale" else 1.0) for k, v in expert.weights.items()}
    return replace(expert, weights=weights)


@pytest.mark.parametrize("what", ["position", "cell"])
def test_bad_geometry_is_refused(what: str) -> None:
    atoms = some("triclinic", 6)
    p = potential(atoms, blended(atoms), covered_by_torch())
    if what == "position":
        atoms.positions[3, 0] = np.nan
    else:
        atoms.cell[1] = 0.0
    named = {"position": "atom 3", "cell": "direction b is periodic"}[what]
    with pytest.raises(InputError, match=named):
        evaluate(p, atoms)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"tf32.*fp32, bf16x3"):
        TritonBackend({}, DEVICE, "tf32")
