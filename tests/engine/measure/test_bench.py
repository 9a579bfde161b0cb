"""Rows of measurements: what they count, what they refuse to print, what they leave out."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from duetto.cli import main as cli
from duetto.errors import InputError, RunStopped
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.measure.bench.architectures import ARCHITECTURES, architecture_named, random_pair
from duetto.measure.bench.edges import count_edges, edges_per_atom
from duetto.measure.bench.memory import memory_per_atom
from duetto.measure.bench.rows import Row, append_csv, table
from duetto.measure.bench.settings import BenchSettings, Case
from duetto.measure.bench.sweep import measure
from duetto.measure.bench.systems import SPECIES, build_system, complex_weights
from duetto.measure.bench.time_split import measure_split
from duetto.potential.cpu import CPUBackend
from duetto.potential.mixture import Potential
from tests import architectures
from tests.linear_experts import random_expert
from tests.structures import structures

OWN = ("mixture", "full_hf", "full_lf")
LEAST_COLUMNS = {
    *("system", "n_atoms", "n_edges", "complex_fraction", "engine", "backend", "device", "dtype"),
    *("threads", "step_ms_median", "step_ms_min", "us_per_edge", "speedup_vs_nequip_best"),
    "share_of_ideal",
}


@pytest.fixture(autouse=True)
def malloc_is_left_alone(monkeypatch) -> None:
    """The command changes it for the whole process, which here is that of all tests."""
    monkeypatch.setattr("duetto.measure.bench.allocator.keep_freed_memory", lambda: True)


def _pair(lf: str | None = "lf16", species: tuple[str, ...] = ("Pt",)) -> ExpertPair:
    return random_pair("lf32", lf, hf_r_max=4.4, lf_r_max=4.0, species=species, seed=3)


def _case(n_atoms: int = 64, fraction: float = 0.25) -> Case:
    atoms = build_system("pt", n_atoms, seed=1)
    return Case("pt", atoms, [complex_weights(atoms, fraction)])


def _settings(**changes: object) -> BenchSettings:
    defaults = {"architecture": "lf32", "lf_architecture": "lf16", "engines": OWN, "rounds": 2}
    return BenchSettings(**{"pair": _pair(), **defaults, **changes})  # type: ignore[arg-type]


def test_rows_count_edges_and_speedups_as_they_say() -> None:
    case = _case()
    rows = {row.engine: row for row in measure([case], _settings(), lambda line: None)}
    assert set(rows) == set(OWN)
    counts = {}
    for role, cutoff in (("hf", 4.4), ("lf", 4.0)):
        counts[role] = np.bincount(neighbor_list("i", case.atoms, cutoff), minlength=64)
    hf = case.partitions[0] == 1.0
    assert rows["full_hf"].n_edges == counts["hf"].sum()
    assert rows["full_lf"].n_edges == counts["lf"].sum()
    assert rows["mixture"].n_edges == counts["hf"][hf].sum() + counts["lf"][~hf].sum()
    assert rows["mixture"].complex_fraction == 0.25
    for row in rows.values():
        assert row.us_per_edge == pytest.approx(1000 * row.step_ms_median / row.n_edges)
        assert 0 < row.step_ms_min <= row.step_ms_median
        assert row.cpu_ms_min is not None
        assert row.cpu_ms_min > 0
        assert row.neighbor_list_ms is not None
        assert row.neighbor_list_ms > 0
        assert row.speedup_vs_nequip_best is None
    ideal = counts["hf"][hf].sum() * rows["full_hf"].us_per_edge
    ideal += counts["lf"][~hf].sum() * rows["full_lf"].us_per_edge
    mixture = rows["mixture"]
    assert mixture.share_of_ideal == pytest.approx(ideal / 1000 / mixture.step_ms_median)
    assert mixture.speedup_vs_full_hf == pytest.approx(
        rows["full_hf"].step_ms_median / mixture.step_ms_median
    )
    assert mixture.share_of_ideal * mixture.speedup_ideal == pytest.approx(  # type: ignore[operator]
        mixture.speedup_vs_full_hf
    )
    assert set(mixture.to_dict()) >= LEAST_COLUMNS


def test_edges_respect_cutoffs_of_pairs_of_types() -> None:
    base = architecture_named("lf16", 4.0, ("Pt", "C", "O"))
    architecture = replace(base, cutoffs=((4.0, 3.0, 2.5), (3.5, 2.0, 2.0), (3.0, 2.0, 1.5)))
    expert = AllegroExpert(architecture, random_weights(architecture, 0))
    for name, atoms in structures().items():
        i, j, d = neighbor_list("ijd", atoms, 4.0)
        types = np.array([("Pt", "C", "O").index(symbol) for symbol in atoms.symbols])
        within = d < np.array(architecture.cutoffs)[types[i], types[j]]
        expected = np.bincount(i[within], minlength=len(atoms))
        np.testing.assert_array_equal(edges_per_atom(expert, atoms), expected, err_msg=name)


@pytest.mark.parametrize("interfaces", [("model",), ("ase",)])
def test_wrong_forces_are_never_timed(monkeypatch, interfaces: tuple[str, ...]) -> None:
    right = CPUBackend.evaluate

    def wrong(self, *arguments):
        evaluations = right(self, *arguments)
        for evaluation in evaluations:
            evaluation.forces[:, 0] += 1e-4 * evaluation.forces.abs().max()
        return evaluations

    monkeypatch.setattr(CPUBackend, "evaluate", wrong)
    with pytest.raises(RunStopped, match=r"off by 1\.0e-04 .* nothing was timed"):
        measure([_case()], _settings(interfaces=interfaces), lambda line: None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nequip_is_timed_on_the_same_forces(dtype: str) -> None:
    pytest.importorskip("allegro", reason="needs the train extra: pip install duetto[train]")
    engines = (*OWN, "nequip_eager")
    pair = _pair(species=SPECIES)
    settings = _settings(pair=pair, engines=engines, dtype=dtype, interfaces=("model", "ase"))
    slab = build_system("ptco", 30)
    cases = [_case(32), _case(108), Case("ptco", slab, [complex_weights(slab, 0.25)])]
    rows = measure(cases, replace(settings, nequip_max_atoms=40), lambda line: None)
    found = {(row.engine, row.interface, row.n_atoms): row for row in rows if row.system == "pt"}
    on_slab = [row for row in rows if row.system == "ptco" and row.engine == "nequip_eager"]
    assert len(slab) <= 40
    assert len(on_slab) == 2
    assert ("nequip_eager", "model", 108) not in found
    nequip = found["nequip_eager", "model", 32]
    assert nequip.n_edges == found["full_hf", "model", 32].n_edges
    assert nequip.speedup_vs_nequip_best == pytest.approx(1.0)
    assert nequip.force_error < {"float32": 1e-5, "float64": 1e-10}[dtype]
    full = found["full_hf", "model", 108]
    assert full.speedup_vs_nequip_best == pytest.approx(nequip.us_per_edge / full.us_per_edge)
    assert full.nequip_n_atoms == 32
    through_ase = found["nequip_eager", "ase", 32]
    assert found["full_hf", "ase", 32].speedup_vs_nequip_best == pytest.approx(
        through_ase.step_ms_median / found["full_hf", "ase", 32].step_ms_median
    )


def test_nequip_with_other_weights_is_refused(monkeypatch) -> None:
    pytest.importorskip("allegro", reason="needs the train extra: pip install duetto[train]")
    from duetto.measure.bench import nequip_engines

    build = nequip_engines.nequip_model

    def other(expert, dtype):
        changed = {
            name: w * (1.001 if name == "readout.1" else 1.0) for name, w in expert.weights.items()
        }
        return build(replace(expert, weights=changed), dtype)

    monkeypatch.setattr(nequip_engines, "nequip_model", other)
    with pytest.raises(RunStopped, match="nequip_eager"):
        measure([_case(32)], _settings(engines=("nequip_eager",)), lambda line: None)


@pytest.mark.parametrize(
    "name",
    [
        "l2_parity",
        "uncoupled_paths",
        "trainable_bessel",
        "spline",
        "linear_mlps",
        "per_type",
        "zbl",
    ],
)
def test_expert_turns_back_into_the_nequip_model_it_came_from(name: str) -> None:
    pytest.importorskip("allegro", reason="needs the train extra: pip install duetto[train]")
    from duetto.conversion.model import nequip_model
    from tests.structures import nequip_results

    model = architectures.build(name)
    expert = ExpertPair.from_nequip(hf=model).hf
    assert expert is not None
    again = nequip_model(expert, "float64")
    atoms = structures()["cubic"]
    cutoffs = np.array(expert.architecture.cutoffs)
    expected = nequip_results(model, atoms, cutoffs)["forces"]
    found = nequip_results(again, atoms, cutoffs)["forces"]
    # The same operations on weights that differ by one rounding.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_what_cannot_run_is_left_out_with_the_reason(monkeypatch) -> None:
    pytest.importorskip("allegro", reason="needs the train extra: pip install duetto[train]")
    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    engines = ("full_hf", "mixture", "nequip_aoti")
    rows = measure([_case(16)], _settings(pair=_pair(None), engines=engines), said.append)
    assert [row.engine for row in rows] == ["full_hf"]
    text = "\n".join(said)
    assert "nequip_aoti (model) is left out: there is no C++ compiler (no-such-compiler)" in text
    assert "mixture and full_lf are left out: the pair has no expert lf" in text


def _lf_of_platinum() -> tuple[Case, BenchSettings]:
    atoms = build_system("ptco", 100)
    pair = ExpertPair(_pair(species=SPECIES).hf, random_expert("one species, l_max 2"))
    case = Case("ptco", atoms, [(atoms.numbers != 78).astype(float)])
    return case, _settings(pair=pair, engines=OWN)


def test_an_expert_that_knows_some_species_is_timed_on_them() -> None:
    case, settings = _lf_of_platinum()
    said: list[str] = []
    rows = {row.engine: row for row in measure([case], settings, said.append)}
    assert set(rows) == {"mixture", "full_hf"}
    assert "ptco: full_lf is left out: the expert lf does not know C, O" in said
    assert rows["mixture"].speedup_ideal is None
    platinum = case.atoms[case.atoms.numbers == 78]
    expected = len(neighbor_list("i", platinum, 4.5))
    assert count_edges(settings.pair, case.atoms)["lf"].sum() == expected


def test_multiple_time_steps_need_lf_on_every_atom() -> None:
    case, settings = _lf_of_platinum()
    with pytest.raises(InputError, match=r"--every: lf computes all atoms .* not know C, O \(ptco"):
        measure_split([case], settings, every=4)


def test_where_hf_is_a_correction_lf_computes_every_atom() -> None:
    case, apart = _case(), _pair()
    pair = ExpertPair(apart.hf, apart.lf, correction=True)
    settings = _settings(pair=pair, engines=(*OWN, "nequip_eager"))
    said: list[str] = []
    rows = {row.engine: row for row in measure([case], settings, said.append)}
    assert "nequip is left out: the expert hf is a correction to lf" in said
    counts = {
        role: np.bincount(neighbor_list("i", case.atoms, cutoff), minlength=64)
        for role, cutoff in (("hf", 4.4), ("lf", 4.0))
    }
    inside = case.partitions[0] == 1.0
    assert rows["full_hf"].n_edges == counts["hf"].sum() + counts["lf"].sum()
    assert rows["mixture"].n_edges == counts["hf"][inside].sum() + counts["lf"].sum()
    full, low, share = (rows["full_hf"], rows["full_lf"], counts["hf"][inside].sum())
    delta = (full.step_ms_median - low.step_ms_median) * share / counts["hf"].sum()
    assert rows["mixture"].speedup_ideal == pytest.approx(
        full.step_ms_median / (delta + low.step_ms_median)
    )
    for row in measure_split([case], settings, every=4):
        d, c = row.hf_ms, row.lf_ms
        if row.way == "time":
            assert row.speedup_predicted == pytest.approx((d + c) / (d / 4 + c))
        if row.way == "full_hf":
            assert row.speedup_predicted == pytest.approx(1.0)


def test_nothing_left_to_time_is_said(monkeypatch) -> None:
    from duetto.measure.bench import nequip_engines

    monkeypatch.setattr(nequip_engines, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="every engine is left out"):
        measure([_case(16)], _settings(engines=("nequip_eager",)), lambda line: None)


def test_compiled_models_are_kept_apart_and_whole(monkeypatch, tmp_path: Path) -> None:
    pytest.importorskip("allegro", reason="needs the train extra: pip install duetto[train]")
    from duetto.measure.bench import nequip_engines

    made: list[Path] = []

    def compile_(model, device, atoms, target, path) -> None:
        if made == ["fail"]:
            path.write_text("half")
            raise RuntimeError("the compiler failed")
        made.append(path)
        path.write_text(target)

    monkeypatch.setattr(nequip_engines, "_compile", compile_)
    atoms, said = build_system("pt", 16), []

    def compiled(seed: int, dtype: str = "float32", target: str = "ase") -> Path:
        pair = random_pair("lf16", None, hf_r_max=4, lf_r_max=4, species=("Pt",), seed=seed)
        return nequip_engines.compiled(
            pair.hf, dtype, "cpu", atoms, target=target, cache=tmp_path, say=said.append
        )

    first = compiled(1)
    assert first.read_text() == "ase"
    assert compiled(1) == first
    assert len(made) == len(said) == 1
    others = {compiled(2), compiled(1, "float64"), compiled(1, target="batch")}
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    others.add(compiled(1))
    torch.set_num_threads(before)
    assert len(others | {first}) == 5
    made[:] = ["fail"]
    with pytest.raises(RuntimeError, match="the compiler failed"):
        compiled(3)
    assert set(tmp_path.iterdir()) == others | {first}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_kept() -> None:
    """Blocks that glibc would map anew each time cost no page faults the second time."""
    program = """
import resource, sys
from duetto.measure.bench.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for turn in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(64 << 20) for _ in range(3)]
    del blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""
    faults = {}
    for allocator in ("keep", "system"):
        command = [sys.executable, "-c", program, allocator]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[allocator] = int(done.stdout)
    # At 64 MB a block is above any threshold that glibc comes to by itself (32 MB).
    assert faults["keep"] < 10 < faults["system"]


def test_missing_package_is_named(monkeypatch) -> None:
    from duetto.measure.bench import nequip_engines

    monkeypatch.setattr(nequip_engines, "find_spec", lambda name: None)
    assert nequip_engines.missing_for("nequip_eager") == "nequip is not installed"


def test_rows_are_appended_with_where_they_are_from(tmp_path: Path) -> None:
    rows = measure([_case(32)], _settings(), lambda line: None)
    path = tmp_path / "rows.csv"
    append_csv(path, rows)
    append_csv(path, rows[:1])
    with path.open() as stream:
        read = list(csv.DictReader(stream))
    assert [row["engine"] for row in read] == [row.engine for row in [*rows, rows[0]]]
    assert float(read[0]["step_ms_median"]) == rows[0].step_ms_median
    assert {"commit", "date", "processor", "torch", "numba", "python"} <= set(read[0])
    checkout = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    if checkout.returncode == 0:
        assert checkout.stdout.startswith(read[0]["commit"].rstrip("+"))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="other columns"):
        append_csv(other, rows)
    assert other.read_text() == "a,b\n1,2\n"


def test_table_shows_what_was_not_measured_as_a_dash() -> None:
    row = Row(
        *("pt", "lf32", None, 4.0, None, 10, 100, 1.0, "full_hf", "model", "numba", "cpu"),
        *("float32", 1, 2.0, 1.0, None, 20.0, None, None, None, 1.0, None, None, None, 1e-7),
        *("reference", 3, "system"),
    )
    header, line = table([row]).splitlines()
    assert "µs/edge" in header
    assert line.split()[-7:] == ["20.000", "-", "-", "1.00", "-", "-", "1e-07"]


@pytest.mark.parametrize(("name", "tolerance"), [("pt", 0.03), ("ptco", 0.12)])
@pytest.mark.parametrize("n_atoms", [100, 1000, 8000])
def test_structures_have_the_size_asked_for_and_no_clash(
    name: str, tolerance: float, n_atoms: int
) -> None:
    atoms = build_system(name, n_atoms)
    assert abs(len(atoms) / n_atoms - 1.0) <= tolerance
    # CO is 1.157 Å long, and the rattle's 0.1 Å per coordinate seldom takes 0.5 Å off a bond.
    assert len(neighbor_list("i", atoms, 0.6)) == 0
    assert complex_weights(atoms, 0.1).sum() == round(0.1 * len(atoms))
    architecture = architecture_named("lf16", 5.0, ("Pt", "C", "O"))
    expert = AllegroExpert(architecture, random_weights(architecture, 0))
    assert edges_per_atom(expert, atoms).max() < 70


def test_bulk_has_the_neighbors_of_platinum() -> None:
    pair = random_pair("lf32", "lf16", hf_r_max=5.0, lf_r_max=4.5, species=("Pt",), seed=0)
    atoms = build_system("pt", 500)
    assert len(atoms) == 500
    counts = count_edges(pair, atoms)
    # Shells of face-centred cubic platinum: 12 + 6 + 24 within 5 Å, 12 + 6 within 4.5 Å.
    # The third shell, at 4.87 Å, is moved by 0.07 Å: a few of it are beyond 5 Å.
    assert counts["hf"].mean() == pytest.approx(42, rel=0.03)
    assert counts["lf"].mean() == pytest.approx(18, rel=1e-6)


def test_complex_region_is_the_upper_end_and_blends() -> None:
    atoms = build_system("ptco", 300)
    w = complex_weights(atoms, 0.2)
    z = atoms.positions[:, 2]
    assert z[w == 1.0].min() >= z[w == 0.0].max()
    blended = complex_weights(atoms, 0.2, blend=3.0)
    np.testing.assert_array_equal(blended == 1.0, w == 1.0)
    assert ((blended > 0) & (blended < 1)).any()


def test_memory_is_that_of_the_evaluation() -> None:
    pair, atoms = _pair(), build_system("pt", 4000)
    options = {"device": "cpu", "dtype": "float32", "backend": "auto", "threads": 1}
    measured = memory_per_atom(pair, atoms, np.zeros(len(atoms)), options)
    potential = Potential(pair, atoms.get_chemical_symbols(), np.zeros(len(atoms)), atoms.pbc)
    potential.rebuild(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    neighbors = potential.neighbor_list
    held = (neighbors.neighbor.nbytes + neighbors.shift.nbytes) / len(atoms)
    # At least the list, a neighbour and a gradient for each of its slots; at most one chunk of
    # scratch memory (4 MB, a quarter in reserve, and its 2 kB per atom here) and the search's.
    gradients = 16 * len(neighbors.neighbor) / len(atoms)
    assert held + gradients < measured < held + gradients + 10e6 / len(atoms) + 6000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "gold"], "system 'gold': use one of pt, ptco"),
        (["--architecture", "hf65"], "architecture 'hf65'"),
        (["--complex-fraction", "1.5"], "complex fraction 1.5"),
        (["--engines", "lammps"], "engine 'lammps'"),
        (["--interfaces", "pymatgen"], "interface 'pymatgen'"),
        (["--allocator", "jemalloc"], "--allocator jemalloc: use one of keep, system"),
        (["--rounds", "0"], "0 rounds"),
        (["--threads", "0"], "--threads 0"),
        (["--atoms", "1"], "1 atoms: use at least 4"),
        (["--dtype", "float16"], "float16"),
        (["--pair", "missing.duetto"], "missing.duetto: no such pair file"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--trace", "t.json"], "--trace is for --profile"),
        (["--profile", "--atoms", "8", "16"], "one number of atoms"),
        (["--r-max", "-1"], "r_max"),
    ],
)
def test_bad_arguments_give_one_line(capsys, arguments: list[str], message: str) -> None:
    assert cli.main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_command_prints_json_alone(capsys, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    arguments = ["bench", "--atoms", "32", "--rounds", "1", "--architecture", "lf16", "--json"]
    engines = ["--engines", "full_hf", "mixture", "full_lf", "--csv", str(path)]
    assert cli.main(arguments + engines) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["engine"] for row in rows] == ["full_hf", "full_lf", "mixture"]
    assert len(path.read_text().splitlines()) == 4
    assert {row["allocator"] for row in rows} == {"keep"}
    with path.open() as stream:
        assert {row["allocator"] for row in csv.DictReader(stream)} == {"keep"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_named_architectures_differ_and_are_supported(name: str) -> None:
    architecture = architecture_named(name, 5.0, ("Pt", "C"))
    others = [architecture_named(other, 5.0, ("Pt", "C")) for other in ARCHITECTURES]
    assert others.count(architecture) == 1


def test_bench_imports_no_training_stack() -> None:
    script = (
        "import sys, duetto.measure.bench.sweep, duetto.measure.profile.show\n"
        "assert not {'nequip', 'allegro', 'lightning', 'e3nn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_species_is_named() -> None:
    atoms = Atoms("PtAu", positions=[(0, 0, 0), (3, 0, 0)])
    with pytest.raises(InputError, match="Au"):
        measure([Case("x", atoms, [])], _settings(), lambda line: None)
