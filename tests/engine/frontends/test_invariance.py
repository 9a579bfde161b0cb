"""What must not change a calculator's results: threads, forks, copies, torch's modes, numbering."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms

import duetto
from duetto import Potential
from tests.pairs import mismatched_pair
from tests.structures import structures

REGIONS = {"complex": {"slab": {"axis": "z", "min": 4.0}}, "blend": {"width": 2.0}}


@pytest.fixture
def atoms() -> Atoms:
    found = structures()["cubic"]
    found.calc = duetto.DuettoCalculator(mismatched_pair(), REGIONS, device="cpu", dtype="float64")
    return found


def jittered(atoms: Atoms, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [atoms.positions + rng.normal(0, 0.01, atoms.positions.shape) for _ in range(count)]


def test_copies_and_pickles_go_on_to_the_last_bit(atoms: Atoms) -> None:
    fresh = [copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))]
    atoms.get_forces()
    used = [copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))]
    for twin in fresh:
        np.testing.assert_array_equal(twin.get_forces(), atoms.get_forces())
    (positions,) = jittered(atoms, 1)
    for one in (atoms, *used):
        one.positions = positions
    for twin in used:
        np.testing.assert_array_equal(twin.get_forces(), atoms.get_forces())


def test_threads_share_a_potential_and_a_calculator(atoms: Atoms) -> None:
    species, weights = list(atoms.symbols), atoms.calc
    weights = duetto.Regions.from_dict(REGIONS).weights(atoms)
    potential = Potential(mismatched_pair(), species, weights, atoms.pbc, dtype="float64")
    cell = torch.tensor(atoms.cell.array)
    many = [positions + 0.3 * (k % 3) for k, positions in enumerate(jittered(atoms, 12))]

    def energy(positions: np.ndarray) -> float:
        return potential.evaluate(torch.tensor(positions), cell).energy

    def through_ase(positions: np.ndarray) -> float:
        other = atoms.copy()
        other.positions = positions
        return atoms.calc.get_potential_energy(other)

    alone = [energy(positions) for positions in many]
    atoms.get_potential_energy()
    with ThreadPoolExecutor(4) as pool:
        for call in (energy, through_ase):
            # The list may be built around another structure: sums in another order.
            np.testing.assert_allclose(list(pool.map(call, many)), alone, rtol=1e-11)


def test_a_forked_child_computes_after_threads_of_the_parent(atoms: Atoms) -> None:
    atoms.get_potential_energy()
    backend = atoms.calc.potential.backend
    backend.threads = 2
    backend._in_parallel(lambda task: None, [0, 1])  # the pool is there
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    (torch.ones(512, 512) @ torch.ones(512, 512)).sum()  # and so are OpenMP's threads
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    expected = atoms.get_potential_energy()

    def child() -> None:
        backend._in_parallel(lambda task: None, [0, 1])
        atoms.calc.results = {}
        new = atoms.copy()
        new.calc = duetto.DuettoCalculator(
            mismatched_pair(), REGIONS, device="cpu", dtype="float64"
        )
        send.send((atoms.get_potential_energy(), new.get_potential_energy()))

    process = context.Process(target=child)
    process.start()
    process.join(60)
    hung = process.is_alive()
    process.kill()
    torch.set_num_threads(threads)
    assert not hung
    shared, new = receive.recv()
    assert shared == expected
    assert new == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["inference", "no_grad", "default_device", "autocast"],
)
def test_torch_s_modes_make_no_difference(atoms: Atoms, mode, tmp_path) -> None:
    expected = atoms.get_forces()
    mismatched_pair().save(tmp_path / "pair.duetto")
    with mode():
        other = atoms.copy()
        other.calc = duetto.DuettoCalculator(
            tmp_path / "pair.duetto", REGIONS, device="cpu", dtype="float64"
        )
        np.testing.assert_array_equal(other.get_forces(), expected)


def test_lattice_translations_and_numbering(atoms: Atoms) -> None:
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    partition = atoms.calc.partition
    for cells in (1, 40_000, 10**9):
        shift = cells * atoms.cell.array[0]
        moved = atoms.copy()
        moved.positions[::2] += shift
        # Far out two ways of rounding differ by more than the self-check allows.
        moved.calc = duetto.DuettoCalculator(
            mismatched_pair(),
            partition=partition,
            device="cpu",
            dtype="float64",
            self_check=False,
        )
        # A coordinate is rounded to half a unit in its last place; a force changes by up to some
        # hundred eV/Å² of that.
        rounding = np.spacing(np.abs(shift).max())
        limit = 1e3 * rounding * max(np.abs(forces).max(), 1.0) + 1e-10
        np.testing.assert_allclose(moved.get_forces(), forces, rtol=0, atol=limit)
    order = np.random.default_rng(1).permutation(len(atoms))
    other = atoms[order]
    other.calc = duetto.DuettoCalculator(
        mismatched_pair(),
        partition=duetto.Partition(partition.weights[order], (other,)),
        device="cpu",
        dtype="float64",
    )
    np.testing.assert_allclose(other.get_forces(), forces[order], rtol=0, atol=1e-10)
    assert other.get_potential_energy() == pytest.approx(energy, rel=1e-12)


def test_what_no_run_accepts_no_calculator_accepts(atoms: Atoms) -> None:
    double = atoms.copy()
    double.positions[3] = double.positions[5]
    calculator = duetto.DuettoCalculator(mismatched_pair(), device="cpu")
    with pytest.raises(duetto.InputError, match=r"structure: atom 3 .* are 0\.000 Å apart"):
        calculator.get_potential_energy(double)
    with pytest.raises(duetto.InputError, match="structure: there are no atoms"):
        calculator.get_potential_energy(Atoms(cell=[5, 5, 5], pbc=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": REGIONS}, "unknown argument 'region' (did you mean \"regions\"?)"),
        ({"guard": "promote"}, "that is for `duetto run`"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"regions": {"complx": "all"}}, 'did you mean "complex"?'),
        ({"device": "gpu"}, "device: got 'gpu'"),
        ({"skin": -1}, "skin: got -1"),
        ({"partition": "all"}, "partition: got 'all'"),
    ],
)
def test_what_it_does_not_know_is_refused_at_once(arguments, message) -> None:
    with pytest.raises(duetto.InputError) as refused:
        duetto.DuettoCalculator(mismatched_pair(), **arguments)
    assert message in str(refused.value)


def test_a_lone_atom_that_lf_never_met_is_found_without_regions() -> None:
    pair = mismatched_pair()
    told = {"lf": {"seen_pairs": [["Pt", "Pt"]]}}
    low = duetto.ExpertPair(None, pair.lf, told)
    calculator = duetto.DuettoCalculator(low, device="cpu")
    calculator.get_potential_energy(Atoms("Pt"))
    with pytest.raises(duetto.RunStopped, match=r"atom 0 \(C, w = 0\).*never trained on C"):
        calculator.get_potential_energy(Atoms("C"))


def test_another_numbering_is_another_structure() -> None:
    slab = Atoms("Pt8", [[0, 0, 2.5 * k] for k in range(8)], cell=[5, 5, 30], pbc=True)
    regions = {"complex": {"slab": {"axis": "z", "min": 10.0}}}
    calculator = duetto.DuettoCalculator(mismatched_pair(), regions, device="cpu")
    calculator.get_potential_energy(slab)
    drifted = slab.copy()
    drifted.positions += [1.0, 2.0, 4.0]
    drifted.positions[::2] += slab.cell[0]
    calculator.get_potential_energy(drifted)  # no atom has moved against the others
    with pytest.raises(duetto.RunStopped, match="this is another structure"):
        calculator.get_potential_energy(slab[::-1])
