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

from duetto.atoms.periodic import pairs_within
from duetto.errors import InputError, RunStopped
from duetto.partition.guard import Guard
from duetto.partition.keeper import Keeper
from duetto.partition.regions import Regions
from duetto.partition.rules import Configuration, Kinds, find_unseen, seen_pairs
from duetto.partition.search import SLACK, Search
from duetto.partition.start import MOTION
from duetto.potential.mixture import Potential
from tests.pairs import mismatched_pair

R_MAX = 4.5
KNOWN = [["Pt", "Pt"], ["C", "Pt"], ["C", "O"], ["O", "C"], ["C", "C"], ["O", "O"], ["O", "Pt"]]
"""LF was trained on all but C and O as neighbours of Pt."""


class ToyPotential:
    """Two soft pair potentials behind the interface of a potential that the guard uses.

    E_i = k/2 Σ_j (r_max - r_ij)³ over neighbours inside r_max, with k = 3 for HF and k = 2 for
    LF, in eV/Å³.
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
        self.n_set = 0
        self.asked = []

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

    def expert_energies(self, positions, cell, atoms):
        self.asked.append(atoms.tolist())
        others = np.setdiff1d(np.arange(len(positions)), atoms)
        energies = [self.centre_energies(positions, cell, k) for k in self.STIFFNESS]
        for of_expert in energies:
            of_expert[others] = torch.nan
        return tuple(energies)

    def evaluate(self, positions, cell):
        positions = positions.detach().requires_grad_()
        hf, lf = (self.centre_energies(positions, cell, k) for k in self.STIFFNESS)
        w = torch.as_tensor(self.weights)
        energy = (w * hf + (1 - w) * lf).sum()
        return float(energy.detach()), -torch.autograd.grad(energy, positions)[0]


def keep(potential, policy="error", **settings):
    """A keeper of the potential's partition, which looks at every step."""
    return Keeper.of(Guard(policy=policy, **settings), potential)


def step(keeper, positions, potential, number=0, cell=None):
    cell = CELL if cell is None else cell
    return keeper.between_steps(number, positions, cell, potential, rebuilt=True)


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
    guard = keep(potential, policy)
    weights = potential.weights.copy()
    for x in (0.0, 0.8, -0.8, 2.0):
        assert step(guard, moved(positions, x), potential) is None
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
        guard = keep(potential)
        step(guard, positions, potential)
        step(guard, moved(positions, 15.0), potential)
    finally:
        potential.pair.provenance["lf"]["seen_pairs"].remove(["Pt", "C"])
    assert guard.events == []


def test_pairs_of_one_expert_are_legal():
    positions, potential = row()
    potential.pair.lf = None
    potential.weights[:] = 1
    step(keep(potential), positions, potential)
    positions, potential = row(seen=[*KNOWN, ["Pt", "C"]])
    potential.pair.hf = None
    potential.weights[:] = 0
    step(keep(potential, "promote"), positions, potential)


# --- a neighbour LF never saw ---------------------------------------------------------------


def test_unseen_neighbor_stops_the_run_with_a_message_for_people():
    positions, potential = row()
    guard = keep(potential)
    step(guard, positions, potential)
    # Pt 9 (x = 9, LF) is √(2² + 4²) = 4.47 Å from C; r_max is 4.5 Å.
    with pytest.raises(RunStopped) as caught:
        step(guard, moved(positions, 5.0), potential, 1200)
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
    guard = keep(potential, shell=0.5)
    step(guard, positions, potential)
    step(guard, moved(positions, 5.0), potential)
    with pytest.raises(RunStopped, match=r"4\.39 Å away"):
        step(guard, moved(positions, 9 - math.sqrt(4.39**2 - 4)), potential)


def test_unseen_counts_blended_atoms_because_LF_computes_them_too():
    positions, potential = row()
    potential.weights[8] = 0.9
    with pytest.raises(RunStopped, match=r"atom 8 \(Pt, w = 0\.9\)"):
        step(keep(potential), moved(positions, 3.0), potential)


def test_unseen_looks_across_periodic_boundaries():
    positions, potential = row()
    guard = keep(potential, shell=0.1)
    step(guard, positions, potential)
    # The last Pt at x = 15 has an image at x = -25.
    with pytest.raises(RunStopped, match="atom 11 "):
        step(guard, moved(positions, -24.0), potential)


def test_unseen_counts_an_atom_s_own_image_but_not_itself():
    cell = torch.diag(torch.tensor([4.0, 12.0, 12.0], dtype=torch.float64))
    one = torch.zeros((1, 3), dtype=torch.float64)
    potential = ToyPotential(["Pt"], [0.0], seen=[["Pt", "C"]])
    with pytest.raises(RunStopped, match=r"atom 0 .* has atom 0 .* 4\.00 Å away"):
        step(keep(potential), one, potential, cell=cell)
    cell[0, 0] = 5.0
    step(keep(potential), one, potential, cell=cell)


def test_unseen_is_complete_and_sorted_by_distance():
    rng = np.random.default_rng(23)
    species = np.array(["C", "O", "Pt"])[rng.integers(0, 3, 60)]
    weights = rng.choice([0.0, 0.5, 1.0], 60)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 2.0, 7.0]])
    positions = rng.random((60, 3)) @ cell
    potential = ToyPotential(species, weights, pbc=(True, True, True), seen=KNOWN)
    now = Configuration(positions, cell, potential.pbc, Kinds.of(species.tolist()), weights)
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
    guard = keep(potential)
    for x in (0.0, 0.1, 0.2):
        step(guard, moved(positions, x), potential)
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
    guard = keep(potential)
    step(guard, positions, potential)
    assert guard.state_dict()["start"]["shell"] == R_MAX
    # C over x = 6: it is √13 = 3.6 Å away, within the cutoff: MOTION less is the shell.
    positions, potential = row(carbon_x=6.0, seen=everything)
    guard = keep(potential)
    step(guard, positions, potential)
    shell = math.sqrt(13) - MOTION
    assert guard.state_dict()["start"]["shell"] == pytest.approx(shell, abs=1e-12)
    step(guard, moved(positions, 7.0), potential)
    with pytest.raises(RunStopped, match=rf"atom 9 \(Pt.* from atom 0 \(C.* up to {shell:.2f} Å"):
        step(guard, moved(positions, 9 - math.sqrt((shell - 0.01) ** 2 - 4)), potential)


def test_a_bare_adsorbate_leaves_no_room_for_a_shell(caplog):
    positions, potential = row(carbon_x=6.0, seen=None)
    positions[0, 2] = 0.9
    potential.weights[1:] = 0
    guard = keep(potential)
    step(guard, positions, potential)
    assert guard.state_dict()["start"]["shell"] == 0.0
    assert "the simple region begins 0.90 Å from C" in caplog.text
    step(guard, moved(positions, 7.0), potential)


def test_a_shell_given_is_taken_at_its_word():
    everything = [*KNOWN, ["Pt", "C"]]
    positions, potential = row(seen=everything)
    guard = keep(potential, shell=8.0)
    step(guard, positions, potential)
    with pytest.raises(RunStopped, match=r"up to 8\.00 Å"):
        step(guard, moved(positions, 1.5), potential)
    with pytest.raises(InputError, match=r"guard\.shell: got 9\.5 Å, but atom [39] .* is 9\.22 Å"):
        step(keep(potential, shell=9.5), positions, potential)


def test_atoms_of_the_blend_may_enter_the_shell():
    everything = [*KNOWN, ["Pt", "C"]]
    positions, potential = row(seen=everything)
    potential.weights[9] = 0.01
    guard = keep(potential, shell=4.0)
    step(guard, positions, potential)
    step(guard, moved(positions, 7.5), potential)
    assert guard.events == []


def test_watched_species_default_to_those_wholly_complex_and_can_be_named():
    everything = [*KNOWN, ["Pt", "C"], ["Pt", "O"]]
    positions, potential = row(seen=everything)
    potential.species[4:8:3] = ["O", "O"]
    guard = keep(potential)
    step(guard, positions, potential)
    assert guard.state_dict()["start"]["watched"] == (0, 4, 7)
    named = keep(potential, watched=["O"])
    step(named, positions, potential)
    assert named.state_dict()["start"]["watched"] == (4, 7)
    with pytest.raises(
        InputError, match=r"guard\.watched\[0\]: no Au in the complex region, which"
    ):
        step(keep(potential, watched=["Au"]), positions, potential)


# --- lost atoms and broken numbers ----------------------------------------------------------


def test_an_atom_far_outside_is_lost_but_drift_along_periodic_axes_is_not():
    positions, potential = row()
    guard = keep(potential, lost_distance=50.0)
    step(guard, positions, potential)
    away = positions + torch.tensor([4000.0, -1200.0, 0.0])
    step(guard, away, potential)
    away[3, 2] = 51.9  # the atoms filled z = 0 to 2
    step(guard, away, potential)
    away[3, 2] = 52.1
    with pytest.raises(RunStopped, match=r"atom 3 .* is 50\.1 Å outside the space"):
        step(guard, away, potential)
    assert guard.events[-1].check == "lost"


def test_promotion_does_not_mend_a_lost_atom():
    positions, potential = row()
    guard = keep(potential, "promote")
    step(guard, positions, potential)
    away = positions.clone()
    away[3, 2] = -101.0
    with pytest.raises(RunStopped, match="lower timestep_fs"):
        step(guard, away, potential)
    assert potential.n_set == 0


@pytest.mark.parametrize("policy", ["error", "warn", "promote"])
def test_positions_that_are_not_finite_always_stop(policy):
    positions, potential = row()
    positions[5, 1] = math.nan
    guard = keep(potential, policy)
    message = r"step 7: atom 5 \(Pt, w = 1\).*position is not finite"
    with pytest.raises(RunStopped, match=message):
        step(guard, positions, potential, 7)


# --- a look costs little and changes nothing --------------------------------------------------


def test_a_look_changes_nothing_and_does_not_depend_on_the_looks_before():
    """A search that remembers pairs, and moves through and beyond its slack, against new ones."""
    rng = np.random.default_rng(7)
    kinds = rng.integers(0, 3, 80)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 2.0, 7.0]])
    pbc = np.array([True, True, False])
    limits = rng.random((3, 3)) * 4.0
    limits[0, 1] = 0.0
    positions = rng.random((80, 3)) @ cell
    remembering, found = Search(), 0
    for walk in range(30):
        queries, points = rng.random((2, 80)) < (0.9, 0.5)[walk % 2]
        ask = {"queries": queries, "points": points, "kinds": kinds, "limits": limits}
        answer = remembering.closest(positions, cell, pbc, **ask)
        for mine, fresh in zip(answer, Search().closest(positions, cell, pbc, **ask), strict=True):
            np.testing.assert_array_equal(mine, fresh)
        found += len(answer[0])
        positions = positions + rng.normal(size=positions.shape) * 0.02 * SLACK
    assert found > 100


def test_a_look_without_the_list_rebuilt_is_not_taken():
    positions, potential = row()
    guard = keep(potential)
    away = moved(positions, 5.0)
    assert guard.between_steps(3, away, CELL, potential, rebuilt=False) is None
    assert guard.events == []
    with pytest.raises(RunStopped):
        guard.look(4, away, CELL)


# --- warn -----------------------------------------------------------------------------------


def test_warn_tells_of_each_atom_once(caplog):
    positions, potential = row()
    guard = keep(potential, "warn", shell=0.5)
    step(guard, positions, potential)
    for x in (5.0, 5.1, 0.0, 5.2):
        step(guard, moved(positions, x), potential)
    assert [event.atoms for event in guard.events] == [(9,)]
    # Farther on, Pt 10 comes into reach too; 9 is known already.
    step(guard, moved(positions, 9.0), potential)
    assert [event.atoms for event in guard.events] == [(9,), (10,)]
    assert "atom 10 (Pt, w = 0)" in guard.events[1].message
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [event.message for event in guard.events]
    assert potential.n_set == 0


def test_messages_count_the_other_atoms():
    positions, potential = row()
    potential.weights[1:] = 0
    with pytest.raises(RunStopped, match=r"of Pt \(and 2 more such atoms\)\."):
        step(keep(potential), positions, potential)


# --- promote --------------------------------------------------------------------------------


def test_promotion_books_exactly_the_jump_of_the_energy():
    positions, potential = row()
    potential.weights[8] = 0.25
    guard = keep(potential, "promote")
    assert step(guard, moved(positions, 0.0), potential) is None
    there = moved(positions, 5.0)
    before, _ = potential.evaluate(there, CELL)
    after, _ = step(guard, there, potential)

    assert potential.weights[8] == potential.weights[9] == 1.0
    assert {atom for event in guard.events for atom in event.atoms} == {8, 9}
    assert potential.asked == [[8, 9]]
    # A handful of terms of order 10 eV: float64 leaves some 1e-14 eV.
    assert guard.e_repartition == pytest.approx(after - before, abs=1e-12)
    assert abs(guard.e_repartition) > 0.1
    assert sum(event.e_repartition for event in guard.events) == pytest.approx(
        guard.e_repartition, abs=1e-14
    )
    # It is mended: a second look finds nothing.
    count = len(guard.events)
    assert step(guard, there, potential) is None
    assert len(guard.events) == count
    assert potential.n_set == guard.ledger.version == 1


def test_an_atom_found_by_two_checks_is_booked_once():
    positions, potential = row()
    guard = keep(potential, "promote", shell=R_MAX)
    step(guard, positions, potential)
    there = moved(positions, 6.0)
    e_hf, e_lf = (potential.centre_energies(there, CELL, k)[9] for k in (3.0, 2.0))
    step(guard, there, potential)
    assert [(event.check, event.atoms) for event in guard.events] == [("unseen", (9,))]
    assert guard.e_repartition == pytest.approx(float(e_hf - e_lf), abs=1e-13)


def test_promotion_without_hf_stops():
    positions, potential = row()
    potential.weights[:] = 0
    potential.pair.hf = None
    with pytest.raises(RunStopped):
        step(keep(potential, "promote"), positions, potential)


def test_promotion_to_an_energy_that_is_not_finite_stops_before_it():
    positions, potential = row()
    guard = keep(potential, "promote")
    step(guard, positions, potential)
    potential.expert_energies = lambda *_: (torch.full((12,), math.nan), torch.zeros(12))
    with pytest.raises(RunStopped, match="atom 9"):
        step(guard, moved(positions, 5.0), potential)
    assert potential.n_set == 0
    assert guard.e_repartition == 0.0


def spreads_across_a_promotion(timestep):
    """Spreads of E_total − e_repartition and of E_total over 8 time units of NVE (mass 1)."""
    positions, potential = row()
    potential.STIFFNESS = (0.003, 0.001)
    guard = keep(potential, "promote")
    velocities = torch.zeros_like(positions)
    velocities[0, 0] = 1.0
    energy, forces = potential.evaluate(positions, CELL)
    totals, conserved = [], []
    for number in range(round(8 / timestep)):
        velocities = velocities + 0.5 * timestep * forces
        positions = positions + timestep * velocities
        energy, forces = potential.evaluate(positions, CELL)
        velocities = velocities + 0.5 * timestep * forces
        promoted = step(guard, positions, potential, number)
        if promoted is not None:
            energy, forces = promoted
        totals.append(energy + 0.5 * float((velocities**2).sum()))
        conserved.append(totals[-1] - guard.e_repartition)
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
        for number, x in enumerate(xs, first):
            step(guard, moved(positions, x), potential, number)

    positions, potential = row()
    path = [0.0, 1.0, 5.0, 6.0, 8.5, 9.0, 11.0]
    whole = keep(potential, "promote")
    walk(whole, potential, path)

    _, other = row()
    early = keep(other, "promote")
    walk(early, other, path[:3])
    late = keep(other, "promote")
    late.load_state_dict(json.loads(json.dumps(early.state_dict())))
    assert late.state_dict() == early.state_dict()
    walk(late, other, path[3:], first=3)
    assert late.state_dict() == whole.state_dict()
    assert late.e_repartition == whole.e_repartition
    assert len(late.events) > 1
    np.testing.assert_array_equal(other.weights, potential.weights)


def test_a_resumed_guard_warns_of_no_atom_twice(caplog):
    positions, potential = row()
    early = keep(potential, "warn")
    step(early, positions, potential)
    step(early, moved(positions, 5.0), potential)
    late = keep(potential, "warn")
    late.load_state_dict(json.loads(json.dumps(early.state_dict())))
    caplog.clear()
    step(late, moved(positions, 5.0), potential)
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
        (False, "guard: got false; allowed: error, warn, promote, or a mapping"),
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


@pytest.mark.parametrize(
    ("dtype", "booked"),
    # What the engine booked when it still evaluated both experts on all atoms.
    [("float64", "-0x1.8b77b24250228p-9"), ("float32", "-0x1.8b7707f5b32c0p-9")],
)
def test_promotion_of_the_real_potential_asks_the_experts_for_the_atoms_concerned(
    dtype, booked, monkeypatch
):
    atoms = fcc111("Pt", (4, 2, 2), a=3.92, vacuum=6.0)
    atoms.pbc = [True, True, False]
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1)
    pair = mismatched_pair()
    pair.provenance["lf"] = {"seen_pairs": KNOWN}
    within = {"within": {"distance": 4.2, "of": {"species": ["C", "O"]}}}
    weights = Regions.from_dict({"complex": within}).weights(atoms)
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype=dtype)
    guard = keep(potential, "promote")
    cell, positions = torch.tensor(atoms.cell.array), torch.tensor(atoms.positions)
    assert step(guard, positions, potential, cell=cell) is None
    assert guard.events == []

    # The molecule hops along the row of atoms to the next top site.
    positions[-2:, 0] += 3.92 / math.sqrt(2)
    before = potential.evaluate(positions, cell)
    e_hf, e_lf = (e.numpy() for e in potential.expert_energies(positions, cell))
    after = step(guard, positions, potential, cell=cell)
    raised = np.flatnonzero(potential.weights != weights)
    assert len(raised) > 0
    assert sorted(a for event in guard.events for a in event.atoms) == raised.tolist()
    # To the last bit what it is with every atom computed by both experts.
    assert [event.e_repartition for event in guard.events] == [
        float(np.sum((1 - weights[list(event.atoms)]) * (e_hf - e_lf)[list(event.atoms)]))
        for event in guard.events
    ]
    # Another processor may round products of matrices otherwise: some ulp of energies of order
    # 1 eV.
    ulp = 1e-15 if dtype == "float64" else 1e-7
    assert guard.e_repartition == pytest.approx(float.fromhex(booked), abs=20 * ulp)
    # Sums of some 20 energies of order 1 eV.
    assert guard.e_repartition == pytest.approx(after.energy - before.energy, abs=1000 * ulp)
    assert guard.e_repartition != 0.0
    fresh = Potential(pair, list(atoms.symbols), potential.weights, atoms.pbc, dtype=dtype)
    np.testing.assert_array_equal(after.forces, fresh.evaluate(positions, cell).forces)
    assert step(guard, positions, potential, cell=cell) is None


def test_energies_of_some_atoms_are_those_of_all_and_the_others_are_not_computed():
    atoms = fcc111("Pt", (4, 2, 2), a=3.92, vacuum=6.0)
    atoms.rattle(0.1, seed=3)
    potential = Potential(
        mismatched_pair(), list(atoms.symbols), np.zeros(16), atoms.pbc, dtype="float64"
    )
    cell, positions = torch.tensor(atoms.cell.array), torch.tensor(atoms.positions)
    everywhere = potential.expert_energies(positions, cell)
    some = potential.expert_energies(positions, cell, [11, 2])
    for one, other in zip(some, everywhere, strict=True):
        assert torch.equal(one[[2, 11]], other[[2, 11]])
        assert int(torch.isnan(one).sum()) == 14


def test_only_what_some_atom_asks_for_is_searched(monkeypatch):
    """LF that knows platinum alone: no carbon asks for platinum, which are nearly all atoms."""
    searched = []

    def pairs(queries, points, *rest):
        searched.append((len(queries), len(points)))
        return pairs_within(queries, points, *rest)

    monkeypatch.setattr("duetto.partition.search.pairs_within", pairs)
    positions, potential = row(seen=[["Pt", "Pt"]])
    step(keep(potential, "warn"), positions, potential)
    platinum, complex_platinum = 11, 5
    assert searched[0] == (platinum - complex_platinum, 1)
