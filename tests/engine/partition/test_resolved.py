"""A partition as an object: of one structure or several, refused for other atoms."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule

from duetto import InputError, Partition, Regions

AROUND_CO = {"complex": {"within": {"distance": 5.0, "of": {"species": ["C", "O"]}}}}


@pytest.fixture
def ends() -> tuple[Atoms, Atoms]:
    """CO on two sites of one slab, 8.4 Å apart."""
    first = fcc111("Pt", (6, 6, 3), a=3.97, vacuum=8.0)
    add_adsorbate(first, molecule("CO"), 1.85, "ontop", mol_index=1)
    first.pbc = [True, True, False]
    last = first.copy()
    last.positions[-2:, 0] += 8.4
    return first, last


@pytest.mark.parametrize("blend", [{}, {"blend": {"width": 3.0}}])
def test_of_several_structures_each_atom_has_its_largest_weight(ends, blend) -> None:
    regions = Regions.from_dict(AROUND_CO | blend)
    apart = [regions.weights(atoms) for atoms in ends]
    assert (apart[0] != apart[1]).any()
    both = regions.weights(ends)
    np.testing.assert_array_equal(both, np.maximum(*apart))
    np.testing.assert_array_equal(both, regions.weights(reversed(ends)))
    np.testing.assert_array_equal(both, regions.partition(iter(ends)).weights)
    np.testing.assert_array_equal(regions.weights(ends[0]), regions.weights([ends[0]]))


def test_it_keeps_what_it_was_made_from(ends) -> None:
    partition = Regions.from_dict(AROUND_CO).partition(ends)
    before = ends[1].positions.copy()
    ends[1].positions += 1.0
    np.testing.assert_array_equal(partition.structures[1].positions, before)
    assert partition.species == tuple(ends[0].symbols)
    with pytest.raises(ValueError, match="read-only"):
        partition.weights[0] = 0.5
    for twin in (copy.deepcopy(partition), pickle.loads(pickle.dumps(partition))):
        np.testing.assert_array_equal(twin.weights, partition.weights)
        assert twin.regions == partition.regions


def changed(atoms: Atoms, what: str) -> Atoms:
    other = atoms.copy()
    if what == "atom":
        del other[3]
    elif what == "species":
        other.symbols[4] = "C"
    elif what == "order":
        return other[np.roll(np.arange(len(other)), 1)]
    elif what == "pbc":
        other.pbc = True
    return other


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("atom", "structure 1: 109 atoms, and structure 0 has 110"),
        ("species", "structure 1: atom 4 is C, and Pt in structure 0"),
        ("order", "structure 1: atom 0 is C, and Pt in structure 0"),
        ("pbc", "structure 1: periodicity [True, True, True], and structure 0 has"),
    ],
)
def test_structures_of_other_atoms_are_refused(ends, what, message) -> None:
    with pytest.raises(InputError) as refused:
        Regions.from_dict(AROUND_CO).weights([ends[0], changed(ends[0], what)])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("weights", "structures", "message"),
    [
        ([0.0, 1.5], Atoms("PtC"), "weight 1.5 of atom 1 (C); allowed: 0 to 1"),
        ([0.0, np.nan], Atoms("PtC"), "weight nan of atom 1 (C)"),
        ([0.0], Atoms("PtC"), "weights of shape (1,) for 2 atoms"),
        ([], [], "no structure is given"),
        ([1.0], ["slab.xyz"], "got str; allowed: ase.Atoms"),
        ([1.0], 3, "got int; allowed: ase.Atoms"),
    ],
)
def test_numbers_that_are_no_partition_are_refused(weights, structures, message) -> None:
    with pytest.raises(InputError) as refused:
        Partition(np.array(weights), structures)
    assert message in str(refused.value)


def test_an_optional_species_may_be_missing(ends) -> None:
    slab = ends[0][:-2]
    optional = {"species": {"symbols": ["C", "O"], "optional": True}}
    data = {"complex": {"within": {"distance": 5.0, "of": optional}}, "blend": {"width": 2.0}}
    regions = Regions.from_dict(data)
    assert Regions.from_dict(regions.to_dict()) == regions
    assert regions.weights(slab).sum() == 0.0
    strict = Regions.from_dict(AROUND_CO | {"blend": {"width": 2.0}})
    assert strict != regions
    np.testing.assert_array_equal(regions.weights(ends[0]), strict.weights(ends[0]))
    with pytest.raises(InputError, match="no C in the structure, which has Pt; if some"):
        strict.weights(slab)
