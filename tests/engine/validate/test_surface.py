"""A molecule on a surface, by the shipped pair on a cell as small as it gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duetto.cli.main import main
from duetto.validate.case import Case
from duetto.validate.config import load_validation
from duetto.validate.surface import on_site
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
    config = load_validation(SHIPPED, (*SMALL, "regions.complex={species: [Pt, C, O]}"))
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
        ("surface.facet=hcp", "surface.facet"),
        ("surface.molecule=CN", "N is unknown"),
    ],
)
def test_what_cannot_be_placed(word, said, capsys, tmp_path):
    words = [*SMALL, word, f"output.dir={tmp_path}"]
    assert main(["validate", str(SHIPPED), *words]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
