"""Multiple time steps on the device against those of the CPU, and what must not disturb them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.dynamics import ForceRangeError, Snapshot, Thermostat
from duetto.kernels.triton.multiple_timestep import FAST, WHOLE, SplitDynamics
from duetto.md import Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.potential.base import Evaluation
from tests.kernels.triton import test_dynamics as plain
from tests.kernels.triton.test_dynamics import BATH, CUTOFF, EPSILON, SIGMA, cluster

WEIGHTS = [1.0, 0.4, 0.0, 0.7]
"""Complex, blended, simple: expert 1 serves all four for the fast forces."""
H = 2.0


def split(
    atoms: Atoms,
    device: str,
    every: int,
    low: list[float] | None = None,
    skin: float = plain.SKIN,
    early: float = 0.8,
    **options: Any,
) -> SplitDynamics:
    """Steps of `every` short ones.

    Args:
        low: weights of expert 1 in the mixture; the rest of those of expert 0 if None.
        early: the part of half the skin after which a new list is asked for.
    """
    mixture = plain.mixture(atoms, device, WEIGHTS)
    search, half = mixture.neighbors, 0.5 * skin
    search.skin = skin
    search._skin.fill_(skin)
    search.limits.copy_(torch.tensor([half**2, (early * half) ** 2]))
    chosen = [i for i, w in enumerate(WEIGHTS) if w]
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    lows = 1.0 - weights if low is None else torch.tensor(low, dtype=torch.float64)
    n = len(atoms)
    mixture.set_centres((torch.tensor(chosen), torch.arange(n)), (weights[chosen], lows))
    fast = torch.cat([torch.zeros(len(chosen)), torch.ones(n)]).double().to(device)
    return SplitDynamics(
        mixture,
        torch.tensor(atoms.positions),
        torch.tensor(atoms.get_velocities() * units.fs),
        torch.tensor(atoms.cell.array),
        torch.tensor(units.fs**2 / atoms.get_masses()),
        H,
        every=every,
        fast_weights=fast,
        **options,
    )


class Toy:
    """The same two experts for the host: sums over pairs in float64, by automatic derivatives."""

    takes_steps_on_device = False
    n_rebuilds = 0

    def __init__(self, low: list[float] | None = None) -> None:
        self.weights = np.array(WEIGHTS)
        self.low = 1.0 - self.weights if low is None else np.array(low)

    def _forces(self, x: Tensor, cell: Tensor, high: Any, low: Any) -> tuple[Tensor, Tensor]:
        x = x.detach().clone().requires_grad_()
        shifts = torch.tensor(
            list(itertools.product((-1, 0, 1), (-1, 0, 1), (0,))), dtype=torch.float64
        )
        r = (x[None, None] + (shifts @ cell)[:, None, None]) - x[None, :, None]
        square = r.square().sum(-1)
        near = (square > 1e-9) & (square < CUTOFF**2)
        inverse = (SIGMA**2 / torch.where(near, square, 1.0)) ** 3
        cut = (SIGMA / CUTOFF) ** 6
        pairs = torch.where(near, inverse * inverse - inverse - (cut * cut - cut), 0.0)
        one = 2 * EPSILON * pairs.sum(dim=(0, 2))
        energies = (torch.tensor(high) + 2 * torch.tensor(low)) * one
        return energies.detach(), -torch.autograd.grad(energies.sum(), x)[0]

    def _evaluation(self, energies: Tensor, forces: Tensor, slow: Tensor | None) -> Evaluation:
        nothing = torch.zeros(3, 3, dtype=torch.float64)
        return Evaluation(float(energies.sum()), energies, forces, nothing, slow_forces=slow)

    def evaluate(self, x: Tensor, cell: Tensor) -> Evaluation:
        energies, forces = self._forces(x, cell, self.weights, self.low)
        fast = self.evaluate_fast(x, cell).forces
        return self._evaluation(energies, forces, forces - fast)

    def evaluate_fast(self, x: Tensor, cell: Tensor) -> Evaluation:
        return self._evaluation(*self._forces(x, cell, np.zeros(4), np.ones(4)), None)

    def list_reference(self) -> None:
        return None


def on_host(atoms: Atoms, every: int, outer: int, low: list[float] | None = None) -> Any:
    toy = Toy(low)
    start = initial_state(atoms, toy)
    stage, limits = SplitNVE(outer * every, every=every), Limits(None, None)
    *_, state = run_md(start, toy, [stage], timestep_fs=H, limits=limits)
    return state


def check_state(run: SplitDynamics, expected: Any) -> None:
    """Equal within what 2⁻⁴⁰ eV/Å of rounding per edge and sum does to some twenty steps of argon.

    An error δF of the forces in each of n steps is one of n² h² δF/m in the positions; some ten
    edges round by 1e-12 eV/Å each, F_slow is taken k times, argon is accelerated by 2.4e-4
    Å/fs² per eV/Å: 20² · 4 · 5 · 1e-11 · 2.4e-4 ≈ 2e-11.
    """
    got = run.snapshot().wait()
    np.testing.assert_allclose(got.positions.cpu(), expected.positions, rtol=0, atol=2e-11)
    np.testing.assert_allclose(got.velocities.cpu(), expected.velocities, rtol=0, atol=2e-12)
    np.testing.assert_allclose(got.forces.cpu(), expected.forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(got.slow_forces.cpu(), expected.slow_forces, rtol=0, atol=1e-10)
    assert float(got.energy) == pytest.approx(expected.energy, abs=1e-10)
    assert float(got.kinetic) == pytest.approx(expected.kinetic_energy, rel=1e-9)


def test_follows_the_cpu_through_rebuilds(device: str) -> None:
    """Lists are built anew within outer steps, and before they fail."""
    atoms = cluster(0.006)
    run = split(atoms, device, 3, early=0.05)
    kinds, built = void_kinds(run), []
    run.on_rebuild.append(lambda run: built.append(run.rebuilt_at))
    run.run(6)
    assert run.step == 6 == run._steps_done.item()
    assert kinds == []
    assert any(step % 3 for step in built)
    check_state(run, on_host(atoms, 3, 2))


def test_follows_the_cpu_through_void_steps(device: str) -> None:
    """Atoms so fast that the list fails within one step: the host completes most of them."""
    atoms = cluster(0.1)
    run = split(atoms, device, 3)
    kinds = void_kinds(run)
    run.run(3)
    assert run.step == 3 == run._steps_done.item()
    assert {FAST, WHOLE} == set(kinds)
    check_state(run, on_host(atoms, 3, 1))


def void_kinds(run: SplitDynamics) -> list[int]:
    """The kinds of the steps that the host will have had to complete."""
    kinds: list[int] = []
    complete = run._complete_void_step
    run._complete_void_step = lambda flags: (kinds.append(run._kind_of(run.step + 1)),
                                             complete(flags))[1]  # fmt: skip
    return kinds


def test_coefficients_need_not_sum_to_one(device: str) -> None:
    """As for a high-fidelity expert that is a correction of the low one, which then has 1."""
    atoms, low = cluster(0.004), [1.0, 1.0, 1.0, 1.0]
    run = split(atoms, device, 2, low)
    run.run(4)
    check_state(run, on_host(atoms, 2, 2, low))


@pytest.mark.parametrize("bath", [None, BATH], ids=["nve", "langevin"])
def test_one_inner_step_is_the_plain_integrator_to_the_last_bit(
    bath: Thermostat | None, device: str
) -> None:
    """Also to a mixture whose second expert computes no more atoms than the mixture needs."""
    atoms = cluster(0.03)
    stepped = split(atoms, device, 1, thermostat=bath)
    alone = plain.dynamics(atoms, device, H, WEIGHTS, thermostat=bath)
    assert alone.neighbors.n_centres < stepped.neighbors.n_centres
    for run in (stepped, alone):
        for steps in (1, 2):
            run.run(steps)
    assert stepped.neighbors.n_rebuilds > 1
    for name in ("positions", "velocities", "heat"):
        assert torch.equal(getattr(stepped, name), getattr(alone, name)), name
    for name in ("forces", "energies"):
        assert torch.equal(getattr(stepped.mixture, name), getattr(alone.mixture, name)), name
    # Summed over other numbers of centres, some of them with a weight of 0.
    torch.testing.assert_close(
        stepped.mixture.virial(), alone.mixture.virial(), rtol=1e-14, atol=1e-14
    )


def test_time_can_be_turned_back(device: str) -> None:
    atoms = cluster(0.01)
    run = split(atoms, device, 4, skin=1.0)
    start = run.positions.clone(), run.velocities.clone()
    run.run(8)
    assert (run.positions - start[0]).abs().max() > 0.1
    run.velocities.neg_()
    run.run(8)
    # A force is a whole number of 2⁻⁴⁰ eV/Å: where positions come back but for their rounding, one
    # of ten edges may round to the next: 16² steps² · 4 fs² · k = 4 · 1e-12 · 2.4e-4 Å at most.
    assert (run.positions - start[0]).abs().max() < 1e-12
    assert (run.velocities + start[1]).abs().max() < 1e-13


def langevin(atoms: Atoms, every: int, steps: range) -> tuple[Tensor, Tensor, float]:
    """Langevin dynamics in plain torch with the slow forces once in `every` steps."""
    toy, cell = Toy(), torch.tensor(atoms.cell.array)
    a = torch.tensor(units.fs**2 / atoms.get_masses())
    x, v = torch.tensor(atoms.positions), torch.tensor(atoms.get_velocities() * units.fs)
    kept, heat = math.exp(-BATH.friction * H), 0.0

    def kicks(done: int) -> Tensor:
        if done % every:
            return toy.evaluate_fast(x, cell).forces
        whole = toy.evaluate(x, cell)
        return whole.forces + (every - 1) * whole.slow_forces

    for done, step in enumerate(steps):
        noise = reference.normal_numbers(BATH.seed, step, len(atoms))
        x, v, given = reference.langevin_first_half(
            x, v, kicks(done), a, H, kept, BATH.thermal_energy, noise
        )
        v = v + 0.5 * H * kicks(done + 1) * a[:, None]
        heat += given
    return x, v, heat


@pytest.mark.parametrize("speed", [0.004, 0.1])
def test_langevin_follows_the_reference(speed: float, device: str) -> None:
    """Slow atoms, and fast ones, where the host must help."""
    atoms, first = cluster(speed), 2**32 - 2
    run = split(atoms, device, 3, thermostat=BATH, first_step=first)
    kinds = void_kinds(run)
    run.run(3)
    x, v, heat = langevin(atoms, 3, range(first, first + 3))
    assert run.step == first + 3 == run._steps_done.item()
    assert (FAST in kinds) == (speed == 0.1)
    got = run.snapshot().wait()
    # As tests/kernels/triton/test_dynamics.py: the angles of the noise are float32 on the device.
    np.testing.assert_allclose(got.positions.cpu(), x, rtol=0, atol=2e-8 * 3 * H)
    np.testing.assert_allclose(got.velocities.cpu(), v, rtol=0, atol=1e-8 * 3 * H)
    assert float(got.heat) == pytest.approx(heat, abs=1e-5 * 3 * BATH.thermal_energy)


FIELDS = ("positions", "velocities", "forces", "slow_forces", "energies", "virial", "kinetic",
          "heat")  # fmt: skip


def same(run: SplitDynamics, expected: Snapshot) -> None:
    """To the last bit."""
    got = run.snapshot().wait()
    assert got.step == expected.step
    for name in FIELDS:
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


def disturbed_at(run: SplitDynamics, evaluation: int, disturb: Callable[[], None]) -> None:
    """Have something done behind the evaluation with this number, before its kick."""
    evaluate, count = run._evaluate, itertools.count()

    def noting(kind: int) -> None:
        evaluate(kind)
        if next(count) == evaluation:
            disturb()

    run._evaluate = noting


START, EVERY, OUTER = 0.004, 2, 2


@pytest.fixture(scope="module")
def states(device: str) -> list[Snapshot]:
    """Two outer steps of two, with nothing in their way: the states that they lead to."""
    run = split(cluster(START), device, EVERY, skin=2.0, thermostat=BATH)
    found = []
    for _ in range(OUTER):
        run.run(EVERY)
        found.append(run.snapshot().wait())
    assert run.neighbors.n_rebuilds == 1
    return found


def run_from_start(device: str, **options: Any) -> SplitDynamics:
    return split(cluster(START), device, EVERY, thermostat=BATH, **options)


@pytest.mark.parametrize(
    ("inner", "reason"),
    [(0, flag.LIST_FULL), (1, flag.MOVED), (2, flag.WORK_FULL), (3, flag.TILE_FULL)],
)
def test_a_void_inner_step_leaves_no_trace(
    inner: int, reason: Any, states: list[Snapshot], device: str
) -> None:
    """Whichever of an outer step: what was launched behind it changes nothing, the host goes on."""
    run = run_from_start(device)
    kinds = void_kinds(run)
    disturbed_at(run, inner, lambda: run.neighbors.flags[reason.value].fill_(1))
    run.run(EVERY * OUTER)
    assert kinds == [run._kind_of(inner + 1)]
    assert run.neighbors.n_rebuilds == 2
    same(run, states[-1])


@pytest.mark.parametrize(("what", "inner"), [("work", 1), ("list", 0)])
def test_buffers_that_overflow_within_an_outer_step(
    what: str, inner: int, states: list[Snapshot], device: str
) -> None:
    """For real: there is room for no pack any more, or for no edge."""
    run = run_from_start(device)
    kinds = void_kinds(run)
    # Room for packs is missed by the evaluation that comes next, that for edges by the list.
    disturbed_at(run, inner, lambda: shrink_work(run) if what == "work" else shrink_list(run))
    run.run(EVERY * OUTER)
    assert kinds == [run._kind_of(inner + 2 if what == "work" else inner + 1)]
    same(run, states[-1])


def shrink_work(run: SplitDynamics) -> None:
    run.neighbors._work_capacity.zero_()


def shrink_list(run: SplitDynamics) -> None:
    run.neighbors._allocate_edges(4)
    run.neighbors.rebuild(run.positions)


def test_a_rebuild_within_an_outer_step_leaves_no_trace(
    states: list[Snapshot], device: str
) -> None:
    """Edges come in the order of atoms whatever the list began with."""
    run, built = run_from_start(device, early=0.15), []
    run.on_rebuild.append(lambda run: built.append(run.rebuilt_at))
    run.run(EVERY * OUTER)
    assert any(step % EVERY for step in built)
    same(run, states[-1])


def test_goes_on_bit_for_bit(states: list[Snapshot], device: str) -> None:
    """From the state of one outer step, with the list that it had."""
    middle = states[0]
    resumed = run_from_start(device)
    resumed.neighbors.build(middle.list_reference, resumed.cell)
    resumed = SplitDynamics(
        resumed.mixture, middle.positions, middle.velocities, resumed.cell,
        resumed._accelerations, H, every=EVERY, fast_weights=resumed._fast_weights,
        forces=middle.forces, slow_forces=middle.slow_forces, thermostat=BATH,
        first_step=EVERY,
    )  # fmt: skip
    resumed.heat.fill_(middle.heat)  # of one block, as all of these atoms are
    resumed.run(EVERY)
    same(resumed, states[-1])


def test_buffers_stay_and_hold_nothing_before(states: list[Snapshot], device: str) -> None:
    """Graphs write where they were captured, and read nothing that no launch has written."""
    run = run_from_start(device)

    def tensors(one: SplitDynamics) -> dict[str, Tensor]:
        holders = (one, one.mixture, one.neighbors, one.neighbors.edges())
        return {
            f"{type(holder).__name__}.{name}": value
            for holder in holders
            for name, value in vars(holder).items()
            if isinstance(value, Tensor)
        }

    run.run(EVERY)
    before = {name: value.data_ptr() for name, value in tensors(run).items()}
    # What experts and sums have left is not read before it is written again.
    for values in (run.mixture._row_energies, run.mixture._gradients, run.slow_forces,
                   run._fast_energies, run.mixture.forces, run.mixture.energies,
                   run.mixture.centre_virials):  # fmt: skip
        values.fill_(torch.nan)
    run.run(EVERY)
    assert {name: value.data_ptr() for name, value in tensors(run).items()} == before
    same(run, states[-1])


def test_experts_are_asked_once_in_a_step(device: str) -> None:
    run = split(cluster(0.001), device, 3)
    asked: list[int] = []
    for index, expert in enumerate(run.mixture.experts):
        evaluate = expert.evaluate
        expert.evaluate = lambda *a, index=index, evaluate=evaluate: (
            asked.append(index), evaluate(*a)
        )  # fmt: skip
    run.run(3)
    assert asked == [1, 1, 0, 1]


def test_a_clash_stops_at_the_last_good_inner_step(device: str) -> None:
    """Where LF's wall is met in the middle of an outer step."""
    atoms = cluster(0.0)
    atoms.pbc = False
    atoms.positions = [[0, 0, 0], [3.9, 0, 0], [0, 9, 0], [9, 9, 9]]
    velocities = np.zeros((4, 3))
    velocities[:2, 0] = 0.45, -0.45
    atoms.set_velocities(velocities / units.fs)
    run = split(atoms, device, 3)
    with pytest.raises(ForceRangeError, match="eV/Å"):
        run.run(6)
    assert run.step == run._steps_done.item() == 1
    with pytest.raises(ValueError, match="no whole outer steps"):
        run.run(3)


def test_what_cannot_be_is_refused(device: str) -> None:
    run = split(cluster(0.0), device, 2)
    state = run.mixture, run.positions, run.velocities, run.cell, run._accelerations, H
    for change, message in (
        ({"every": 0}, "at least 1"),
        ({"fast_weights": torch.ones(7).double()}, "none of expert 0"),
        ({"fast_weights": torch.zeros(4).double()}, "of all centres"),
        ({"forces": torch.zeros(4, 3)}, "forces and slow forces"),
    ):
        options: dict[str, Any] = {"every": 2, "fast_weights": run._fast_weights} | change
        with pytest.raises(ValueError, match=message):
            SplitDynamics(*state, **options)
    with pytest.raises(ValueError, match="3 steps are no whole outer steps of 2"):
        run.run(3)
