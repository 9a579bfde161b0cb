"""The mixture is a gradient, and nothing else changes it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.errors import InputError, RunStopped
from duetto.experts.pair import ExpertPair
from duetto.potential.choice import precision_of
from duetto.potential.cpu import CPUBackend
from duetto.potential.mixture import Potential, Term
from duetto.potential.reference import ReferenceBackend, _float32_products
from tests.pairs import high_fidelity, low_fidelity, mismatched_pair
from tests.structures import structures

PARTITIONS = ("abrupt", "blended", "all_hf", "all_lf")


def weights(kind: str, atoms: Atoms) -> np.ndarray:
    """High fidelity on one side, low on the other: atoms on every side of a seam."""
    rank = np.argsort(np.argsort(atoms.positions @ np.array([0.3, 0.5, 1.0])))
    fraction = rank / max(len(atoms) - 1, 1)
    if kind == "abrupt":
        return (fraction > 0.5).astype(float)
    if kind == "blended":
        return np.clip(2 * fraction - 0.5, 0.0, 1.0)
    return np.full(len(atoms), float(kind == "all_hf"))


def potential(atoms: Atoms, w: np.ndarray, pair: ExpertPair | None = None, **settings) -> Potential:
    settings = {"dtype": "float64"} | settings
    return Potential(pair or mismatched_pair(), list(atoms.symbols), w, atoms.pbc, **settings)


def evaluate(p: Potential, positions: np.ndarray, cell: np.ndarray):
    return p.evaluate(torch.tensor(positions), torch.tensor(np.array(cell)))


@pytest.mark.parametrize("kind", PARTITIONS)
@pytest.mark.parametrize("name", list(structures()))
def test_forces_are_the_gradient_of_the_energy(name: str, kind: str) -> None:
    atoms = structures()[name]
    p = potential(atoms, weights(kind, atoms))
    forces = evaluate(p, atoms.positions, atoms.cell.array).forces.numpy()
    rng = np.random.default_rng(3)
    step = 1e-4
    for _ in range(3):
        # Along a random direction all atoms move, those on either side of the seam among them.
        direction = rng.normal(size=atoms.positions.shape)
        energies = [
            evaluate(p, atoms.positions + k * step * direction, atoms.cell.array).energy
            for k in (-2, -1, 1, 2)
        ]
        slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
        expected = -(forces * direction).sum()
        # Fourth-order differences: truncation ~ step⁴, rounding ~ 1e-15 E / step = 1e-10.
        assert abs(slope - expected) < 1e-6 * np.abs(forces * direction).sum() + 1e-9


@pytest.mark.parametrize("kind", PARTITIONS)
def test_total_force_vanishes(kind: str) -> None:
    for atoms in structures().values():
        p = potential(atoms, weights(kind, atoms))
        forces = evaluate(p, atoms.positions, atoms.cell.array).forces
        assert forces.sum(0).abs().max() < 1e-10


@pytest.mark.parametrize("kind", ["abrupt", "blended"])
@pytest.mark.parametrize("name", ["cubic", "triclinic", "smaller_than_cutoff"])
def test_virial_is_the_strain_derivative(name: str, kind: str) -> None:
    atoms = structures()[name]
    p = potential(atoms, weights(kind, atoms))
    virial = evaluate(p, atoms.positions, atoms.cell.array).virial.numpy()
    np.testing.assert_allclose(virial, virial.T, atol=1e-10)
    rng = np.random.default_rng(4)
    strain = rng.normal(size=(3, 3))
    step = 1e-4
    energies = []
    for k in (-2, -1, 1, 2):
        deformation = np.eye(3) + k * step * strain
        energies.append(
            evaluate(p, atoms.positions @ deformation, atoms.cell.array @ deformation).energy
        )
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * step)
    assert abs(slope + (virial * strain).sum()) < 1e-6 * np.abs(virial).sum()


def test_same_expert_twice_is_the_single_model() -> None:
    expert = high_fidelity()
    twice, single = ExpertPair(expert, expert), ExpertPair(expert, None)
    for atoms in structures().values():
        mixed = evaluate(
            potential(atoms, weights("blended", atoms), twice), atoms.positions, atoms.cell.array
        )
        plain = evaluate(
            potential(atoms, np.ones(len(atoms)), single), atoms.positions, atoms.cell.array
        )
        torch.testing.assert_close(mixed.energies, plain.energies, rtol=0, atol=1e-12)
        torch.testing.assert_close(mixed.forces, plain.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(mixed.virial, plain.virial, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_and_empty_regions_equal_the_plain_runs_bit_for_bit(dtype: str) -> None:
    pair = mismatched_pair()
    atoms = structures()["triclinic"]
    for role, w in (("hf", 1.0), ("lf", 0.0)):
        alone = ExpertPair(**{"hf": None, "lf": None, role: pair.experts[role]})
        w_all = np.full(len(atoms), w)
        mixed = evaluate(potential(atoms, w_all, pair, dtype=dtype), atoms.positions, atoms.cell)
        plain = evaluate(potential(atoms, w_all, alone, dtype=dtype), atoms.positions, atoms.cell)
        assert mixed.energy == plain.energy
        assert torch.equal(mixed.forces, plain.forces)


def test_mixture_is_the_weighted_sum_of_expert_energies() -> None:
    atoms = structures()["slab_two_periodic"]
    w = weights("blended", atoms)
    p = potential(atoms, w)
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    hf, lf = p.expert_energies(x, cell)
    mixed = torch.tensor(w) * hf + (1 - torch.tensor(w)) * lf
    torch.testing.assert_close(p.evaluate(x, cell).energies, mixed, rtol=0, atol=1e-13)


def test_renumbering_atoms_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    for atoms in structures().values():
        w = weights("blended", atoms)
        order = rng.permutation(len(atoms))
        one = evaluate(potential(atoms, w), atoms.positions, atoms.cell.array)
        renumbered = atoms[order]
        other = evaluate(potential(renumbered, w[order]), renumbered.positions, renumbered.cell)
        torch.testing.assert_close(other.energies, one.energies[order], rtol=0, atol=1e-12)
        torch.testing.assert_close(other.forces, one.forces[order], rtol=0, atol=1e-12)


def test_rotation_and_translation_turn_the_forces() -> None:
    from scipy.spatial.transform import Rotation

    atoms = structures()["triclinic"]
    w = weights("abrupt", atoms)
    p = potential(atoms, w)
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    one = evaluate(p, atoms.positions, atoms.cell.array)
    moved = atoms.positions @ turn.T + np.array([3.0, -20.0, 7.0])
    other = evaluate(p, moved, atoms.cell.array @ turn.T)
    assert abs(one.energy - other.energy) < 1e-11
    torch.testing.assert_close(other.forces, one.forces @ torch.tensor(turn.T), rtol=0, atol=1e-11)


def test_list_with_skin_gives_the_same_forces_until_rebuilt() -> None:
    atoms = structures()["cubic"]
    w = weights("abrupt", atoms)
    p = potential(atoms, w, skin=0.6)
    rng = np.random.default_rng(6)
    positions = atoms.positions.copy()
    for _ in range(12):
        positions += rng.normal(size=positions.shape) * 0.05
        kept = evaluate(p, positions, atoms.cell.array)
        fresh = evaluate(potential(atoms, w, skin=0.0), positions, atoms.cell.array)
        torch.testing.assert_close(kept.forces, fresh.forces, rtol=0, atol=1e-12)
    assert 1 < p.n_rebuilds < 12


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_do_not_change_a_bit(threads: int, monkeypatch) -> None:
    monkeypatch.setattr("duetto.potential.cpu._CHUNK_BYTES", 1)  # the smallest chunks
    atoms = structures()["cubic"].repeat((2, 2, 1))
    w = weights("blended", atoms)
    p = potential(atoms, w, dtype="float32")
    results = []
    for count in (1, threads):
        p.backend = CPUBackend(p.pair.experts, torch.float32, count)
        results.append(evaluate(p, atoms.positions, atoms.cell.array))
    assert torch.equal(results[0].forces, results[1].forces)
    assert torch.equal(results[0].virial, results[1].virial)


def test_reference_backend_agrees_on_every_kind_of_cell() -> None:
    for atoms in structures().values():
        p = potential(atoms, weights("blended", atoms))
        fast = evaluate(p, atoms.positions, atoms.cell.array)
        p.backend = ReferenceBackend(p.pair.experts, torch.float64)
        slow = evaluate(p, atoms.positions, atoms.cell.array)
        torch.testing.assert_close(fast.energies, slow.energies, rtol=0, atol=1e-12)
        torch.testing.assert_close(fast.forces, slow.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(fast.virial, slow.virial, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_self_check_passes_and_catches_a_wrong_backend(dtype: str) -> None:
    atoms = structures()["cubic"]
    p = potential(atoms, weights("abrupt", atoms), dtype=dtype)
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    assert p.self_check(x, cell) < (1e-5 if dtype == "float32" else 1e-12)
    p.backend.experts["hf"].PV.matrix *= 1.001
    p.backend.experts["hf"].PV.transposed *= 1.001
    with pytest.raises(RunStopped, match="differs from the reference"):
        p.self_check(x, cell)


@pytest.mark.parametrize(
    ("asked", "backend", "device", "dtype", "taken"),
    [
        ("auto", "numba", "cpu", "float32", "fp32"),
        ("auto", "numba", "cpu", "float64", "fp64"),
        ("auto", "reference", "cuda", "float32", "fp32"),
        ("auto", "triton", "cuda", "float32", "bf16x3"),
        ("fp32", "triton", "cuda:1", "float32", "fp32"),
        ("tf32", "reference", "cuda", "float32", "tf32"),
        ("tf32", "triton", "cuda", "float32", None),
        ("bf16x3", "reference", "cuda", "float32", None),
        ("fp64", "numba", "cpu", "float64", None),
    ],
)
def test_precision_is_what_the_backend_has(asked, backend, device, dtype, taken) -> None:
    if taken is None:
        with pytest.raises(InputError, match=r"^precision: got"):
            precision_of(asked, backend, device, dtype)
    else:
        assert precision_of(asked, backend, device, dtype) == taken


def test_start_tells_precision_and_error(caplog: pytest.LogCaptureFixture) -> None:
    atoms = structures()["cubic"]
    p = potential(atoms, weights("abrupt", atoms), dtype="float32")
    assert p.precision == "fp32"
    with caplog.at_level(logging.INFO, "duetto"):
        error = p.self_check(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    assert "backend numba with products in fp32" in caplog.text
    assert f"agree with the float64 reference to {error:.1e} of the largest" in caplog.text


def test_reference_multiplies_in_float32_whatever_the_process_does() -> None:
    """TF32 only where it was asked for, and never left behind."""
    seen = []
    torch.set_float32_matmul_precision("medium")
    try:
        with _float32_products("highest"):
            seen.append(torch.get_float32_matmul_precision())
        seen.append(torch.get_float32_matmul_precision())
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["highest", "medium"]


def test_changed_weights_are_those_of_a_new_potential() -> None:
    atoms = structures()["cubic"]
    p = potential(atoms, np.zeros(len(atoms)))
    evaluate(p, atoms.positions, atoms.cell.array)
    p.set_weights(np.ones(len(atoms)))
    promoted = evaluate(p, atoms.positions, atoms.cell.array)
    plain = evaluate(potential(atoms, np.ones(len(atoms))), atoms.positions, atoms.cell.array)
    assert torch.equal(promoted.forces, plain.forces)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float16"}, "float32 or float64"),
        ({"backend": "cuda"}, "auto, numba, triton, reference"),
        ({"device": "cuda"}, "no CUDA device|use cpu or cuda"),
        ({"skin": -1.0}, "skin"),
        ({"precision": "high", "dtype": "float32"}, "got 'high'; allowed .*: auto, fp32$"),
        ({"precision": "bf16x3", "dtype": "float32"}, "backend numba on cpu: auto, fp32$"),
        ({"precision": "tf32", "dtype": "float32"}, "backend numba on cpu: auto, fp32$"),
        ({"precision": "fp32", "dtype": "float64"}, "float64 in backend numba on cpu: auto$"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    atoms = structures()["cubic"]
    with pytest.raises(InputError, match=message):
        potential(atoms, np.ones(len(atoms)), **change)


def test_bad_atoms_are_named() -> None:
    atoms = structures()["cubic"]
    cell = atoms.cell.array
    w = np.ones(len(atoms))
    p = potential(atoms, w)
    positions = atoms.positions.copy()
    positions[7, 1] = np.nan
    with pytest.raises(InputError, match="atom 7"):
        evaluate(p, positions, cell)
    with pytest.raises(InputError, match="direction a is periodic but has no cell vector"):
        evaluate(p, atoms.positions, np.zeros((3, 3)))
    gold = atoms.copy()
    gold.symbols[3] = "Au"
    with pytest.raises(InputError, match="atom 3 is Au"):
        potential(gold, w)
    with pytest.raises(InputError, match=r"weight 1\.5 of atom 2"):
        potential(atoms, np.where(np.arange(len(atoms)) == 2, 1.5, 1.0))
    with pytest.raises(InputError, match="lacks"):
        potential(atoms, w, ExpertPair(None, low_fidelity()))


def test_two_kinds_of_evaluation_in_turns_keep_their_plans() -> None:
    """Multiple time steps alternate between all terms and the fast ones."""
    atoms = structures()["cubic"]
    w = weights("blended", atoms)
    p = potential(atoms, w)
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    low = [Term("lf", np.ones(len(atoms)))]
    fast, both = [low], [list(p.terms), low]
    planned = []
    plan_one = p.backend._plan_one
    p.backend._plan_one = lambda *given: planned.append(given) or plan_one(*given)
    p.evaluate_terms(x, cell, both)
    for _ in range(3):
        alone = p.evaluate_terms(x, cell, fast)[0]
        mixture, again = p.evaluate_terms(x, cell, both)
        assert torch.equal(again.energies, alone.energies)
        assert torch.allclose(mixture.forces, p.evaluate(x, cell).forces, rtol=0, atol=1e-12)
    # Two experts for all terms and one for the fast ones, once each; the mixture by itself comes
    # between and makes room for itself each time.
    assert len(planned) <= 2 + 3 * (1 + 2 + 2)
    planned.clear()
    for _ in range(3):
        p.evaluate_terms(x, cell, fast)
        p.evaluate_terms(x, cell, both)
    assert len(planned) <= 1 + 2
