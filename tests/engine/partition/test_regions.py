"""Regions: each term against an independent answer, each error against its key path."""

import itertools
import math
from fractions import Fraction

import ase.io
import numpy as np
import pytest
import vesin
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.geometry import complete_cell, get_distances
from hypothesis import given, settings
from hypothesis import strategies as st

from duetto.atoms.periodic import nearest, wrap
from duetto.errors import InputError
from duetto.partition.regions import Regions, count_regions
from duetto.partition.regions.geometric import TOLERANCE

# Coordinates of up to 100 Å, a few operations each: float64 leaves about 1e-14 Å times ten.
ROUNDING = 1e-12

PBC = list(itertools.product([True, False], repeat=3))


def select(region, atoms, **kwargs):
    weights = Regions.from_dict({"complex": region}, **kwargs).weights(atoms)
    assert weights.shape == (len(atoms),)
    assert weights.dtype == np.float64
    assert np.isin(weights, (0.0, 1.0)).all()
    return np.flatnonzero(weights)


@pytest.fixture
def surface():
    """Four Pt(111) layers, periodic in the plane, with CO upright on top; z from 8 Å."""
    atoms = fcc111("Pt", (3, 3, 4), a=3.92, vacuum=8.0)
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1)
    atoms.info.clear()
    atoms.pbc = [True, True, False]
    return atoms


# --- distances ------------------------------------------------------------------------------


def image_sum(queries, points, cell, pbc, limit):
    """Every image that can be in reach, one by one: |s_k| <= |b_k| (limit + separation)."""
    lattice = complete_cell(np.where(np.array(pbc)[:, None], cell, 0.0))
    separation = np.linalg.norm(queries[:, None] - points[None], axis=-1).max()
    most = np.ceil(np.linalg.norm(np.linalg.inv(lattice), axis=0) * (limit + separation))
    spans = [range(-int(m), int(m) + 1) if p else [0] for m, p in zip(most, pbc, strict=True)]
    best = np.full(len(queries), np.inf)
    for shift in itertools.product(*spans):
        image = points + np.array(shift) @ cell
        away = np.linalg.norm(queries[:, None] - image[None], axis=-1).min(axis=1)
        best = np.minimum(best, away)
    return np.where(best < limit, best, np.inf)


CELLS = {
    "cubic": np.diag([4.0, 4.0, 4.0]),
    "small": np.diag([2.5, 1.1, 3.0]),
    "flat": np.diag([9.0, 8.0, 0.7]),
    "hexagonal": np.array([[2.77, 0, 0], [-1.385, 2.4, 0], [0, 0, 6.0]]),
    "sheared": np.array([[3.0, 0, 0], [7.9, 2.5, 0], [-5.1, 4.2, 3.3]]),
    "left-handed": np.array([[0, 0, 3.1], [0, 4.0, 1.0], [2.2, 0.3, 0]]),
}


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_nearest_is_the_minimum_over_all_images(cell, pbc):
    rng = np.random.default_rng(7)
    queries, points = rng.normal(scale=5, size=(12, 3)), rng.normal(scale=5, size=(3, 3))
    found = nearest(queries, points, cell, np.array(pbc), 6.5)
    expected = image_sum(queries, points, cell, pbc, 6.5)
    np.testing.assert_allclose(found.distance, expected, rtol=0, atol=ROUNDING)
    assert ((found.point >= 0) == np.isfinite(expected)).all()


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_nearest_agrees_with_ase(cell, pbc):
    rng = np.random.default_rng(11)
    queries, points = rng.normal(scale=4, size=(20, 3)), rng.normal(scale=4, size=(4, 3))
    # ASE misses the nearest image where a vector that is not periodic is oblique: give it none.
    lattice = np.where(np.array(pbc)[:, None], cell, 0.0)
    _, table = get_distances(queries, points, cell=lattice, pbc=pbc)
    found = nearest(queries, points, cell, np.array(pbc), 1e6)
    np.testing.assert_allclose(found.distance, table.min(axis=1), rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(found.point, table.argmin(axis=1))


@pytest.mark.parametrize("pbc", PBC)
def test_nearest_needs_no_cell_vector_where_not_periodic(pbc):
    rng = np.random.default_rng(3)
    cell = CELLS["sheared"]
    positions = rng.normal(scale=4, size=(9, 3))
    bare = np.where(np.array(pbc)[:, None], cell, 0.0)
    given_cell = nearest(positions, positions[:2], cell, np.array(pbc), 4.0)
    without = nearest(positions, positions[:2], bare, np.array(pbc), 4.0)
    np.testing.assert_array_equal(given_cell.distance, without.distance)


def test_nearest_skips_the_atom_itself_but_not_its_images():
    cell, pbc = np.diag([3.0, 9.0, 9.0]), np.ones(3, dtype=bool)
    positions = np.array([[0.1, 0.2, 0.3], [0.1, 4.0, 0.3]])
    found = nearest(positions, positions, cell, pbc, 5.0, skip_self=np.arange(2))
    np.testing.assert_allclose(found.distance, [3.0, 3.0], atol=ROUNDING)
    far = nearest(positions, positions, cell, pbc, 2.9, skip_self=np.arange(2))
    assert np.isinf(far.distance).all()


def test_nearest_without_queries_or_points():
    cell, pbc, one = np.eye(3), np.ones(3, dtype=bool), np.zeros((1, 3))
    assert len(nearest(one[:0], one, cell, pbc, 1.0).distance) == 0
    assert np.isinf(nearest(one, one[:0], cell, pbc, 1.0).distance).all()


def test_wrapped_positions_are_images_in_the_cell():
    rng = np.random.default_rng(5)
    cell, pbc = CELLS["sheared"], np.ones(3, dtype=bool)
    positions = rng.normal(scale=30, size=(50, 3))
    inside = wrap(positions, cell, pbc)
    fraction = inside @ np.linalg.inv(cell)
    assert fraction.min() >= -1e-6
    assert fraction.max() < 1
    shift = (positions - inside) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shift, np.round(shift), atol=ROUNDING)


# --- within ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("distance", [1.3, 4.7])
def test_within_agrees_with_a_neighbor_list(cell, pbc, distance):
    rng = np.random.default_rng(13)
    scattered = rng.random((14, 3)) @ cell + rng.normal(scale=2, size=(14, 3))
    atoms = Atoms("C3Pt11", positions=scattered, cell=cell, pbc=pbc)
    first, second = vesin.NeighborList(cutoff=distance, full_list=True).compute(
        atoms.positions, np.where(atoms.pbc[:, None], cell, 0.0), atoms.pbc.tolist(), "ij"
    )
    expected = set(first[second < 3].tolist()) | {0, 1, 2}
    region = {"within": {"distance": distance, "of": {"species": "C"}}}
    assert set(select(region, atoms).tolist()) == expected


def test_within_reaches_over_many_small_cells():
    atoms = Atoms("HHe", positions=[[0, 0, 0], [0, 0, 1.0]], cell=[3.0, 3.0, 3.0], pbc=True)
    # The nearest image of He is 1 Å away; a distance many cells long changes nothing.
    for distance, expected in [(0.9, [0]), (1.1, [0, 1]), (1e6, [0, 1])]:
        region = {"within": {"distance": distance, "of": {"species": "H"}}}
        assert select(region, atoms).tolist() == expected


def test_within_includes_the_boundary_whatever_the_last_digit():
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    shell = 3.61 / math.sqrt(2)
    region = {"within": {"distance": shell, "of": {"indices": [0]}}}
    assert len(select(region, atoms)) == 13
    atoms.positions += 1e-8 * np.random.default_rng(0).normal(size=(len(atoms), 3))
    assert len(select(region, atoms)) == 13


def test_within_a_large_distance_of_many_atoms_stays_cheap():
    # A list of the pairs within 20 Å would have 2e8 entries.
    atoms = bulk("Pt", a=3.92, cubic=True) * (30, 30, 30)
    assert len(atoms) == 108_000
    region = {"within": {"distance": 20.0, "of": {"indices": [0]}}}
    chosen = select(region, atoms)
    expected = (atoms.get_distances(0, np.arange(len(atoms)), mic=True) <= 20.0 + TOLERANCE).sum()
    assert len(chosen) == expected


# --- the other terms ------------------------------------------------------------------------


def test_words_and_combinations(surface):
    everything = np.arange(len(surface))
    adsorbate = [36, 37]
    assert select("all", surface).tolist() == everything.tolist()
    assert select("none", surface).tolist() == []
    assert select({"species": "C"}, surface).tolist() == [surface.symbols.search("C")[0]]
    assert select({"species": ["C", "O"]}, surface).tolist() == adsorbate
    assert select({"not": {"species": ["C", "O"]}}, surface).tolist() == list(range(36))
    top = {"slab": {"axis": "z", "min": surface.positions[27, 2] - 0.1}}
    assert select(top, surface).tolist() == list(range(27, 38))
    both = {"all_of": [top, {"species": "Pt"}, {"not": {"indices": [27]}}]}
    assert select(both, surface).tolist() == list(range(28, 36))
    either = {"any": [{"indices": [0]}, both, {"not": "all"}]}
    assert select(either, surface).tolist() == [0, *range(28, 36)]


def test_indices_by_list_and_range(surface):
    assert select({"indices": [5, 3, 5]}, surface).tolist() == [3, 5]
    assert select({"indices": np.array([0, 37])}, surface).tolist() == [0, 37]
    assert select({"indices": {"start": 30, "stop": 38}}, surface).tolist() == list(range(30, 38))


def test_slab_wraps_along_periodic_vectors_only():
    atoms = Atoms("H4", positions=[[0, 0, z] for z in (-1.0, 1.0, 9.5, 21.0)], cell=[5, 5, 10])
    upper = {"slab": {"axis": "z", "min": 8.0}}
    assert select(upper, atoms).tolist() == [2, 3]
    atoms.pbc = [False, False, True]
    # -1 is 9, and 21 is 1.
    assert select(upper, atoms).tolist() == [0, 2]
    assert select({"slab": {"axis": "z", "max": 2.0}}, atoms).tolist() == [1, 3]
    assert select({"slab": {"axis": "z", "min": 0.5, "max": 9.2}}, atoms).tolist() == [0, 1, 3]


def test_slab_and_box_are_the_same_for_every_image_of_an_atom():
    rng = np.random.default_rng(17)
    atoms = Atoms("H40", positions=rng.random((40, 3)) @ CELLS["sheared"], cell=CELLS["sheared"])
    atoms.pbc = True
    moved = atoms.copy()
    moved.positions += rng.integers(-3, 4, size=(40, 3)) @ CELLS["sheared"]
    slab = {"slab": {"axis": "y", "min": 1.0, "max": 3.0}}
    box = {"box": {"min": [0, None, 0.5], "max": [4, 5, None]}}
    for region in (slab, box):
        chosen = select(region, atoms)
        assert 0 < len(chosen) < 40
        np.testing.assert_array_equal(chosen, select(region, moved))


def test_an_atom_just_below_a_cell_face_stays_there():
    atoms = Atoms("H", positions=[[0, 0, -1e-9]], cell=[5, 5, 5], pbc=True)
    assert select({"slab": {"axis": "z", "max": 1.0}}, atoms).tolist() == [0]


def test_box_sides_may_be_open():
    atoms = Atoms("H3", positions=[[0, 0, 0], [5, 0, 0], [5, 5, 5]])
    assert select({"box": {"min": [-1, -1, -1], "max": [6, 6, 6]}}, atoms).tolist() == [0, 1, 2]
    half = {"box": {"min": [4, None, None], "max": [None, 1, None]}}
    assert select(half, atoms).tolist() == [1]


def test_sphere_reaches_over_periodic_boundaries():
    atoms = Atoms("H3", positions=[[0.5, 0, 0], [9.5, 0, 0], [5, 0, 9.5]], cell=[10, 10, 10])
    sphere = {"sphere": {"center": [0, 0, 0], "radius": 1.0}}
    assert select(sphere, atoms).tolist() == [0]
    atoms.pbc = True
    assert select(sphere, atoms).tolist() == [0, 1]
    elsewhere = {"sphere": {"center": [25, -10, -20.4], "radius": 1.0}}
    assert select(elsewhere, atoms).tolist() == [2]


def test_layers_counts_from_either_end(surface):
    platinum = {"species": "Pt"}
    for count in (1, 2, 4):
        top = {"layers": {"axis": "z", "top": count, "of": platinum}}
        bottom = {"layers": {"axis": "z", "bottom": count, "of": platinum}}
        assert select(top, surface).tolist() == list(range(36 - 9 * count, 36))
        assert select(bottom, surface).tolist() == list(range(9 * count))
    # Without `of` the adsorbate's atoms are the outermost layers.
    assert select({"layers": {"axis": "z", "top": 2}}, surface).tolist() == [36, 37]


def test_layers_survive_corrugation_and_wrapping(surface):
    # Two atoms fewer in the top layer: layers of different size.
    del surface[[34, 35, 36, 37]]
    surface.rattle(0.08, seed=1)
    region = {"layers": {"axis": "z", "top": 2}}
    surface.pbc = True
    for shift in np.linspace(0, surface.cell[2, 2], 9):
        moved = surface.copy()
        moved.positions[:, 2] += shift
        moved.wrap()
        assert select(region, moved).tolist() == list(range(18, 34)), shift


def test_layers_of_a_bulk_crystal_are_cut_at_the_cell():
    atoms = bulk("Pt", a=4.0, cubic=True) * (1, 1, 3)
    atoms.rattle(0.05, seed=2)
    atoms.positions[:, 2] += 0.6
    chosen = select({"layers": {"axis": "z", "top": 2}}, atoms)
    highest = np.argsort(atoms.positions[:, 2])[-4:]
    assert sorted(chosen) == sorted(highest)


# --- file -----------------------------------------------------------------------------------


def test_file_marks_by_truth_value_or_threshold(surface, tmp_path):
    marked = surface.copy()
    marked.set_array("active", marked.positions[:, 2] > 12)
    marked.set_array("group", np.arange(len(marked)) % 3)
    marked.set_array("name", np.where(marked.numbers == 78, "slab", "gas"))
    marked.set_array("height", marked.positions[:, 2])
    ase.io.write(tmp_path / "marks.extxyz", marked, format="extxyz")

    def chosen(**fields):
        return select({"file": {"path": "marks.extxyz", **fields}}, surface, folder=tmp_path)

    height = marked.positions[:, 2]
    np.testing.assert_array_equal(chosen(array="active"), np.flatnonzero(height > 12))
    np.testing.assert_array_equal(chosen(array="group", value=2), np.arange(38)[2::3])
    np.testing.assert_array_equal(chosen(array="name", value="gas"), [36, 37])
    np.testing.assert_array_equal(
        chosen(array="active", value=False), np.flatnonzero(~(height > 12))
    )
    np.testing.assert_array_equal(
        chosen(array="height", threshold=13.0), np.flatnonzero(height >= 13.0)
    )


def test_file_of_several_frames_needs_one_named(surface, tmp_path):
    frames = []
    for k in range(3):
        frame = surface.copy()
        frame.set_array("active", np.arange(len(frame)) == k)
        frames.append(frame)
    ase.io.write(tmp_path / "marks.extxyz", frames, format="extxyz")
    region = {"file": {"path": str(tmp_path / "marks.extxyz"), "array": "active"}}
    with pytest.raises(InputError, match=r"regions\.complex\.file\.frame.*several frames"):
        select(region, surface)
    for k in range(3):
        region["file"]["frame"] = k
        assert select(region, surface).tolist() == [k]
    region["file"]["frame"] = 3
    with pytest.raises(InputError, match=r"file\.frame: got 3; allowed: less than 3"):
        select(region, surface)


def test_file_of_other_atoms_is_refused(surface, tmp_path):
    path = tmp_path / "marks.extxyz"
    fields = {"path": str(path), "array": "active"}

    def refused(match, **more):
        with pytest.raises(InputError, match=match):
            select({"file": {**fields, **more}}, surface)

    refused("frame 0 of .*marks.extxyz cannot be read.*No such file")
    path.write_text("2\nProperties=species:S:1:pos:R:3\nPt 0 0 0\nPt 0 zero 1\n")
    refused("cannot be read as extended XYZ")
    path.write_bytes(b"\x93\x00NUMPY\xff")
    refused("cannot be read as extended XYZ")
    path.write_text("")
    refused(r"file\.(path|frame)")

    marked = surface.copy()
    marked.set_array("active", np.linspace(0, 2, len(marked)))
    ase.io.write(path, marked[:-1], format="extxyz")
    refused("has 37 atoms, the structure 38")
    ase.io.write(path, marked[::-1], format="extxyz")
    refused("atom 0 is . in .* but Pt in the structure")
    ase.io.write(path, marked, format="extxyz")
    refused("not one of true and false.*value or threshold")
    refused("has numbers: give a number", value="yes")
    refused(r'file\.array: got .actve.*one value per atom: .*active.*mean "active"', array="actve")
    refused(r"file\.array: got .positions.", array="positions")
    marked.arrays["active"][5] = np.nan
    ase.io.write(path, marked, format="extxyz")
    refused("active' of atom 5 .* is not a number", threshold=1.0)


# --- blend ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "halfway", "quarter"),
    # cos(π/4) = 1/√2; smoothstep 1 - 3x² + 2x³.
    [
        ("cosine", 0.5, (1 + math.sqrt(0.5)) / 2),
        ("linear", 0.5, 0.75),
        ("smoothstep", 0.5, 27 / 32),
    ],
)
def test_blend_profiles(profile, halfway, quarter):
    x = [0, 1.0, 2.0, 4.0, 5.0, -1.0]
    atoms = Atoms("CPt5", positions=[[value, 0, 0] for value in x])
    regions = Regions.from_dict(
        {"complex": {"species": "C"}, "blend": {"width": 4.0, "profile": profile}}
    )
    expected = [1, quarter, halfway, 0, 0, quarter]
    # One cosine of a number of order one.
    np.testing.assert_allclose(regions.weights(atoms), expected, rtol=0, atol=4e-16)
    assert count_regions(regions.weights(atoms)) == (1, 3, 2)


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_blend_follows_the_nearest_image(cell, pbc):
    rng = np.random.default_rng(19)
    atoms = Atoms("C2Pt12", positions=rng.normal(scale=4, size=(14, 3)), cell=cell, pbc=pbc)
    width = 3.5
    away = image_sum(atoms.positions, atoms.positions[:2], cell, pbc, width) / width
    expected = np.where(np.isfinite(away), 1 - np.minimum(away, 1), 0.0)
    expected[:2] = 1.0
    blend = {"width": width, "profile": "linear"}
    weights = Regions.from_dict({"complex": {"species": "C"}, "blend": blend}).weights(atoms)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=ROUNDING)


def test_blend_of_nothing_and_of_everything(surface):
    for word, weight in [("all", 1.0), ("none", 0.0)]:
        regions = Regions.from_dict({"complex": word, "blend": {"width": 3.0}})
        assert (regions.weights(surface) == weight).all()


def test_regions_may_be_empty_of_atoms():
    regions = Regions.from_dict({"complex": {"sphere": {"center": [0, 0, 0], "radius": 1}}})
    assert regions.weights(Atoms()).shape == (0,)
    assert count_regions(np.zeros(0)) == (0, 0, 0)


# --- round trip -----------------------------------------------------------------------------

EVERY_TERM = {
    "complex": {
        "any": [
            {"species": ["C", "O"]},
            {"within": {"distance": 5.0, "of": {"species": ["C", "O"]}}},
            {"slab": {"axis": "z", "min": 18.0}},
            {"all_of": [{"indices": [0, 4]}, {"not": {"indices": {"start": 2, "stop": 3}}}]},
            {"sphere": {"center": [1.0, 2.0, 3.0], "radius": 4.0}},
            {"box": {"min": [0.0, None, 1.0], "max": [5.0, 5.0, None]}},
            {"layers": {"axis": "x", "top": 2, "of": {"species": ["Pt"]}, "spacing": 0.7}},
            {"layers": {"axis": "z", "bottom": 1, "of": "all", "spacing": 0.5}},
            {"file": {"path": "m.extxyz", "array": "a", "frame": 1, "threshold": 0.5}},
            {"file": {"path": "m.extxyz", "array": "a", "value": "yes"}},
            "none",
        ]
    },
    "blend": {"width": 3.0, "profile": "smoothstep"},
}


def test_to_dict_gives_back_what_was_read():
    regions = Regions.from_dict(EVERY_TERM)
    assert regions.to_dict() == EVERY_TERM
    assert Regions.from_dict(regions.to_dict()) == regions


def test_short_forms_are_written_out_and_mean_the_same():
    short = Regions.from_dict({"complex": {"species": "C"}, "blend": {"width": 2}})
    assert short.to_dict() == {
        "complex": {"species": ["C"]},
        "blend": {"width": 2.0, "profile": "cosine"},
    }
    assert Regions.from_dict(short.to_dict()) == short
    assert Regions.from_dict({"complex": {"species": "C"}, "blend": None}).blend is None


def test_numbers_of_other_libraries_are_numbers():
    region = {"within": {"distance": Fraction(5, 2), "of": {"indices": np.arange(2)}}}
    assert Regions.from_dict({"complex": region}).to_dict() == {
        "complex": {"within": {"distance": 2.5, "of": {"indices": [0, 1]}}}
    }
    sphere = {"sphere": {"center": np.zeros(3, dtype=np.float32), "radius": np.int64(2)}}
    assert Regions.from_dict({"complex": sphere}).complex.radius == 2.0


# --- errors ---------------------------------------------------------------------------------

BAD = [
    ([], "regions: got []; allowed: a mapping with the keys complex, blend"),
    ({}, "regions.complex: missing"),
    ({"complx": "all"}, "regions: unknown key 'complx' (did you mean \"complex\"?)"),
    ({"complex": "everything"}, "regions.complex: got 'everything'; allowed: all, none, seeds, or"),
    ({"complex": None}, "regions.complex: got nothing (null)"),
    ({"complex": {}}, "regions.complex: got {}"),
    ({"complex": "species"}, 'did you mean "species"?'),
    ({"complex": {"withn": {}}}, "regions.complex: unknown term 'withn' (did you mean \"within\""),
    ({"complex": {"species": ["C"], "slab": {}}}, "regions.complex: got 2 terms (species, slab)"),
    ({"complex": {"species": "pt"}}, "regions.complex.species: got 'pt'; allowed: a chemical"),
    ({"complex": {"species": "pt"}}, 'did you mean "Pt"?'),
    ({"complex": {"species": ["C", False]}}, "regions.complex.species[1]: got false; allowed: a"),
    ({"complex": {"species": []}}, "regions.complex.species: got []"),
    ({"complex": {"species": {"C": 1}}}, "regions.complex.species: unknown key 'C'; allowed: symb"),
    ({"complex": {"species": {"symbols": "C", "optional": 1}}}, "species.optional: got 1; allowed"),
    ({"complex": {"species": {"symbols": {"symbols": "C"}}}}, "complex.species.symbols: got"),
    ({"complex": {"indices": [0, -1]}}, "regions.complex.indices[1]: got -1; allowed: a whole"),
    ({"complex": {"indices": [0, 1.0]}}, "regions.complex.indices[1]: got 1.0; allowed: a whole"),
    ({"complex": {"indices": [True]}}, "regions.complex.indices[0]: got true; allowed: a whole"),
    ({"complex": {"indices": 3}}, "regions.complex.indices: got 3; allowed: a list"),
    ({"complex": {"indices": {"start": 4, "stop": 4}}}, "regions.complex.indices.stop: got 4"),
    ({"complex": {"within": {"distance": 5}}}, "regions.complex.within.of: missing"),
    ({"complex": {"within": {"distence": 5}}}, 'mean "distance"?); allowed: distance, of'),
    ({"complex": {"any": []}}, "regions.complex.any: got []; allowed: a list of regions"),
    ({"complex": {"any": {"species": "C"}}}, "regions.complex.any: got {'species': 'C'}"),
    (
        {"complex": {"any": ["none", {"within": {"distance": -5, "of": "all"}}]}},
        "regions.complex.any[1].within.distance: got -5; allowed: a number Å of 0 < x <= 1e+06",
    ),
    (
        {"complex": {"within": {"distance": "5.0", "of": "all"}}},
        "regions.complex.within.distance: got '5.0'; allowed: a number Å of 0 < x <= 1e+06; "
        "this is text: leave the quotes out",
    ),
    (
        {"complex": {"not": {"all_of": [{"within": {"distance": 1, "of": {"spec": "C"}}}]}}},
        "regions.complex.not.all_of[0].within.of: unknown term 'spec' (did you mean \"species\"?)",
    ),
    ({"complex": {"within": {"distance": math.nan, "of": "all"}}}, "distance: got nan; allowed"),
    ({"complex": {"within": {"distance": 10**400, "of": "all"}}}, "distance: got 1000"),
    ({"complex": {"slab": {"axis": "w", "min": 1}}}, "slab.axis: got 'w'; allowed: x, y, z"),
    ({"complex": {"slab": {"axis": "z"}}}, "regions.complex.slab: neither min nor max is given"),
    ({"complex": {"slab": {"axis": "z", "min": 3, "max": 3}}}, "slab: min 3 is not below max 3"),
    ({"complex": {"slab": {"axis": "z", "min": None}}}, "slab.min: got nothing (null)"),
    ({"complex": {"sphere": {"center": [0, 0], "radius": 1}}}, "sphere.center: got [0, 0]"),
    ({"complex": {"sphere": {"center": [0, 0, "z"], "radius": 1}}}, "sphere.center[2]: got 'z'"),
    ({"complex": {"sphere": {"center": [0, 0, 0], "radius": 0}}}, "sphere.radius: got 0;"),
    ({"complex": {"box": {"min": [0, 0, 0], "max": [1, 1]}}}, "box.max: got [1, 1]; allowed: [x,"),
    (
        {"complex": {"box": {"min": [0, 2, 0], "max": [1, 1, 1]}}},
        "regions.complex.box: min 2 is not below max 1 along y",
    ),
    ({"complex": {"layers": {"axis": "z"}}}, "layers: got neither; allowed: exactly one of top"),
    ({"complex": {"layers": {"axis": "z", "top": 1, "bottom": 1}}}, "got top and bottom"),
    ({"complex": {"layers": {"axis": "z", "top": 0}}}, "layers.top: got 0; allowed: a whole"),
    ({"complex": {"layers": {"axis": "z", "n": 2}}}, "layers: unknown key 'n'; allowed: axis, top"),
    ({"complex": {"file": {"path": "a"}}}, "regions.complex.file.array: missing"),
    ({"complex": {"file": {"path": "", "array": "a"}}}, "file.path: got ''; allowed: text"),
    (
        {"complex": {"file": {"path": "a", "array": "a", "value": 1, "threshold": 1}}},
        "regions.complex.file: both threshold and value are given",
    ),
    ({"complex": {"file": {"path": "a", "array": "a", "value": [1]}}}, "file.value: got [1]"),
    ({"complex": "all", "blend": {}}, "regions.blend.width: missing"),
    ({"complex": "all", "blend": {"width": 0}}, "regions.blend.width: got 0; allowed: a number Å"),
    ({"complex": "all", "blend": 3.0}, "regions.blend: got 3.0; allowed: a mapping"),
    ({"complex": "all", "blend": "none"}, 'regions.blend: got "none"; for an abrupt'),
    (
        {"complex": "all", "blend": {"width": 3, "profile": "cosin"}},
        "regions.blend.profile: got 'cosin'; allowed: cosine, linear, smoothstep "
        '(did you mean "cosine"?)',
    ),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_words_are_refused_by_place(data, message):
    with pytest.raises(InputError) as caught:
        Regions.from_dict(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MISFITS = [
    (
        {"species": ["Pt", "N"]},
        "regions.complex.species: no N in the structure, which has C, O, Pt",
    ),
    ({"indices": [0, 38]}, "regions.complex.indices[1]: got 38; allowed: 0 to 37"),
    ({"indices": {"start": 30, "stop": 39}}, "regions.complex.indices.stop: got 39; allowed: at"),
    ({"layers": {"axis": "z", "top": 9}}, "regions.complex.layers.top: got 9; allowed: 1 to 6"),
    (
        {"any": ["none", {"layers": {"axis": "y", "top": 1, "of": "none"}}]},
        "regions.complex.any[1].layers.top: got 1; allowed: nothing, as `of` holds no atoms",
    ),
    (
        {"layers": {"axis": "x", "bottom": 1}},
        "regions.complex.layers.axis: several periodic cell vectors have a component along x",
    ),
]


@pytest.mark.parametrize(("region", "message"), MISFITS, ids=[str(r)[:40] for r, _ in MISFITS])
def test_words_that_do_not_fit_the_structure_are_refused_by_place(surface, region, message):
    with pytest.raises(InputError) as caught:
        select(region, surface)
    assert message in str(caught.value)


def test_the_key_of_the_whole_can_be_given():
    with pytest.raises(InputError, match=r"^stages\[2\]\.regions\.complex: missing"):
        Regions.from_dict({}, key="stages[2].regions")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[5, 0, 0], [0, 0, 0], [0, 0, 5]], "direction b is periodic but has no cell vector"),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 5]], "the cell is flat"),
        ([[5, 0, 0], [0, math.nan, 0], [0, 0, 5]], "the cell is not finite"),
        ([[5, 0, 0], [0, 5, 0], [5, 5, 1e-3]], "the cell is flat"),
    ],
)
def test_cells_without_distances_are_refused(cell, message):
    atoms = Atoms("HC", positions=[[0, 0, 0], [1, 1, 1]], cell=cell, pbc=True)
    for region in (
        {"within": {"distance": 2, "of": {"species": "C"}}},
        {"slab": {"axis": "z", "min": 1}},
    ):
        with pytest.raises(InputError, match=message):
            select(region, atoms)


def test_positions_that_are_not_finite_are_refused():
    atoms = Atoms("HC", positions=[[0, 0, 0], [1, math.inf, 1]])
    with pytest.raises(InputError, match=r"atom 1 \(C\) at .*: its position is not finite"):
        select({"slab": {"axis": "z", "min": 1}}, atoms)


def test_regions_that_hold_themselves_are_refused():
    endless = {}
    endless["not"] = endless
    with pytest.raises(InputError, match="nested more than 64 deep"):
        Regions.from_dict({"complex": endless})


def test_deep_nesting_works():
    region = {"species": "C"}
    for _ in range(60):
        region = {"not": region}
    assert (
        select(region, molecule("CO")).tolist() == select({"species": "C"}, molecule("CO")).tolist()
    )


# --- anything at all ------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["all", "none", "C", "Pt", "z", "1e3", "cosine", "min", "within"])
)
keys = st.sampled_from(
    ["any", "all_of", "not", "species", "within", "slab", "distance", "of", "min", "width", 3, None]
)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def paths(data, prefix=()):
    yield prefix
    if isinstance(data, (dict, list)):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from paths(data[key], (*prefix, key))


def mutated(data, path, change):
    """A copy of nested `data` with the entry at `path` given to `change` (None deletes it)."""
    if not path:
        return change(data)
    copy = data.copy()
    value = mutated(copy[path[0]], path[1:], change)
    if value is None and isinstance(copy, dict):
        del copy[path[0]]
    else:
        copy[path[0]] = value
    return copy


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_partition_works_or_is_an_input_error(data):
    mutant = EVERY_TERM
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(paths(mutant))))
        value = data.draw(junk)
        kind = data.draw(st.sampled_from(["replace", "add", "wrap"]))

        def change(old, value=value, kind=kind):
            if kind == "add" and isinstance(old, dict):
                return {**old, str(value)[:8]: value}
            return [old] if kind == "wrap" else value

        mutant = mutated(mutant, path, change)
    atoms = Atoms("COPt3", positions=np.arange(15.0).reshape(5, 3), cell=[4, 5, 6], pbc=True)
    message, weights = "", np.zeros(5)
    try:
        regions = Regions.from_dict(mutant)
        assert Regions.from_dict(regions.to_dict()) == regions
        weights = regions.weights(atoms)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 600
    assert ((weights >= 0) & (weights <= 1)).all()


numbers = st.floats(-20, 20)
leaves = st.one_of(
    st.sampled_from(["all", "none"]),
    st.lists(st.sampled_from(["C", "O", "Pt"]), min_size=1).map(lambda s: {"species": s}),
    st.lists(st.integers(0, 4), min_size=1).map(lambda i: {"indices": i}),
    st.tuples(st.sampled_from("xyz"), numbers).map(lambda s: {"slab": {"axis": s[0], "min": s[1]}}),
    st.tuples(st.lists(numbers, min_size=3, max_size=3), st.floats(0.1, 30)).map(
        lambda s: {"sphere": {"center": s[0], "radius": s[1]}}
    ),
)
regions_of_all_kinds = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda r: {"not": r}),
        st.lists(inner, min_size=1, max_size=3).map(lambda r: {"any": r}),
        st.lists(inner, min_size=1, max_size=3).map(lambda r: {"all_of": r}),
        st.tuples(st.floats(0.1, 12), inner).map(
            lambda w: {"within": {"distance": w[0], "of": w[1]}}
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(regions_of_all_kinds, st.integers(0, 2**32 - 1))
def test_the_partition_does_not_depend_on_the_periodic_image(region, seed):
    rng = np.random.default_rng(seed)
    cell = CELLS["sheared"]
    # Fractions away from the faces, where a coordinate belongs to either side.
    atoms = Atoms("COPt3", positions=rng.uniform(0.01, 0.99, (5, 3)) @ cell, cell=cell, pbc=True)
    moved = atoms.copy()
    moved.positions += rng.integers(-2, 3, size=(5, 3)) @ cell
    regions = Regions.from_dict({"complex": region, "blend": {"width": 2.0}})
    np.testing.assert_allclose(
        regions.weights(moved), regions.weights(atoms), rtol=0, atol=ROUNDING
    )
    # De Morgan: not any(a, b) is all_of(not a, not b).
    other = {"not": {"all_of": [{"not": region}, {"not": {"species": "C"}}]}}
    np.testing.assert_array_equal(
        select(other, atoms), select({"any": [region, {"species": "C"}]}, atoms)
    )
