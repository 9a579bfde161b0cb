"""A linear expert beside an Allegro one: one pass, several groups of terms, and threads."""

from pathlib import Path

import numpy as np
import pytest
import torch

from duetto.experts.pair import ExpertPair
from duetto.potential.base import Evaluation
from duetto.potential.cpu import CPUBackend
from duetto.potential.mixture import Potential, Term, with_known_centres
from duetto.potential.one_pass import OnePassPlans
from duetto.potential.self_check import random_pair
from duetto.potential.terms import mixture_terms
from tests.linear_experts import Box, random_expert

SHAPE = "three species, one without moments, wall"


def mixture(dtype: str = "float64", **options: str) -> tuple[Potential, torch.Tensor, torch.Tensor]:
    lf = random_expert(SHAPE)
    box = Box(lf.form(), 64)
    pair = ExpertPair(random_pair().hf, lf)
    species = [lf.species[t] for t in box.types]
    weights = np.where(box.weights < 0.3, 0.0, np.where(box.weights > 0.7, 1.0, box.weights))
    potential = Potential(pair, species, weights, (True,) * 3, dtype=dtype, **options)
    return potential, torch.from_numpy(box.positions), torch.from_numpy(box.cell)


def test_forces_are_the_gradient_of_the_energy() -> None:
    potential, positions, cell = mixture()
    found = potential.evaluate(positions, cell)
    step = 1e-4
    for atom in (0, 17, 40):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = positions.clone()
                moved[atom, axis] += sign * step
                ends.append(potential.evaluate(moved, cell).energy)
            expected = -(ends[0] - ends[1]) / (2 * step)
            assert abs(found.forces[atom, axis] - expected) < 1e-6 * found.forces.abs().max()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_backend_agrees_with_the_reference(dtype: str) -> None:
    potential, positions, cell = mixture(dtype)
    assert potential.self_check(positions, cell) < {"float64": 1e-12, "float32": 2e-5}[dtype]


def test_several_groups_of_terms_are_what_each_is_alone() -> None:
    potential, positions, cell = mixture()
    ones = np.ones(len(positions))
    groups = [potential.terms, [Term("lf", ones)], [Term("lf", 0.25 * ones)]]
    together = potential.evaluate_terms(positions, cell, groups)
    for group, found in zip(groups, together, strict=True):
        (alone,) = potential.evaluate_terms(positions, cell, [group])
        torch.testing.assert_close(found.forces, alone.forces, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.virial, alone.virial, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.energies, alone.energies, rtol=1e-12, atol=1e-12)


def kept_passes(backend: CPUBackend) -> list[OnePassPlans]:
    return [plan for plan, _ in backend._kept.values() if isinstance(plan, OnePassPlans)]


def mostly_whole(potential: Potential) -> np.ndarray:
    """Weights of zero and one, three of them between."""
    weights = np.round(potential.weights)
    weights[[3, 20, 41]] = 0.3
    potential.set_weights(weights)
    return weights


def assert_same(found: Evaluation, expected: Evaluation) -> None:
    for name in ("forces", "virial", "energies"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12
        )


def test_sums_with_centres_in_common_take_a_pass_for_what_each_adds() -> None:
    potential, positions, cell = mixture()
    w = mostly_whole(potential)
    next_one = w.copy()
    next_one[:5] = 0.0
    groups = [potential.terms, mixture_terms(next_one), [Term("lf", np.ones(len(w)))]]
    together = potential.evaluate_terms(positions, cell, groups)
    (passes,) = [p for p in kept_passes(potential.backend) if len(p.places) == 3]
    added = [w < 1.0, w != next_one, next_one > 0.0]
    assert passes.places.sum(axis=1).tolist() == [np.count_nonzero(which) for which in added]
    for group, found in zip(groups, together, strict=True):
        (alone,) = potential.evaluate_terms(positions, cell, [group])
        assert_same(found, alone)
        for role, energies in alone.site_energies.items():
            computed = ~energies.isnan()
            torch.testing.assert_close(
                found.site_energies[role][computed], energies[computed], rtol=1e-12, atol=1e-12
            )


def by_moving_weights(steps: list[np.ndarray]) -> tuple[CPUBackend, list[Evaluation]]:
    """The mixture's LF and LF everywhere, of one list, by weights that change: the last ones."""
    potential, positions, cell = mixture()
    everything = {"lf": np.ones(len(positions), dtype=bool)}
    fast, held = [Term("lf", np.ones(len(positions)))], []
    potential.reserve([fast])
    potential.evaluate(positions, cell)
    for weights in steps:
        groups = [[Term("lf", 1.0 - weights)], fast]
        held = with_known_centres(potential._divide(groups, everything), held)
        together = potential.backend.evaluate(positions, cell, potential.neighbor_list, held)
        for group, found in zip(groups, together, strict=True):
            (alone,) = potential.evaluate_terms(positions, cell, [group])
            assert_same(found, alone)
    return potential.backend, together


def test_sums_do_not_depend_on_what_weights_have_been() -> None:
    """A run that is resumed does not know them, and is to go on to the same bits."""
    some = mostly_whole(mixture()[0])
    few, half = np.where(np.arange(len(some)) < 7, 1.0, 0.0), np.full(len(some), 0.5)
    # Half a weight everywhere has all centres in both passes, and edges are kept instead.
    for before in ([some], [np.zeros(len(some)), some], [half], [few, half, some]):
        backend, run_on = by_moving_weights([*before, few])
        _, resumed = by_moving_weights([few])
        for one, other in zip(run_on, resumed, strict=True):
            assert torch.equal(one.forces, other.forces)
            assert torch.equal(one.virial, other.virial)
            assert torch.equal(one.energies, other.energies)
        (passes,) = [p for p in kept_passes(backend) if len(p.places) == 2]
        assert passes.places[1].sum() == np.count_nonzero(few)


def test_threads_change_rounding_only_and_runs_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetto.potential.one_pass._FEWEST", 8)
    results = []
    for threads in (1, 3, 3):
        potential, positions, cell = mixture()
        potential.backend = CPUBackend(potential.pair.experts, torch.float64, threads)
        potential.set_weights(potential.weights)
        results.append(potential.evaluate(positions, cell))
    torch.testing.assert_close(results[0].forces, results[1].forces, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(results[0].virial, results[1].virial, rtol=1e-12, atol=1e-12)
    assert torch.equal(results[1].forces, results[2].forces)
    assert torch.equal(results[1].virial, results[2].virial)


def test_pair_file_keeps_a_linear_expert(tmp_path: Path) -> None:
    lf = random_expert(SHAPE)
    ExpertPair(None, lf).save(tmp_path / "pair.duetto")
    loaded = ExpertPair.load(tmp_path / "pair.duetto").lf
    assert loaded.description == lf.description
    for name, tensor in lf.to_tensors().items():
        assert torch.equal(loaded.to_tensors()[name], tensor)
