"""The guard: what it must see, what it must not, and what promotion costs in energy."""

import itertools
import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111, molecule

from duetto.errors import InputError, RunStopped
from duetto.partition.guard import Guard
from duetto.partition.regions import Regions
from duetto.partition.rules import Configuration, find_unseen, seen_pairs
from duetto.partition.start import MOTION
from duetto.potential.mixture import Potential
from tests.pairs import mismatched_pair

R_MAX = 4.5
KNOWN = [["Pt", "Pt"], ["C", "Pt"], ["C", "O"], ["O", "C"], ["C", "C"], ["O", "O"], ["O", "Pt"]]
"""LF was trained on all but C and O as neighbours of Pt."""


class ToyPotential:
    """Two soft pair potentials behind the interface of a potential that the guard uses.

    E_i = k/2 Σ_j (r_max - r_ij)³ over neighbours inside r_max, with k = 3 for HF and k = 2 for
    LF, in eV/Å³; every evaluation rebuilds the (implicit) neighbour list.
    """

    STIFFNESS = (3.0, 2.0)

    def __init__(self, species, weights, *, pbc=(True, True, False), seen=KNOWN, cutoffs=None):
        types = ("C", "O", "Pt")
        cutoffs = cutoffs or ((R_MAX,) * 3,) * 3
        provenance = {} if seen is None else {"lf": {"seen_pairs": seen}}
        self.pair = SimpleNamespace(
            hf=SimpleNamespace(),
            lf=SimpleNamespace(
                species=types,
                cutoff=lambda centre, other: cutoffs[types.index(centre)][types.index(other)],
            ),
            provenance=provenance,
        )
        self.species = list(species)
        self.weights = np.array(weights, dtype=np.float64)
        self.pbc = np.array(pbc)
        self.on_rebuild = []
        self.n_set = 0

    def set_weights(self, weights):
        assert ((weights >= 0) & (weights <= 1)).all()
        self.weights = np.array(weights)
        self.n_set += 1

    def centre_energies(self, positions, cell, stiffness):
        shifts = [range(-2, 3) if periodic else [0] for periodic in self.pbc]
        total = torch.zeros(len(positions), dtype=torch.float64)
        for shift in itertools.product(*shifts):
            image = positions + torch.tensor(shift, dtype=torch.float64) @ cell
            r2 = ((positions[:, None] - image[None]) ** 2).sum(-1)
            pairs = (r2 < R_MAX**2) & (r2 > 1e-12)
            r = torch.where(pairs, r2, R_MAX**2).sqrt()
            total = total + 0.5 * stiffness * ((R_MAX - r) ** 3).sum(1)
        return total

    def expert_energies(self, positions, cell):
        for callback in self.on_rebuild:
            callback(positions, cell, self)
        return tuple(self.centre_energies(positions, cell, k) for k in self.STIFFNESS)

    def evaluate(self, positions, cell):
        positions = positions.detach().requires_grad_()
        for callback in self.on_rebuild:
            callback(positions, cell, self)
        hf, lf = (self.centre_energies(positions, cell, k) for k in self.STIFFNESS)
        w = torch.as_tensor(self.weights)
        energy = (w * hf + (1 - w) * lf).sum()
        return float(energy.detach()), -torch.autograd.grad(energy, positions)[0]


CELL = torch.diag(torch.tensor([40.0, 12.0, 30.0], dtype=torch.float64))


def row(carbon_x=0.0, **kwargs):
    """C above a row of Pt along x, 3 Å apart; C and the Pt within 7 Å of x = 0 are complex."""
    x = np.arange(-15.0, 16.0, 3.0)
    positions = np.array([[carbon_x, 0, 2.0], *([value, 0, 0] for value in x)])
    weights = [1.0, *(np.abs(x) < 7)]
    return torch.tensor(positions), ToyPotential(["C"] + ["Pt"] * len(x), weights, **kwargs)


def moved(positions, x):
    there = positions.clone()
    there[0, 0] = x
    return there


# --- quiet when all is well -----------------------------------------------------------------


@pytest.mark.parametrize("policy", ["error", "warn", "promote"])
def test_an_intact_partition_is_left_alone(policy, caplog):
    positions, potential = row()
    guard = Guard(policy)
    guard.attach(potential)
    weights = potential.weights.copy()
    for x in (0.0, 0.8, -0.8, 2.0):
        potential.evaluate(moved(positions, x), CELL)
    assert guard.events == []
    assert guard.e_repartition == 0.0
    assert potential.n_set == 0
    np.testing.assert_array_equal(potential.weights, weights)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_uniform_partition_has_nothing_to_watch(weight):
    positions, potential = row()
    potential.weights[:] = weight
    potential.pair.provenance["lf"]["seen_pairs"].append(["Pt", "C"])
    try:
        guard = Guard()
        guard(positions, CELL, potential)
        guard(moved(positions, 15.0), CELL, potential)
    finally:
        potential.pair.provenance["lf"]["seen_pairs"].remove(["Pt", "C"])
    assert guard.events == []


def test_pairs_of_one_expert_are_legal():
    positions, potential = row()
    potential.pair.lf = None
    potential.weights[:] = 1
    Guard()(positions, CELL, potential)
    positions, potential = row(seen=[*KNOWN, ["Pt", "C"]])
    potential.pair.hf = None
    potential.weights[:] = 0
    Guard("promote")(positions, CELL, potential)


# --- a neighbour LF never saw ---------------------------------------------------------------


def test_unseen_neighbor_stops_the_run_with_a_message_for_people():
    positions, potential = row()
    guard = Guard()
    guard(positions, CELL, potential)
    guard.step = 1200
    # Pt 9 (x = 9, LF) is √(2² + 4²) = 4.47 Å from C; r_max is 4.5 Å.
    with pytest.raises(RunStopped) as caught:
        guard(moved(positions, 5.0), CELL, potential)
    message = str(caught.value)
    assert message.startswith("guard: step 1200: atom 9 (Pt, w = 0) at (9.000, 0.000, 0.000) Å")
    assert "atom 0 (C, w = 1) at (5.000, 0.000, 2.000) Å inside LF's cutoff, 4.47 Å away" in message
    assert "never trained on C as a neighbour of Pt" in message
    assert "Enlarge regions.complex" in message
    assert "guard: promote" in message
    (event,) = guard.events
    assert (event.step, event.check, event.action, event.atoms) == (1200, "unseen", "stopped", (9,))


def test_unseen_respects_the_cutoff_of_each_pair_of_species():
    short = [[R_MAX] * 3, [R_MAX] * 3, [4.4, R_MAX, R_MAX]]
    positions, potential = row(cutoffs=short)
    guard = Guard(shell=0.5)
    guard(positions, CELL, potential)
    guard(moved(positions, 5.0), CELL, potential)
    with pytest.raises(RunStopped, match=r"4\.39 Å away"):
        guard(moved(positions, 9 - math.sqrt(4.39**2 - 4)), CELL, potential)


def test_unseen_counts_blended_atoms_because_LF_computes_them_too():
    positions, potential = row()
    potential.weights[8] = 0.9
    with pytest.raises(RunStopped, match=r"atom 8 \(Pt, w = 0\.9\)"):
        Guard()(moved(positions, 3.0), CELL, potential)


def test_unseen_looks_across_periodic_boundaries():
    positions, potential = row()
    guard = Guard(shell=0.1)
    guard(positions, CELL, potential)
    # The last Pt at x = 15 has an image at x = -25.
    with pytest.raises(RunStopped, match="atom 11 "):
        guard(moved(positions, -24.0), CELL, potential)


def test_unseen_counts_an_atom_s_own_image_but_not_itself():
    cell = torch.diag(torch.tensor([4.0, 12.0, 12.0], dtype=torch.float64))
    one = torch.zeros((1, 3), dtype=torch.float64)
    potential = ToyPotential(["Pt"], [0.0], seen=[["C", "Pt"]])
    with pytest.raises(RunStopped, match=r"atom 0 .* has atom 0 .* 4\.00 Å away"):
        Guard()(one, cell, potential)
    cell[0, 0] = 5.0
    Guard()(one, cell, potential)


def test_unseen_is_complete_and_sorted_by_distance():
    rng = np.random.default_rng(23)
    species = np.array(["C", "O", "Pt"])[rng.integers(0, 3, 60)]
    weights = rng.choice([0.0, 0.5, 1.0], 60)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 2.0, 7.0]])
    positions = rng.random((60, 3)) @ cell
    potential = ToyPotential(species, weights, pbc=(True, True, True), seen=KNOWN)
    now = Configuration(positions, cell, potential.pbc, species, weights)
    found = find_unseen(now, potential.pair)

    closest = {}
    for i, j in itertools.product(range(60), repeat=2):
        if weights[i] == 1 or [species[i], species[j]] in KNOWN:
            continue
        for shift in itertools.product(range(-2, 3), repeat=3):
            away = np.linalg.norm(positions[j] + np.array(shift) @ cell - positions[i])
            if 1e-9 < away < R_MAX:
                closest[i] = min(away, closest.get(i, np.inf))
    assert found.atoms.tolist() == sorted(closest, key=closest.get)
    assert len(closest) > 5


def test_a_pair_that_does_not_say_what_LF_saw_is_reported_once(caplog):
    positions, potential = row(seen=None)
    guard = Guard()
    for x in (0.0, 0.1, 0.2):
        guard(moved(positions, x), CELL, potential)
    told = [r for r in caplog.records if "does not say which neighbours" in r.getMessage()]
    assert len(told) == 1
    assert guard.events == []


@pytest.mark.parametrize("listed", [3, ["Pt", "C", "O"], [["Pt"]], [["Pt", "C", "O"]]])
def test_damaged_provenance_is_refused(listed):
    with pytest.raises(InputError, match="seen_pairs is not a list"):
        seen_pairs(ToyPotential(["C"], [1.0], seen=listed).pair)


# --- a watched atom without its shell -------------------------------------------------------


def test_shell_defaults_to_what_the_start_allows():
    everything = [*KNOWN, ["Pt", "C"], ["Pt", "O"]]
    # C over x = 0: the nearest LF atom, at x = 9, is 9.2 Å away: LF's cutoff is the shell.
    positions, potential = row(seen=everything)
    guard = Guard()
    guard(positions, CELL, potential)
    assert guard.state_dict()["start"]["shell"] == R_MAX
    # C over x = 6: it is √13 = 3.6 Å away, within the cutoff: MOTION less is the shell.
    positions, potential = row(carbon_x=6.0, seen=everything)
    guard = Guard()
    guard(positions, CELL, potential)
    shell = math.sqrt(13) - MOTION
    assert guard.state_dict()["start"]["shell"] == pytest.approx(shell, abs=1e-12)
    guard(moved(positions, 7.0), CELL, potential)
    with pytest.raises(RunStopped, match=rf"atom 9 \(Pt.* from atom 0 \(C.* up to {shell:.2f} Å"):
        guard(moved(positions, 9 - math.sqrt((shell - 0.01) ** 2 - 4)), CELL, potential)


def test_a_bare_adsorbate_leaves_no_room_for_a_shell(caplog):
    positions, potential = row(carbon_x=6.0, seen=None)
    positions[0, 2] = 0.9
    potential.weights[1:] = 0
    guard = Guard()
    guard(positions, CELL, potential)
    assert guard.state_dict()["start"]["shell"] == 0.0
    assert "the simple region begins 0.90 Å from C" in caplog.text
    guard(moved(positions, 7.0), CELL, potential)


def test_a_shell_given_is_taken_at_its_word():
    everything = [*KNOWN, ["Pt", "C"]]
    positions, potential = row(seen=everything)
    guard = Guard(shell=8.0)
    guard(positions, CELL, potential)
    with pytest.raises(RunStopped, match=r"up to 8\.00 Å"):
        guard(moved(positions, 1.5), CELL, potential)
    with pytest.raises(InputError, match=r"guard\.shell: got 9\.5 Å, but atom [39] .* is 9\.22 Å"):
        Guard(shell=9.5)(positions, CELL, potential)


def test_atoms_of_the_blend_may_enter_the_shell():
    everything = [*KNOWN, ["Pt", "C"]]
    positions, potential = row(seen=everything)
    potential.weights[9] = 0.01
    guard = Guard(shell=4.0)
    guard(positions, CELL, potential)
    guard(moved(positions, 7.5), CELL, potential)
    assert guard.events == []


def test_watched_species_default_to_those_wholly_complex_and_can_be_named():
    everything = [*KNOWN, ["Pt", "C"], ["Pt", "O"]]
    positions, potential = row(seen=everything)
    potential.species[4:8:3] = ["O", "O"]
    guard = Guard()
    guard(positions, CELL, potential)
    assert guard.state_dict()["start"]["watched"] == (0, 4, 7)
    named = Guard(watched=["O"])
    named(positions, CELL, potential)
    assert named.state_dict()["start"]["watched"] == (4, 7)
    with pytest.raises(
        InputError, match=r"guard\.watched\[0\]: no Au in the complex region, which"
    ):
        Guard(watched=["Au"])(positions, CELL, potential)


# --- lost atoms and broken numbers ----------------------------------------------------------


def test_an_atom_far_outside_is_lost_but_drift_along_periodic_axes_is_not():
    positions, potential = row()
    guard = Guard(lost_distance=50.0)
    guard(positions, CELL, potential)
    away = positions + torch.tensor([4000.0, -1200.0, 0.0])
    guard(away, CELL, potential)
    away[3, 2] = 51.9  # the atoms filled z = 0 to 2
    guard(away, CELL, potential)
    away[3, 2] = 52.1
    with pytest.raises(RunStopped, match=r"atom 3 .* is 50\.1 Å outside the space"):
        guard(away, CELL, potential)
    assert guard.events[-1].check == "lost"


def test_promotion_does_not_mend_a_lost_atom():
    positions, potential = row()
    guard = Guard("promote")
    guard(positions, CELL, potential)
    away = positions.clone()
    away[3, 2] = -101.0
    with pytest.raises(RunStopped, match="lower timestep_fs"):
        guard(away, CELL, potential)
    assert potential.n_set == 0


@pytest.mark.parametrize("policy", ["error", "warn", "promote"])
def test_positions_that_are_not_finite_always_stop(policy):
    positions, potential = row()
    positions[5, 1] = math.nan
    guard = Guard(policy)
    guard.step = 7
    with pytest.raises(RunStopped, match=r"step 7: atom 5 \(Pt, w = 1\).*position is not finite"):
        guard(positions, CELL, potential)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("policy", ["error", "warn", "promote"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forces_that_are_not_finite_always_stop(policy, value, dtype):
    positions, potential = row()
    guard = Guard(policy)
    guard(positions, CELL, potential)
    guard.step = 33
    forces = torch.zeros((len(positions), 3), dtype=dtype)
    guard.check_forces(forces)
    forces[4, 2] = value
    with pytest.raises(RunStopped) as caught:
        guard.check_forces(forces, moved(positions, 0.5))
    message = str(caught.value)
    assert "step 33: the force on atom 4 (Pt, w = 1) at (-6.000, 0.000, 0.000) Å" in message
    assert "nearest: Pt 3 at 3.00 Å, Pt 5 at 3.00 Å, Pt 2 at 6.00 Å, Pt 6 at 6.00 Å" in message
    assert "on 1 of 12 atoms" in message


def test_opposite_infinities_do_not_cancel_and_huge_finite_forces_pass():
    guard = Guard()
    forces = torch.zeros((3, 3), dtype=torch.float32)
    forces[0, 0], forces[2, 0] = math.inf, -math.inf
    with pytest.raises(RunStopped, match="the force on atom 0 is not finite, on 2 of 3"):
        guard.check_forces(forces)
    # Their sum overflows, they do not.
    guard.check_forces(torch.full((3, 3), 3e38, dtype=torch.float32))


# --- warn -----------------------------------------------------------------------------------


def test_warn_tells_of_each_atom_once(caplog):
    positions, potential = row()
    guard = Guard("warn", shell=0.5)
    guard(positions, CELL, potential)
    for x in (5.0, 5.1, 0.0, 5.2):
        guard(moved(positions, x), CELL, potential)
    assert [event.atoms for event in guard.events] == [(9,)]
    # Farther on, Pt 10 comes into reach too; 9 is known already.
    guard(moved(positions, 9.0), CELL, potential)
    assert [event.atoms for event in guard.events] == [(9,), (10,)]
    assert "atom 10 (Pt, w = 0)" in guard.events[1].message
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [event.message for event in guard.events]
    assert potential.n_set == 0


def test_messages_count_the_other_atoms():
    positions, potential = row()
    potential.weights[1:] = 0
    with pytest.raises(RunStopped, match=r"of Pt \(and 2 more such atoms\)\."):
        Guard()(positions, CELL, potential)


# --- promote --------------------------------------------------------------------------------


def test_promotion_books_exactly_the_jump_of_the_energy():
    positions, potential = row()
    potential.weights[8] = 0.25
    guard = Guard("promote")
    potential.on_rebuild.append(guard)
    potential.evaluate(moved(positions, 0.0), CELL)
    there = moved(positions, 5.0)
    potential.on_rebuild.clear()
    before, _ = potential.evaluate(there, CELL)
    guard.attach(potential)
    after, _ = potential.evaluate(there, CELL)

    assert potential.weights[8] == potential.weights[9] == 1.0
    assert {atom for event in guard.events for atom in event.atoms} == {8, 9}
    # A handful of terms of order 10 eV: float64 leaves some 1e-14 eV.
    assert guard.e_repartition == pytest.approx(after - before, abs=1e-12)
    assert abs(guard.e_repartition) > 0.1
    assert sum(event.e_repartition for event in guard.events) == pytest.approx(
        guard.e_repartition, abs=1e-14
    )
    # It is mended: a second look finds nothing.
    count = len(guard.events)
    potential.evaluate(there, CELL)
    assert len(guard.events) == count
    assert potential.n_set == 1


def test_an_atom_found_by_two_checks_is_booked_once():
    positions, potential = row()
    guard = Guard("promote", shell=R_MAX)
    potential.on_rebuild.append(guard)
    potential.evaluate(positions, CELL)
    there = moved(positions, 6.0)
    e_hf, e_lf = (potential.centre_energies(there, CELL, k)[9] for k in (3.0, 2.0))
    potential.evaluate(there, CELL)
    assert [(event.check, event.atoms) for event in guard.events] == [("unseen", (9,))]
    assert guard.e_repartition == pytest.approx(float(e_hf - e_lf), abs=1e-13)


def test_promotion_without_hf_stops():
    positions, potential = row()
    potential.weights[:] = 0
    potential.pair.hf = None
    with pytest.raises(RunStopped):
        Guard("promote")(positions, CELL, potential)


def test_promotion_to_an_energy_that_is_not_finite_stops_before_it():
    positions, potential = row()
    guard = Guard("promote")
    guard(positions, CELL, potential)
    potential.expert_energies = lambda *_: (torch.full((12,), math.nan), torch.zeros(12))
    with pytest.raises(RunStopped, match="atom 9"):
        guard(moved(positions, 5.0), CELL, potential)
    assert potential.n_set == 0
    assert guard.e_repartition == 0.0


def spreads_across_a_promotion(timestep):
    """Spreads of E_total − e_repartition and of E_total over 8 time units of NVE (mass 1).

    The step that promotes ends with half a kick by the new forces, where conservation wants the
    old ones: once, of first order, and taken out here.
    """
    positions, potential = row()
    potential.STIFFNESS = (0.003, 0.001)
    guard = Guard("promote")
    guard.attach(potential)
    velocities = torch.zeros_like(positions)
    velocities[0, 0] = 1.0
    energy, forces = potential.evaluate(positions, CELL)
    totals, conserved, kicked = [], [], 0.0
    for step in range(round(8 / timestep)):
        guard.step = step
        velocities = velocities + 0.5 * timestep * forces
        positions = positions + timestep * velocities
        old = potential.weights.copy()
        energy, forces = potential.evaluate(positions, CELL)
        guard.check_forces(forces)
        if (old != potential.weights).any():
            unpromoted = ToyPotential(potential.species, old)
            unpromoted.STIFFNESS = potential.STIFFNESS
            _, old_forces = unpromoted.evaluate(positions, CELL)
            ends = [velocities + 0.5 * timestep * f for f in (forces, old_forces)]
            kicked += 0.5 * float((ends[0] ** 2).sum() - (ends[1] ** 2).sum())
        velocities = velocities + 0.5 * timestep * forces
        totals.append(energy + 0.5 * float((velocities**2).sum()))
        conserved.append(totals[-1] - guard.e_repartition - kicked)
    assert any(event.action == "promoted" for event in guard.events)
    return np.ptp(conserved), np.ptp(totals)


def test_nve_conserves_the_energy_less_what_promotion_booked():
    coarse, jump = spreads_across_a_promotion(0.2)
    fine, _ = spreads_across_a_promotion(0.1)
    # Velocity Verlet is of second order: half the step, a quarter of the fluctuation.
    assert 3.5 < coarse / fine < 4.5
    assert jump > 10 * coarse


# --- resuming, configuring ------------------------------------------------------------------


def test_a_resumed_guard_goes_on_as_the_first_would():
    def walk(guard, potential, xs, first=0):
        for step, x in enumerate(xs, first):
            guard.step = step
            guard(moved(positions, x), CELL, potential)

    positions, potential = row()
    path = [0.0, 1.0, 5.0, 6.0, 8.5, 9.0, 11.0]
    whole = Guard("promote")
    walk(whole, potential, path)

    _, other = row()
    early = Guard("promote")
    walk(early, other, path[:3])
    late = Guard("promote")
    late.load_state_dict(json.loads(json.dumps(early.state_dict())))
    assert late.state_dict() == early.state_dict()
    walk(late, other, path[3:], first=3)
    assert late.state_dict() == whole.state_dict()
    assert late.e_repartition == whole.e_repartition
    assert len(late.events) > 1
    np.testing.assert_array_equal(other.weights, potential.weights)


def test_a_resumed_guard_warns_of_no_atom_twice(caplog):
    positions, potential = row()
    early = Guard("warn")
    early(positions, CELL, potential)
    early(moved(positions, 5.0), CELL, potential)
    late = Guard("warn")
    late.load_state_dict(json.loads(json.dumps(early.state_dict())))
    caplog.clear()
    late(moved(positions, 5.0), CELL, potential)
    assert not caplog.records


def test_a_guard_is_configured_by_a_word_or_a_mapping():
    assert Guard.from_config("warn").policy == "warn"
    guard = Guard.from_config({"policy": "promote", "watched": ["C", "O"], "shell": 4})
    assert (guard.policy, guard.watched, guard.shell) == ("promote", ("C", "O"), 4.0)
    assert Guard.from_config({}).policy == "error"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "promot",
            "guard: got 'promot'; allowed: error, warn, promote (did you mean \"promote\"?)",
        ),
        (False, "guard: got false; allowed: a mapping"),
        ({"polcy": "warn"}, "guard: unknown key 'polcy' (did you mean \"policy\"?)"),
        ({"policy": 3}, "guard.policy: got 3; allowed: error, warn, promote"),
        ({"watched": ["c"]}, "guard.watched[0]: got 'c'; allowed: a chemical symbol"),
        ({"shell": -1}, "guard.shell: got -1; allowed: a number Å"),
        ({"lost_distance": "far"}, "guard.lost_distance: got 'far'"),
    ],
)
def test_bad_configuration_is_refused_by_place(value, message):
    with pytest.raises(InputError) as caught:
        Guard.from_config(value)
    assert message in str(caught.value)


# --- with the real potential ----------------------------------------------------------------


def test_promotion_inside_an_evaluation_of_the_real_potential():
    atoms = fcc111("Pt", (4, 2, 2), a=3.92, vacuum=6.0)
    atoms.pbc = [True, True, False]
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1)
    pair = mismatched_pair()
    pair.provenance["lf"] = {"seen_pairs": KNOWN}
    within = {"within": {"distance": 4.2, "of": {"species": ["C", "O"]}}}
    weights = Regions.from_dict({"complex": within}).weights(atoms)
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
    guard = Guard("promote")
    guard.attach(potential)
    cell, positions = torch.tensor(atoms.cell.array), torch.tensor(atoms.positions)
    potential.evaluate(positions, cell)
    assert guard.events == []

    # The molecule hops along the row of atoms to the next top site.
    positions[-2:, 0] += 3.92 / math.sqrt(2)
    plain = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
    before = plain.evaluate(positions, cell)
    after = potential.evaluate(positions, cell)
    raised = np.flatnonzero(potential.weights != weights)
    assert len(raised) > 0
    assert sorted(a for event in guard.events for a in event.atoms) == raised.tolist()
    # Sums of some 20 energies of order 1 eV in float64.
    assert guard.e_repartition == pytest.approx(after.energy - before.energy, abs=1e-12)
    assert guard.e_repartition != 0.0
    fresh = Potential(pair, list(atoms.symbols), potential.weights, atoms.pbc, dtype="float64")
    np.testing.assert_array_equal(after.forces, fresh.evaluate(positions, cell).forces)
    check = Guard()
    check.load_state_dict(guard.state_dict())
    check(positions, cell, potential)
