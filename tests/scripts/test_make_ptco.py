"""The Pt+CO set: how it is made (with EMT, tiny), and what is committed."""

import gzip
import io
import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import fcc111
from ase.calculators.emt import EMT

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "data"))

import make_ptco  # noqa: E402
from ptco.adsorbates import PT_C_BOND, add_co, surface_sites  # noqa: E402
from ptco.calculators import load_calculator  # noqa: E402
from ptco.families import FAMILIES  # noqa: E402
from ptco.more_families import MORE_FAMILIES  # noqa: E402
from ptco.structures import random_strain, slab  # noqa: E402

from duetto.errors import InputError  # noqa: E402

COMMITTED = ROOT / "examples" / "ptco" / "data"
MORE = COMMITTED / "more_co"
CLOSE = COMMITTED / "close_co"
DRIVER = ROOT / "examples" / "ptco" / "ptco.duetto"
SPLITS = ("train", "val", "test")
TINY = ["--calculator", "emt", "--frames-scale", "0.01", "--steps-scale", "0.02"]


def tiny_set(folder: Path, *more: str) -> int:
    return make_ptco.main(
        [*TINY, "--out", str(folder / "out"), "--frames", str(folder / "frames"), *more]
    )


def read_all(folder: Path) -> dict[str, list]:
    return {path.name: read_fast(path) for path in sorted(folder.glob("*.extxyz.gz"))}


def read_fast(path: Path) -> list:
    # ASE seeks back for every frame, and a compressed file then unpacks from its start.
    return ase.io.read(io.StringIO(gzip.open(path, "rt").read()), index=":", format="extxyz")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.extxyz.gz"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptco")
    assert tiny_set(folder) == 0
    return folder


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """The further frames, with runs that the shipped HF drives."""
    folder = tmp_path_factory.mktemp("driven")
    assert tiny_set(folder, "--driver", str(DRIVER)) == 0
    return folder


@pytest.mark.parametrize(("source", "families"), [("made", FAMILIES), ("driven", MORE_FAMILIES)])
def test_every_family_is_present(source, families, request):
    folder = request.getfixturevalue(source) / "out"
    made_types = {f.info["config_type"] for fs in read_all(folder).values() for f in fs}
    assert made_types == {family.name for family in families}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(made, tmp_path):
    assert tiny_set(tmp_path / "again") == 0
    assert contents(tmp_path / "again" / "out") == contents(made / "out")
    assert tiny_set(tmp_path / "other", "--seed", "1") == 0
    other = contents(tmp_path / "other" / "out")
    assert all(other[name] != data for name, data in contents(made / "out").items())


def test_interrupted_run_continues_to_the_same_set(made, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in (made / "frames").iterdir():
        (frames / path.name).write_bytes(path.read_bytes())
    # As left by a run stopped between a trajectory's frames and its record, and before another.
    (frames / "co_111-001.json").unlink()
    (frames / "gas_co-002.json").unlink()
    (frames / "gas_co-002.extxyz").unlink()
    assert tiny_set(tmp_path, "--export-only") == 0
    partial = json.loads((tmp_path / "out" / "PROVENANCE.json").read_text())
    assert partial["trajectories"].split()[0] == str(int(partial["trajectories"].split()[2]) - 2)
    assert tiny_set(tmp_path) == 0
    assert contents(tmp_path / "out") == contents(made / "out")


def test_a_driver_moves_the_atoms_and_repeats_to_the_last_byte(driven, tmp_path):
    assert tiny_set(tmp_path, "--driver", str(DRIVER)) == 0
    assert contents(tmp_path / "out") == contents(driven / "out")
    provenance = json.loads((driven / "out" / "PROVENANCE.json").read_text())
    assert provenance["calculator"]["driver"].startswith("HF of ptco.duetto")
    # A folder of the driver's frames is not one of the calculator's own runs.
    assert tiny_set(driven, "--export-only") == 2


def test_some_families_alone(made, tmp_path, capsys):
    assert tiny_set(tmp_path, "--families", "co_near", "co_approach") == 0
    some = [f for frames in read_all(tmp_path / "out").values() for f in frames]
    assert {f.info["config_type"] for f in some} == {"co_near", "co_approach"}
    # As in the whole set: a run has a seed of its own.
    whole = [f for frames in read_all(made / "out").values() for f in frames]
    first = {f.info["trajectory"] + "-seed0": f.positions for f in whole}
    same = [f for f in some if f.info["config_type"] == "co_approach"]
    assert len(same) == 3
    assert all((f.positions == first[f.info["trajectory"]]).all() for f in same)
    provenance = json.loads((tmp_path / "out" / "PROVENANCE.json").read_text())
    assert provenance["command"].endswith("--families co_near co_approach")
    assert "further CO frames" in (tmp_path / "out" / "PROVENANCE.md").read_text()
    # Neither the whole set nor a family that does not exist enters this work folder.
    assert tiny_set(tmp_path, "--export-only") == 2
    capsys.readouterr()
    assert tiny_set(tmp_path / "none", "--families", "co_nera") == 2
    assert "co_near" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["made", "driven"])
def test_labels_are_those_of_the_calculator_at_the_stored_positions(source, request):
    folder = request.getfixturevalue(source) / "out"
    labelled = [f for name, fs in read_all(folder).items() for f in fs if f.calc is not None]
    assert len(labelled) > 20
    for frame in labelled:
        check = frame.copy()
        check.calc = EMT()
        # Labels are rounded to 1e-6, positions to 1e-8.
        assert check.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=2e-6)
        np.testing.assert_allclose(frame.get_forces(), check.get_forces(), atol=2e-6, rtol=0)
        np.testing.assert_allclose(frame.get_stress(), check.get_stress(), atol=2e-8, rtol=0)


def test_other_settings_do_not_enter_the_same_work_folder(made, capsys):
    assert tiny_set(made, "--seed", "5", "--export-only") == 2
    assert "--frames" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing", "no_such_module:Class", "ase:NoSuchClass"])
def test_unknown_calculator_is_named(name):
    with pytest.raises(InputError, match=name):
        load_calculator(name)


def test_calculator_by_import_path():
    assert isinstance(load_calculator("ase.calculators.emt:EMT"), EMT)


@pytest.mark.parametrize(
    ("surface", "expected"),
    [
        ("111", {"top": 9, "bridge": 27, "fcc": 9, "hcp": 9}),
        ("100", {"top": 9, "bridge": 18, "hollow": 9}),
    ],
)
def test_sites_of_a_3x3_surface(surface, expected):
    atoms = slab(surface, (3, 3, 4), 3.974)
    kinds = [site.kind for site in surface_sites(atoms, 3.974 / np.sqrt(2))]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == expected


def test_fcc_and_hcp_sites_are_where_ase_puts_them():
    size = (3, 3, 4)
    named = fcc111("Pt", size, a=3.974).info["adsorbate_info"]
    atoms = slab("111", size, 3.974)
    in_plane = named["cell"] @ np.eye(2)
    for site in surface_sites(atoms, 3.974 / np.sqrt(2)):
        if site.kind in ("fcc", "hcp"):
            relative = site.centre(atoms)[:2] - atoms.positions[-9, :2]
            fractional = np.linalg.solve(in_plane.T, relative)
            np.testing.assert_allclose(
                (fractional - named["sites"][site.kind] + 0.5) % 1.0, 0.5, atol=1e-6
            )


def test_co_binds_through_carbon_and_keeps_apart():
    rng = np.random.default_rng(0)
    atoms = slab("111", (4, 4, 3), 3.974)
    covered = add_co(atoms, surface_sites(atoms, 3.974 / np.sqrt(2)), 4, rng, kinds=("top",))
    assert covered.symbols.formula.count() == {"Pt": 48, "C": 4, "O": 4}
    distances = covered.get_all_distances(mic=True)
    carbons = np.flatnonzero(covered.symbols == "C")
    # Height and position are drawn with 0.05 and 0.1 Å about the site: five sigma.
    assert np.abs(distances[carbons, :48].min(axis=1) - PT_C_BOND["top"]).max() < 0.6
    assert np.abs(distances[carbons, carbons + 1] - 1.157).max() < 0.15
    assert distances[np.ix_(carbons, carbons)][np.triu_indices(4, 1)].min() >= 3.0


def test_strains_stay_within_six_percent_and_reach_for_it():
    strains = np.array([random_strain(np.random.default_rng(k), 0.06) for k in range(300)])
    assert np.abs(strains).max() <= 0.06
    assert np.abs(strains).max() > 0.055
    np.testing.assert_array_equal(strains, strains.transpose(0, 2, 1))


def test_fast_chgnet_is_chgnet(request):
    pytest.importorskip("chgnet")
    import torch
    from ptco.chgnet import FastCHGNet, stock_difference

    # CHGNet computes in the process's default type, which nequip sets to double once and for all.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    request.addfinalizer(lambda: torch.set_default_dtype(before))

    atoms = slab("111", (2, 2, 3), 3.974)
    atoms = add_co(atoms, surface_sites(atoms, 2.81), 1, np.random.default_rng(1))
    difference = stock_difference(FastCHGNet(), [atoms])
    # Both are float32: energies of 1e2 eV, forces summed over some 1e3 edges of up to 10 eV/Å.
    assert difference["energy_per_atom"] < 1e-6
    assert difference["force"] < 1e-3
    assert difference["stress"] < 1e-5


@pytest.mark.parametrize("folder", [COMMITTED, MORE, CLOSE], ids=["first", "more", "close"])
def test_committed_files_hold_what_the_provenance_says(folder):
    provenance = json.loads((folder / "PROVENANCE.json").read_text())
    frames = read_all(folder)
    assert set(frames) == set(provenance["files"])
    for name, summary in provenance["files"].items():
        assert len(frames[name]) == summary["frames"]
        assert sum(map(len, frames[name])) == summary["atoms"]
        counts = [f.info["config_type"] for f in frames[name]]
        for kind, ranges in summary["config_types"].items():
            assert counts.count(kind) == ranges["frames"]
    assert sum(path.stat().st_size for path in folder.glob("*.gz")) < 5e6


def test_ase_reads_a_compressed_file_as_it_is():
    path = COMMITTED / "bulk_agreement_test.extxyz.gz"
    for direct, unpacked in zip(ase.io.read(path, index=":"), read_fast(path), strict=True):
        assert direct == unpacked
        assert direct.get_potential_energy() == unpacked.get_potential_energy()


@pytest.mark.parametrize(
    ("folder", "number"), [(COMMITTED, 5), (MORE, 3), (CLOSE, 3)], ids=["first", "more", "close"]
)
def test_committed_labels_are_complete_finite_and_tame(folder, number):
    files = read_all(folder)
    assert len(files) == number
    for name, frames in files.items():
        for frame in frames:
            assert frame.pbc.all()
            if name == "bulk_agreement.extxyz.gz":
                assert frame.calc is None
                continue
            assert np.isfinite(frame.get_potential_energy())
            assert np.abs(frame.get_forces()).max() <= 15.0
            assert np.isfinite(frame.get_stress()).all()
            # CHGNet's forces are a gradient: they sum to zero up to float32 rounding.
            assert np.abs(frame.get_forces().sum(axis=0)).max() < 2e-3


@pytest.mark.parametrize("source", ["made", "committed", "more", "close"])
def test_no_run_is_split_and_every_split_has_every_family(source, request):
    committed = {"committed": COMMITTED, "more": MORE, "close": CLOSE}.get(source)
    folder = committed or request.getfixturevalue("made") / "out"
    files = {name: frames for name, frames in read_all(folder).items() if name.startswith("ptco_")}
    runs = {name: {f.info["trajectory"] for f in frames} for name, frames in files.items()}
    assert sorted(name.split("_")[2].split(".")[0] for name in runs) == sorted(SPLITS)
    for name, mine in runs.items():
        for other, theirs in runs.items():
            assert name == other or not mine & theirs
    if committed:
        known = MORE_FAMILIES if source == "more" else FAMILIES
        families = {family.name for family in known if family.target == "reference"}
        if source == "close":
            families = {"co_approach", "co_near"}
        for frames in files.values():
            assert {f.info["config_type"] for f in frames} == families


def test_no_two_sets_have_a_run_or_a_frame_in_common():
    sets = [
        [f for frames in read_all(folder).values() for f in frames]
        for folder in (COMMITTED, MORE, CLOSE)
    ]
    runs = [{f.info["trajectory"] for f in frames} for frames in sets]
    positions = [{f.positions.tobytes() for f in frames} for frames in sets]
    assert all(runs)
    for k in range(3):
        for other in range(k):
            assert not runs[k] & runs[other]
            assert not positions[k] & positions[other]


def test_equation_of_state_and_pressure_agree_on_the_bulk_modulus(made):
    provenance = json.loads((made / "out" / "PROVENANCE.json").read_text())
    checks = provenance["checks"]
    # EMT platinum was fitted to the measured 3.92 Å; the moduli are two fits of one curve.
    assert checks["lattice_constant"] == pytest.approx(3.92, abs=0.01)
    assert checks["bulk_modulus_pressure_GPa"] == pytest.approx(
        checks["bulk_modulus_GPa"], rel=0.01
    )


def test_committed_slabs_do_not_feel_their_images():
    # Wider than the 6 Å of CHGNet's graph, also where atoms have moved into the vacuum.
    frames = read_fast(COMMITTED / "ptco_chgnet_train.extxyz.gz")
    slabs = [f for f in frames if f.info["config_type"].startswith(("slab_", "co_"))]
    assert len(slabs) > 500
    for frame in slabs:
        heights = np.sort(frame.get_scaled_positions()[:, 2])
        gaps = np.diff(np.append(heights, heights[0] + 1.0))
        assert gaps.max() * frame.cell.lengths()[2] > 6.0
