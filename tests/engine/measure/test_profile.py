"""The profile: what it counts, whether its times add up, and whether its predictions hold."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from duetto.cli import main as cli
from duetto.errors import InputError
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.kernels.cpu.expert import CPUExpert, Listener
from duetto.kernels.cpu.linear import CPULinear
from duetto.measure.bench.architectures import architecture_named, random_pair
from duetto.measure.bench.edges import count_edges
from duetto.measure.bench.force_check import tensors
from duetto.measure.bench.own_engines import same_potential
from duetto.measure.bench.systems import build_system, complex_weights
from duetto.measure.profile.cost import Amount, stage_costs
from duetto.measure.profile.peaks import Peaks, measure_peaks
from duetto.measure.profile.prediction import Move, move_layer, outer_layer, predict_saving_ms
from duetto.measure.profile.recorder import Recorder
from duetto.measure.profile.regions import JobProfile, Operation, Profile, profile
from duetto.measure.profile.show import as_json, as_text, draw, write_trace
from duetto.potential.cpu import CPUBackend
from duetto.potential.mixture import Potential
from duetto.potential.reference import ReferenceBackend
from tests.linear_experts import random_expert

STAGES = ["neighbours", "embedding", "layer 0", "layer 1", "readout", "scatter", "integration"]


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    return build_system("ptco", 260, seed=2)


@pytest.fixture(scope="module")
def potential(atoms: Atoms) -> Potential:
    pair = random_pair("hf32", "lf16", hf_r_max=5.0, lf_r_max=4.5, species=("Pt", "C", "O"), seed=4)
    weights = complex_weights(atoms, 0.3, blend=3.5)
    return Potential(pair, atoms.get_chemical_symbols(), weights, atoms.pbc)


def test_linear_experts_have_a_count_and_a_floor() -> None:
    """Every stage that a linear LF reports is counted, by the operations of its formulas."""
    kernel = CPULinear(random_expert("one species, l_max 2").form(), torch.float32)
    costs = stage_costs(kernel)
    assert set(costs) == {"linear/one_pass", "linear/energy_and_gradient"}
    one_pass = costs["linear/one_pass"]
    # 45 moments cost two operations each on the way there and four on the way back.
    assert 6 * 45 < one_pass.edge.flops < 12 * 45
    # 225 pairs and 75 entries of the gradient of 35 products of three.
    assert 2 * 225 + 4 * 75 < one_pass.centre.flops < 4 * 225 + 8 * 75
    assert Peaks(1, 100.0, 50.0, 10.0).floor_ms(one_pass.edge.flops, 0.0, streams=False) > 0.0


@pytest.fixture(scope="module")
def measured(potential: Potential, atoms: Atoms) -> Profile:
    return profile(potential, atoms, rounds=5)


def test_regions_hold_their_atoms_and_edges(
    measured: Profile, potential: Potential, atoms: Atoms
) -> None:
    w = potential.weights
    counts = count_edges(potential.pair, atoms)
    expected = {
        "complex HF": (w == 1, "hf"),
        "blend HF": ((w > 0) & (w < 1), "hf"),
        "blend LF": ((w > 0) & (w < 1), "lf"),
        "simple LF": (w == 0, "lf"),
    }
    assert [job.name for job in measured.jobs] == list(expected)
    for job in measured.jobs:
        mask, role = expected[job.name]
        assert job.atoms == mask.sum() > 0
        assert job.edges == counts[role][mask].sum()
        assert job.slots >= job.edges
    assert measured.n_atoms == {
        "complex": (w == 1).sum(),
        "blend": ((w > 0) & (w < 1)).sum(),
        "simple": (w == 0).sum(),
    }


def test_where_hf_is_a_correction_every_region_has_lf() -> None:
    atoms = build_system("pt", 64, seed=2)
    apart = random_pair("lf16", "lf16", hf_r_max=4.4, lf_r_max=4.0, species=("Pt",), seed=4)
    pair = ExpertPair(apart.hf, apart.lf, correction=True)
    w = complex_weights(atoms, 0.3)
    potential = Potential(pair, atoms.get_chemical_symbols(), w, atoms.pbc)
    found = profile(potential, atoms, rounds=1)
    assert [job.name for job in found.jobs] == ["complex HF", "complex LF", "simple LF"]
    assert [job.integration is None for job in found.jobs] == [False, True, False]
    moved = np.zeros(len(atoms), dtype=bool)
    moved[np.flatnonzero(w)[:3]] = True
    of_hf = found.jobs[0].ms / found.jobs[0].edges * count_edges(pair, atoms)["hf"][moved].sum()
    assert predict_saving_ms(found, potential, atoms, moved) == pytest.approx(of_hf)


def test_stages_come_in_order_and_their_times_add_up(measured: Profile) -> None:
    for job in measured.jobs:
        stages = [one.stage for one in job.stages()]
        absent = {"layer 1"} if job.role == "lf" else set()
        absent |= {"integration"} if job.name == "blend LF" else set()
        assert stages == [stage for stage in STAGES if stage not in absent]
        assert all(one.ms > 0 for one in job.operations)
        assert job.ms == pytest.approx(
            sum(one.ms for one in job.stages() if one.stage != "integration")
        )
    assert all(span.busy_ns >= 0 for span in measured.spans)
    inside = sum(span.busy_ns for span in measured.spans) * 1e-6
    inside /= measured.peaks.threads
    assert sum(job.ms for job in measured.jobs) == pytest.approx(inside)
    # Stages lie inside the evaluation that was timed around them.
    assert measured.between_ms > 0
    assert measured.between_ms + inside == pytest.approx(measured.listened_ms)


def test_every_chunk_reports_every_stage_once(potential: Potential, atoms: Atoms) -> None:
    heard: list[tuple[str, str]] = []

    class Ears(Listener):
        def begin(self, job) -> None:
            self.role = job.role

        def done(self, stage: str) -> None:
            heard.append((self.role, stage))

    backend = potential.backend
    assert isinstance(backend, CPUBackend)
    threads = backend.threads
    backend.threads = 1
    backend.listen(Ears())
    potential.evaluate(*tensors(atoms, "cpu"))
    backend.listen(Listener())
    backend.threads = threads
    chunks = {plan.job.role: len(plan.borders) - 1 for plan in backend._plans}
    for role, expert in backend.experts.items():
        counted = Counter(stage for owner, stage in heard if owner == role)
        assert counted.pop("scatter/forces") == 1
        assert set(counted) == set(stage_costs(expert)) - {"scatter/forces"}
        assert set(counted.values()) == {chunks[role]}


def test_listening_changes_no_number(potential: Potential, atoms: Atoms) -> None:
    backend = potential.backend
    assert isinstance(backend, CPUBackend)
    silent = potential.evaluate(*tensors(atoms, "cpu"))
    backend.listen(Recorder({id(job): job.role for job in potential._work}))
    heard = potential.evaluate(*tensors(atoms, "cpu"))
    backend.listen(Listener())
    assert torch.equal(silent.forces, heard.forces)
    assert silent.energy == heard.energy


def test_timers_that_are_off_cost_less_than_two_percent(potential: Potential, atoms: Atoms) -> None:
    backend = potential.backend
    assert isinstance(backend, CPUBackend)
    calls = 0

    class Counter_(Listener):
        def done(self, stage: str) -> None:
            nonlocal calls
            calls += 1

    x, cell = tensors(atoms, "cpu")
    backend.listen(Counter_())
    potential.evaluate(x, cell)
    backend.listen(Listener())

    def shortest(task, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            task()
            times.append(time.perf_counter() - began)
        return min(times)

    expert, layer = backend.experts["hf"], 1

    def thousand_calls() -> None:
        for _ in range(1000):
            expert.listener.done(f"layer {layer}/moments")

    one_call = shortest(thousand_calls, 20) / 1000
    step = shortest(lambda: potential.evaluate(x, cell), 20)
    assert calls > 40
    assert calls * one_call < 0.02 * step * backend.threads


@pytest.mark.parametrize("name", ["hf32", "hf64_no_parity", "lf16", "l3"])
def test_matrix_products_are_counted_as_they_are_done(name: str) -> None:
    pair = ExpertPair(hf=_expert(name), lf=None)
    atoms = build_system("ptco", 60)
    potential = Potential(pair, atoms.get_chemical_symbols(), np.ones(len(atoms)), atoms.pbc)
    backend = potential.backend
    assert isinstance(backend, CPUBackend)
    done = _count_products(backend.experts["hf"])
    potential.evaluate(*tensors(atoms, "cpu"))
    edges, centres = int(count_edges(pair, atoms)["hf"].sum()), len(atoms)
    costs = stage_costs(backend.experts["hf"]).values()
    counted = sum(cost.total(edges, centres, 0).products for cost in costs)
    assert counted == sum(done) > 0


def _count_products(expert: CPUExpert) -> list[int]:
    """Operations of each product from now on, by the shapes of what it is given."""
    done: list[int] = []

    def product(kernel):
        def counted(a, begin, end, column, inner, b, *rest):
            done.append(2 * (end - begin) * inner * b.shape[1])
            kernel(a, begin, end, column, inner, b, *rest)

        return counted

    def layer(kernel):
        def counted(x, column, inner, weights, h, to, slope):
            done.append(2 * len(slope) * inner * weights.shape[1])
            kernel(x, column, inner, weights, h, to, slope)

        return counted

    def adjoint(kernel):
        def counted(gh, column, slope, transposed, gx):
            done.append(2 * len(slope) * transposed.size)
            kernel(gh, column, slope, transposed, gx)

        return counted

    for name in ("_tensor_weights", "_tensor_weights_adjoint", "_environments"):
        setattr(expert, name, product(getattr(expert, name)))
    expert._environments_adjoint = [product(one) for one in expert._environments_adjoint]
    expert._latent = [layer(one) for one in expert._latent]
    expert._latent_adjoint = [adjoint(one) for one in expert._latent_adjoint]
    expert._readout_layer = layer(expert._readout_layer)
    expert._readout_layer_adjoint = adjoint(expert._readout_layer_adjoint)
    return done


def _expert(name: str) -> AllegroExpert:
    architecture = architecture_named(name, 4.5, ("Pt", "C", "O"))
    return AllegroExpert(architecture, random_weights(architecture, 0))


def test_operations_per_edge_of_a_standard_expert() -> None:
    expert = CPUBackend({"hf": _expert("hf64")}, torch.float32).experts["hf"]
    costs = stage_costs(expert).values()
    neighbors = 54
    products = sum(cost.edge.products + cost.centre.products / neighbors for cost in costs)
    flops = sum(cost.edge.flops + cost.centre.flops / neighbors for cost in costs)
    # By hand, per edge, forward and backward: 4 · (64·96 + 96·64 + 160·64 + 192·32) for the tensor
    # weights, two latent networks and the readout, and 4 · 2·9·64·32 / 54 for the environments.
    by_hand = 4 * (64 * 96 + 96 * 64 + 160 * 64 + 192 * 32) + 4 * 2 * 9 * 64 * 32 / neighbors
    # Hidden vectors lie in blocks of 64 with the 32 scalars in the next one: no row is padding.
    assert products == pytest.approx(by_hand)
    assert 15e3 < flops - products < 60e3


def test_floors_follow_from_peaks() -> None:
    peaks = Peaks(threads=1, gflops=100.0, cache_gbytes=50.0, memory_gbytes=10.0)
    assert peaks.floor_ms(1e9, 0.0, streams=False) == pytest.approx(10.0)
    assert peaks.floor_ms(1e9, 1e9, streams=False) == pytest.approx(20.0)
    assert peaks.floor_ms(0.0, 1e9, streams=True) == pytest.approx(100.0)


def test_peaks_are_those_of_a_processor() -> None:
    peaks = measure_peaks(torch.float32, threads=1)
    assert 1.0 < peaks.gflops < 10_000.0
    assert 1.0 < peaks.memory_gbytes < 1000.0
    assert peaks.cache_gbytes > 0.8 * peaks.memory_gbytes


def test_outer_layer_is_what_is_near(potential: Potential, atoms: Atoms) -> None:
    w = potential.weights
    distances = atoms.get_all_distances(mic=True)
    expected = (w == 1.0) & (distances[:, w < 1.0].min(axis=1) < 3.0)
    assert 0 < expected.sum() < (w == 1.0).sum()
    np.testing.assert_array_equal(outer_layer(atoms, w, 3.0), expected)
    assert not outer_layer(atoms, np.ones(len(atoms)), 3.0).any()


def test_prediction_is_cost_per_edge_times_edges(
    measured: Profile, potential: Potential, atoms: Atoms
) -> None:
    moved = outer_layer(atoms, potential.weights, 3.0)
    cost = {job.name: job.ms / job.edges for job in measured.jobs}
    counts = count_edges(potential.pair, atoms)
    saved = counts["hf"][moved].sum() * cost["complex HF"]
    spent = counts["lf"][moved].sum() * cost["simple LF"]
    found = predict_saving_ms(measured, potential, atoms, moved)
    assert found == pytest.approx(saved - spent)
    assert found > 0


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_moving_a_layer_saves_about_what_was_predicted() -> None:
    atoms = build_system("pt", 500, seed=2)
    pair = random_pair("hf32", "lf16", hf_r_max=5.0, lf_r_max=4.5, species=("Pt",), seed=4)
    weights = complex_weights(atoms, 0.5)
    potential = Potential(pair, atoms.get_chemical_symbols(), weights, atoms.pbc)
    measured = profile(potential, atoms, rounds=15)
    move = move_layer(measured, potential, atoms, 3.0, rounds=15)
    assert move.atoms > 50
    # Fastest of fifteen rounds; what is left is the machine's other work and chunks cut elsewhere.
    assert move.measured_saving_ms == pytest.approx(move.predicted_saving_ms, rel=0.5)
    assert move.measured_saving_ms > 0.05 * move.running_ms


def test_nothing_to_move_or_to_predict_from_is_said(
    measured: Profile, potential: Potential, atoms: Atoms
) -> None:
    with pytest.raises(InputError, match="no complex atom is within"):
        move_layer(measured, potential, atoms, 1e-6)
    everything = same_potential(potential, np.ones(len(atoms)))
    full = profile(everything, atoms, rounds=1)
    with pytest.raises(InputError, match="simple LF"):
        predict_saving_ms(full, everything, atoms, np.ones(len(atoms), dtype=bool))


def test_stages_are_timed_on_the_cpu_only(potential: Potential, atoms: Atoms) -> None:
    other = same_potential(potential, potential.weights)
    other.backend = ReferenceBackend(potential.pair.experts, torch.float32)
    with pytest.raises(InputError, match="stages are timed on cpu"):
        profile(other, atoms)


def test_trace_holds_every_span(measured: Profile, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_trace(measured, path)
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    assert len(events) == len(measured.spans)
    total = sum(span.end_ns - span.begin_ns for span in measured.spans)
    assert sum(event["dur"] for event in events) == pytest.approx(total / 1000)
    assert {event["args"]["region"] for event in events} == {job.name for job in measured.jobs}
    for thread in {event["tid"] for event in events}:
        mine = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["tid"] == thread)
        assert all(end <= begin + 1e-3 for (_, end), (begin, _) in pairwise(mine))


def test_picture_and_tables(
    measured: Profile, potential: Potential, atoms: Atoms, tmp_path
) -> None:
    path = tmp_path / "profile.png"
    draw(measured, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["profile.png"]
    move = move_layer(measured, potential, atoms, 3.0, rounds=1)
    text = as_text(measured, move)
    for words in (*STAGES, *(job.name for job in measured.jobs), "predicted", "floor ms"):
        assert words in text
    data = json.loads(json.dumps(as_json(measured, move)))
    assert data["move"]["atoms"] == move.atoms
    assert [region["expert"] for region in data["regions"]] == ["hf", "hf", "lf", "lf"]
    operations = data["regions"][0]["operations"]
    assert sum(one["ms"] for one in operations) == pytest.approx(data["regions"][0]["ms"])


def _made_up(step_ms: float, listened_ms: float) -> Profile:
    """One stage of one job, at half of the step."""
    embedding = Operation("embedding", "lengths", step_ms / 2, Amount(1e6, 1e6), step_ms / 4)
    return Profile(
        jobs=(JobProfile("complex", "hf", 10, 500, 600, (embedding,), None),),
        n_atoms={"complex": 10, "blend": 0, "simple": 0},
        step_ms=step_ms,
        listened_ms=listened_ms,
        list_ms=3.0,
        integration_ms=0.25,
        peaks=Peaks(threads=1, gflops=100.0, cache_gbytes=50.0, memory_gbytes=10.0),
        dtype="float32",
        force_error=1e-7,
        spans=(),
    )


@pytest.mark.parametrize(("listened_ms", "warned"), [(49.0, False), (50.9, False), (51.1, True)])
def test_overhead_above_the_promise_is_said(listened_ms: float, warned: bool) -> None:
    text = as_text(_made_up(50.0, listened_ms), None)
    assert ("WARNING" in text) == warned
    assert ("more than the 2% promised" in text) == warned
    assert f"{listened_ms / 50.0 - 1.0:+.1%} while on" in text


def test_there_is_one_step_time() -> None:
    """A step with timers, or in processor time, stands in the sentence on the timers or nowhere."""
    move = Move(3.0, 7, running_ms=77.0, predicted_saving_ms=9.0, measured_saving_ms=8.0)
    text = as_text(_made_up(50.0, 52.0), move)
    assert text.startswith("step 50.000 ms")
    assert text.count("50.000") == 1
    assert "77.0" not in text
    (line,) = [line for line in text.splitlines() if "52.000" in line]
    assert "timers" in line


@pytest.mark.parametrize(
    ("predicted", "done", "said"),
    [
        (9.0, 8.0, "overestimates the saving by 1.000 ms (12%)"),
        (8.0, 10.0, "underestimates the saving by 2.000 ms (20%)"),
        (-1.0, 0.0, "underestimates the saving by 1.000 ms:"),
        (8.0, 8.0001, "is right to the last digit shown"),
    ],
)
def test_it_says_which_way_the_prediction_goes(predicted: float, done: float, said: str) -> None:
    text = as_text(_made_up(50.0, 52.0), Move(3.0, 7, 50.0, predicted, done))
    assert f"the prediction {said}" in text
    if predicted > done:  # of 52 ms listened to, 2 are the timers': so many of the 9 predicted
        assert f"about {9.0 * 2 / 52:.3f} ms of what was predicted" in text
    else:
        assert "what was predicted" not in text


def test_command(capsys, tmp_path: Path) -> None:
    files = {"--trace": tmp_path / "t.json", "--plot": tmp_path / "p.png"}
    options = [str(word) for pair in files.items() for word in pair]
    arguments = ["bench", "--profile", "--atoms", "64", "--architecture", "lf32", "--rounds", "2"]
    assert cli.main([*arguments, "--json", *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [region["region"] for region in data["regions"]] == ["complex", "simple"]
    assert all(path.stat().st_size > 0 for path in files.values())
