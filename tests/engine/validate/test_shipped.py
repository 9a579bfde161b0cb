"""What docs/validation.md says of the shipped pair and its twin, measured anew in short."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from duetto.cli.main import main

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "validation.md"
SHORT = (
    "surface=null",
    "seam.temperatures_K=[0]",
    "seam.blends_A=[0]",
    "dynamics={warm_up_steps: 20, steps: 50, snapshots: 2}",
)
ROWS = {
    "lattice constant, Å": "lattice_constant_angstrom",
    "bulk modulus, GPa": "bulk_modulus_gpa",
    "C11, GPa": "c11_gpa",
    "C12, GPa": "c12_gpa",
    "C44, GPa": "c44_gpa",
    "vacancy formation, eV": "vacancy_formation_ev",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("shipped")
    shipped = str(ROOT / "examples" / "ptco" / "validate.yaml")
    assert main(["validate", shipped, *SHORT, f"output.dir={folder}"]) == 0
    found: dict[str, Any] = json.loads((folder / "validate.json").read_text())
    return found


def differences(found: dict[str, Any], key: str) -> float:
    """|LF − HF| over HF."""
    return abs(found[key]["lf"] / found[key]["hf"] - 1)


def test_experts_agree_on_the_bulk_and_the_twins_do_not(measured: dict[str, Any]) -> None:
    """The limits that make a seam harmless: 0.1 % in length, 2 % in B, 5 % in C, 50 MPa."""
    twin = measured["independent"]
    assert differences(measured, "lattice_constant_angstrom") < 1e-3
    assert differences(measured, "bulk_modulus_gpa") < 0.02
    for key in ("c11_gpa", "c12_gpa", "c44_gpa"):
        assert differences(measured, key) < 0.05, key
    assert measured["interface_stress_mpa"] < 50
    assert twin["interface_stress_mpa"] > 3 * measured["interface_stress_mpa"]
    assert differences(twin, "c44_gpa") > 0.1
    assert differences(twin, "vacancy_formation_ev") > 3 * differences(
        measured, "vacancy_formation_ev"
    )
    assert measured["force_rmse_mev_per_angstrom"]["complex"] < 10


@pytest.mark.parametrize("pair", ["ptco.duetto", "ptco_independent.duetto"])
def test_the_page_shows_what_is_measured(pair: str, measured: dict[str, Any]) -> None:
    """To one in the last digit shown: other processors round otherwise."""
    found = measured if pair == "ptco.duetto" else measured["independent"]
    table = PAGE.read_text().split(f"(`{pair}`, seed 1):", 1)[1].split("\n\n")[1]
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in table.splitlines()}
    for name, key in ROWS.items():
        shown = dict(zip(("hf", "lf", "", "mixture"), rows[name], strict=False))
        for who in ("hf", "lf", "mixture"):
            text = shown[who].strip()
            digits = len(re.sub(r"^-?\d*\.?", "", text))
            assert found[key][who] == pytest.approx(float(text), abs=1.01 * 10**-digits), name
