"""Fits whose answer is known: a linear expert distilled from a linear expert, and its constants."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from duetto.cli.main import main
from duetto.distil.elastic import constraints_of, elasticity
from duetto.distil.fit import Fit, describe, distil
from duetto.distil.gathered import evaluate
from duetto.distil.report import fit_errors
from duetto.distil.rows import rows_of
from duetto.distil.settings import Crystal, DistilSettings, Made, settings_of
from duetto.distil.structures import Structure
from duetto.errors import InputError
from duetto.experts.linear.expert import LinearExpert
from duetto.experts.pair import ExpertPair
from tests.linear_experts import SHAPES, Box, random_expert

EXAMPLE = Path(__file__).parents[3] / "examples/ptco"
PT = Crystal(symbol="Pt", lattice="fcc", a=3.97)
SMALL = DistilSettings(
    species=("Pt",), crystal=PT, make=Made(strained=6, rattled=6, vacancy=3), folds=3
)
"""Of the shape of the shipped linear expert, which is what these fits have to find again."""


@pytest.fixture(scope="module")
def teacher() -> LinearExpert:
    expert = ExpertPair.load(EXAMPLE / "ptco_linear.duetto").lf
    assert isinstance(expert, LinearExpert)
    return expert


@pytest.fixture(scope="module")
def fit(teacher: LinearExpert) -> Fit:
    return distil(teacher, SMALL)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_times_coefficients_are_energies_forces_and_virial(shape: str) -> None:
    expert = random_expert(shape)
    without_wall = LinearExpert(
        expert.description.__class__(**{**vars(expert.description), "wall": None}),
        expert.shift,
        expert.coefficients,
        expert.seen,
    )
    box = Box(expert.form())
    types = torch.from_numpy(box.types)
    vectors = box.vectors_of(torch.from_numpy(box.positions))[box.near]
    rows = rows_of(without_wall.description, types, box.i, box.j, vectors)
    c = torch.cat([expert.coefficients, expert.shift[:, None]], dim=1).flatten()
    atoms = bulk("Pt").repeat((len(types), 1, 1))
    atoms.symbols = [expert.species[t] for t in box.types]
    atoms.cell, atoms.positions = box.cell, box.positions
    found = evaluate(without_wall, Structure(atoms, "", ""), "float64")
    for mine, theirs in (
        (rows.sites @ c, found.energies),
        (rows.forces @ c, found.forces.flatten()),
        (rows.virial @ c, found.virial.flatten()),
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_constraints_are_the_expert_s_own_constants(teacher: LinearExpert) -> None:
    crystal = elasticity(teacher, PT)
    found = constraints_of(teacher.description, PT, crystal)
    c = torch.cat([teacher.coefficients, teacher.shift[:, None]], dim=1).flatten()
    # Two ways to the same numbers: strain derivatives by autograd here, differences of the
    # virial's stress there, whose error is that of rounding over the strain, 1e-13 / 2e-3.
    torch.testing.assert_close(found.G @ c, found.g, rtol=1e-8, atol=1e-8)


def test_a_linear_expert_is_found_again(teacher: LinearExpert, fit: Fit) -> None:
    atoms = bulk("Pt", cubic=True, a=3.97).repeat((2, 2, 2))
    atoms.rattle(0.1, seed=9)
    structure = Structure(atoms, "", "")
    mine = evaluate(fit.expert, structure, "float64")
    theirs = evaluate(teacher, structure, "float64")
    # The labels are in float32.
    assert (mine.forces - theirs.forces).abs().max() < 1e-4 * theirs.forces.abs().max()
    assert (mine.energies - theirs.energies).abs().max() < 1e-4


def test_constants_of_the_fit_are_those_of_hf(fit: Fit) -> None:
    mine, theirs = elasticity(fit.expert, PT), fit.crystal
    assert theirs is not None
    for name in ("a", "energy", "B", "C11", "C12", "C44"):
        assert getattr(mine, name) == pytest.approx(getattr(theirs, name), rel=1e-6)


def test_extrapolation_is_noticed_by_the_range_of_moments(fit: Fit) -> None:
    low, high = fit.expert.seen[0]
    assert (low < high).all()
    assert fit.seen_pairs == [["Pt", "Pt"]]


def test_command_writes_pair_and_report(
    teacher: LinearExpert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ExpertPair(teacher, None).save(tmp_path / "hf.duetto")
    frames = [bulk("Pt", cubic=True, a=3.95).repeat((2, 2, 2)) for _ in range(4)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.08, seed=number)
        atoms.write(tmp_path / "frames.xyz", format="extxyz", append=number > 0)
    arguments = [str(tmp_path / "hf.duetto"), "-o", str(tmp_path / "pair.duetto"), "--json"]
    settings = [
        f"data=[{tmp_path}/frames.xyz]",
        f"test=[{tmp_path}/frames.xyz]",
        "species=[Pt]",
        "radials=[2,2]",
        "three_body=[2,2]",
        "four_body=[]",
        "folds=2",
    ]
    assert main(["distil", *arguments, *settings]) == 0
    report = json.loads(capsys.readouterr().out)
    pair = ExpertPair.load(tmp_path / "pair.duetto")
    assert pair.lf is not None
    assert pair.lf.kind == "linear"
    assert pair.provenance["lf"]["seen_pairs"] == [["Pt", "Pt"]]
    assert report["content_hash"] == pair.content_hash
    assert json.loads((tmp_path / "pair.json").read_text()) == report
    assert (tmp_path / "pair.html").read_text().count("<img") == 1
    assert np.isfinite(report["test"]["structures"]["distilled"]["forces_meV_per_A"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cutof": 4}, "unknown key 'cutof' (did you mean \"cutoff\"?)"),
        ({"cutoff": -1}, "distil.cutoff: got -1"),
        ({"crystal": {"symbol": "Pt", "lattice": "hcp", "a": 2.8}}, "distil.crystal.lattice"),
        ({"make": {"rattled": 1.5}}, "distil.make.rattled: got 1.5"),
        ({"make": {"amplitude": [0.2, 0.1]}}, "two lengths in Å, the smaller first"),
        ({"noise": [1, 2]}, "distil.noise: got [1, 2]"),
        ({"noise": [1e-300, 1, 1]}, "of 1e-09 < x"),
    ],
)
def test_settings_are_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings_of(given)
    assert message in str(caught.value)


def test_structures_the_expert_cannot_see_are_left_out_and_counted(teacher: LinearExpert) -> None:
    """Below `inner` moments do not change: such distances would be noise of every other row."""
    whole = bulk("Pt", cubic=True, a=3.97).repeat((2, 2, 2))
    rattled = [whole.copy() for _ in range(3)]
    for number, atoms in enumerate(rattled):
        atoms.rattle(0.05, seed=number)
    rattled[2].positions[1] += 0.3 * rattled[2].get_distance(1, 0, mic=True, vector=True)
    closest = rattled[2].get_distance(0, 1, mic=True)
    assert isinstance(SMALL.inner, float)
    assert closest < SMALL.inner
    structures = [Structure(atoms, str(number), "") for number, atoms in enumerate(rattled)]
    settings = DistilSettings(species=("Pt",), folds=2, ridge=1e-8)
    said: list[str] = []
    found = distil(teacher, settings, said.append, structures)
    assert (found.n_structures, found.too_close, found.dropped) == (2, 1, 0)
    assert found.closest == pytest.approx(
        min(a.get_all_distances(mic=True)[np.triu_indices(32, 1)].min() for a in rattled[:2])
    )
    assert said == [
        f"of 3 structures left out: 1 with atoms closer than inner, 2.2 Å ({closest:.2f} Å)"
    ]
    with pytest.raises(InputError, match="all structures were left out: 1 with atoms closer"):
        distil(teacher, settings, structures=structures[2:])


def test_no_data_and_wrong_species_are_said(teacher: LinearExpert) -> None:
    with pytest.raises(InputError, match="no structures of Pt alone"):
        distil(teacher, DistilSettings(species=("Pt",)))
    with pytest.raises(InputError, match=r"distil\.species: got Au; allowed: what HF knows, Pt"):
        distil(teacher, DistilSettings(species=("Au",)))


def test_lengths_by_pair_of_species_reach_the_expert() -> None:
    lengths = {"default": 2.0, "O-C": 1.0, "Pt-O": 1.6}
    settings = settings_of({"species": ["Pt", "C", "O"], "inner": lengths, "wall": None})
    d = describe(settings)
    assert d.inner == ((2.0, 2.0, 1.6), (2.0, 2.0, 1.0), (1.6, 1.0, 2.0))
    assert d.cutoffs == ((4.5,) * 3,) * 3
    with pytest.raises(InputError, match=r"distil\.inner: got 'C-N'; allowed: default, and pairs"):
        describe(settings_of({"species": ["Pt", "C"], "inner": {"default": 2.0, "C-N": 1.0}}))
    with pytest.raises(
        InputError, match=r"distil\.cutoff: got .*; allowed: a number Å of 0 < x, or"
    ):
        settings_of({"cutoff": {"Pt-Pt": 4.5}})


def test_changes_along_the_dynamics_are_fitted_where_they_are_asked_for(
    teacher: LinearExpert,
) -> None:
    """A student that is too small to follow in everything follows what it is told to."""
    shape = {"radials": [4], "three_body": [2], "four_body": [], "species": ["Pt"]}
    made = {"crystal": PT, "make": {"rattled": 6}, "folds": 3, "ridge": 1e-9}
    changes = {}
    for noise in (1.0, 1e-3):
        slow = {"noise": noise, "temperature_K": 900.0, "timestep_fs": 4.0, "families": ["rat*"]}
        fit = distil(teacher, settings_of({**shape, **made, "slow": slow}))
        changes[noise] = fit_errors(fit)["changes"]
        rows = {quantity: part.rows for (_, quantity), part in fit.equations.parts.items()}
        assert rows["forces"] == 3 * rows["sites"]
    assert changes[1e-3] < 0.9 * changes[1.0]
    plain = distil(teacher, settings_of({**shape, **made}))
    assert "changes" not in fit_errors(plain)
