"""A molecule on a surface, by the shipped pair on a cell as small as it gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from duetto.cli.main import main
from duetto.validate.case import Case
from duetto.validate.config import load_validation
from duetto.validate.surface import lattice_of, on_site
from duetto.validate.validation import case_of

SHIPPED = Path(__file__).parents[3] / "examples" / "ptco" / "validate.yaml"
SMALL = (
    "surface={repeat: [2, 2, 6], sites: {fcc: 1.35, hcp: 1.35}, images: 3}",
    "independent=null",
    "vacancy_repeat=[1, 1, 2]",
    "seam={repeat: [1, 1, 8], temperatures_K: [0], radius_A: 2}",
)


@pytest.fixture(scope="module")
def case():
    config = load_validation(SHIPPED, SMALL)
    return case_of(config, config.pair)


def test_sites_are_above_the_slab_and_the_molecule_points_up(case: Case):
    for site in ("fcc", "hcp"):
        atoms = on_site(case, case.config.surface, site)
        assert str(atoms.symbols) == "Pt24OC"
        oxygen, carbon = atoms.positions[-2:]
        top = atoms.positions[:-2, 2].max()
        assert carbon[2] - top == pytest.approx(1.35)
        assert oxygen[2] > carbon[2] + 1.0
        np.testing.assert_allclose(oxygen[:2], carbon[:2], atol=1e-9)


def test_all_complex_is_full_hf(monkeypatch: pytest.MonkeyPatch):
    """With every atom complex the mixture is HF: same sites, same path, to rounding."""
    from duetto.validate import surface

    # A path this coarse comes to rest, but not to the forces that are wanted: it swings.
    monkeypatch.setattr(surface, "MOST_FURTHER_STEPS", 20)
    # Neither is what a user may ask for: the comparison would be of HF with itself.
    monkeypatch.setattr(surface, "require_both", lambda *_: None)
    words = (*SMALL, "surface.regions={complex: {species: [Pt, C, O]}}")
    config = load_validation(SHIPPED, words)
    case = case_of(config, config.pair)
    found = surface.measure(case)
    for site, row in found["adsorption_energy_ev"].items():
        assert -3.0 < row["hf"] < -0.5, site
        assert abs(row["difference_mev"]) < 1e-6
    lengths = found["adsorption_length_angstrom"]["fcc"]["hf"]
    assert 1.8 < lengths["Pt-C"] < 2.3
    assert 1.1 < lengths["O-C"] < 1.3
    barrier = found["diffusion_barrier_ev"]
    assert abs(barrier["difference_mev"]) < 1e-6
    assert barrier["hf"] == pytest.approx(max(barrier["images"]["hf"]))
    for who in ("hf", "mixture"):
        # Below 0.02 eV/Å on each of 26 atoms, with 1 eV/Å² between images so far apart: 5 meV
        assert 0 < barrier["resolution_mev"][who] < 5.0


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("surface.sites.atop=1.8", "no site atop"),
        ("surface.molecule=COX", "no molecule COX"),
        ("surface.binding=N", "CO has no N"),
        ("surface.path=[fcc, top]", "top is not among its sites"),
        ("surface.path=[fcc, fcc]", "path: from fcc to itself; two sites, or null: no barrier"),
        ("surface.facet=hcp", "surface.facet"),
        ("surface.facet=bcc110", "bcc110 is no surface of the crystal, fcc:Pt:3.974, which is fcc"),
        ("crystal=bcc:Pt:3.15", "which is bcc; allowed: bcc100, bcc110, bcc111"),
        ("crystal=diamond:Pt:5", "which is neither fcc nor bcc; allowed: surface=null"),
        ("surface.regions={complex: {species: [Au]}}", "surface.regions.complex.species: no Au in"),
        ("surface.regions={complex: {species: [0]}}", "surface.regions.complex.species[0]: got 0"),
        ("surface.regions={complex: all}", "surface.regions: no simple atom (w = 0) among the 26"),
        ("surface.regions={complex: none}", "surface.regions: no complex atom (w = 1) among"),
        (
            "surface.regions={follow: {seeds: {species: [C]}, core: 5, blend: 1}}",
            "surface.regions.follow: a slab at rest has no moving regions",
        ),
        ("surface.molecule=CN", "N is unknown"),
    ],
)
def test_what_cannot_be_placed(word, said, capsys, tmp_path):
    words = [*SMALL, word, f"output.dir={tmp_path}"]
    assert main(["validate", str(SHIPPED), *words]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_lattice_of_a_cell_is_seen_wherever_its_origin_lies():
    rng = np.random.default_rng(7)
    for name in ("fcc", "bcc"):
        cell = bulk("Pt", name, a=4.0, cubic=True)
        cell.positions += (1.3, 2.1, 3.7)
        cell.rattle(1e-3, rng=rng)
        assert lattice_of(cell) == name
        assert lattice_of(cell * (2, 1, 1)) is None
    assert lattice_of(bulk("Si", "diamond", a=5.4, cubic=True)) is None
