"""The region that is suggested: as small as the words allow, and outside it the experts agree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule

from duetto.errors import InputError
from duetto.measure.suggest import suggest


class Apart:
    """Experts whose energies and forces differ on chosen atoms."""

    def __init__(self, energy: Any, force: Any) -> None:
        self.energy, self.force = torch.as_tensor(energy), torch.as_tensor(force)

    def expert_energies(self, positions: Any, cell: Any) -> Any:
        return self.energy, torch.zeros_like(self.energy)

    def expert_forces(self, positions: Any, cell: Any, centres: Any) -> Any:
        assert len(centres) == len(positions)
        forces = torch.zeros_like(positions)
        forces[:, 1] = self.force
        return forces, torch.zeros_like(forces)


def slab() -> Atoms:
    atoms = fcc111("Pt", (4, 4, 5), a=3.97, vacuum=7.0)
    atoms.pbc = (True, True, False)
    add_adsorbate(atoms, molecule("CO"), 1.85, "ontop", mol_index=1)
    return atoms


def asked(atoms: Atoms, apart: Any, tolerance: float = 0.1, roles: Any = ("hf", "lf")) -> Any:
    energy = np.where(apart, 0.3, 0.02)
    force = np.where(apart, 0.05, 0.04)
    pair = SimpleNamespace(experts=dict.fromkeys(roles))
    start = SimpleNamespace(
        atoms=atoms,
        model=SimpleNamespace(pair=pair, device="cpu"),
        potential=lambda _: Apart(energy, force),
    )
    return suggest(start, tolerance)


def test_a_molecule_and_what_is_around_it() -> None:
    atoms = slab()
    seeds = np.flatnonzero(atoms.numbers != 78)
    distance = atoms.get_all_distances(mic=True)[:, seeds].min(axis=1)
    found = asked(atoms, distance < 4.9)
    assert found.complex == {"within": {"distance": 4.9, "of": {"species": ["C", "O"]}}} or (
        found.complex["within"]["of"]["species"] == ["C"]
    )
    assert found.n_complex == found.n_disagreeing == int((distance < 4.9).sum())
    assert (found.energy_outside_eV, found.energy_largest_eV) == (0.02, 0.3)
    assert found.force_outside_eV_per_angstrom == pytest.approx(0.04, abs=1e-15)


def test_surfaces_species_none_all_and_what_no_words_fit() -> None:
    atoms = slab()
    z = atoms.positions[:, 2].round(1)
    layers = np.unique(z)
    assert asked(atoms, z == layers[0]).complex == {"layers": {"axis": "z", "bottom": 1}}
    both = asked(atoms, (z == layers[0]) | (z >= layers[4])).complex
    ends = [{"axis": "z", "top": 3}, {"axis": "z", "bottom": 1}]
    assert both == {"any": [{"layers": end} for end in ends]}
    assert asked(atoms, atoms.numbers == 8).complex == {"species": ["O"]}
    assert asked(atoms, atoms.numbers == 0).complex == "none"
    assert asked(atoms, atoms.numbers > 0).complex == "all"


@pytest.mark.parametrize("shift", [0.0, 7.3])
def test_a_defect_in_a_crystal_is_what_is_around_it(shift: float) -> None:
    """Not the layers up to it, and no list; also where it lies across a face of the cell."""
    atoms = bulk("Pt", "fcc", a=3.97, cubic=True).repeat(4)
    atoms.positions += shift
    atoms.wrap()
    one = atoms.get_distances(130, range(len(atoms)), mic=True) < 2.9
    found = asked(atoms, one)
    assert found.complex == {"within": {"distance": 2.9, "of": {"indices": [130]}}}
    assert found.n_complex == found.n_disagreeing == 13
    # Around no atom: the octahedron about an empty site.
    hole = atoms.positions[130] + [3.97 / 2, 0.0, 0.0]
    probe = atoms + Atoms("Pt", [hole])
    hollow = probe.get_distances(256, range(256), mic=True) < 2.1
    found = asked(atoms, hollow)
    assert set(found.complex) == {"sphere"}
    assert found.n_complex == found.n_disagreeing == 6


def test_one_expert_alone_has_nobody_to_agree_with() -> None:
    with pytest.raises(InputError, match="--suggest: the pair lacks the expert lf"):
        asked(slab(), np.zeros(82, dtype=bool), roles=("hf",))
