"""What the page on the ASE calculator shows is what happens."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import duetto
from duetto.frontends.ase import DuettoCalculator

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "ase.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names():
    """What the page's Python defines, run from the repository's root, two steps an optimiser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        defined: dict = {"STEPS": 2}
        for source in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
            exec(compile(source, "docs/ase.md", "exec"), defined)
    return defined


def test_its_table_has_every_argument() -> None:
    told = {
        word
        for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }
    takes = set(inspect.signature(DuettoCalculator.__init__).parameters)
    assert takes - told == {"self", "pair", "label", "atoms", "directory", "unknown"}
    assert told <= takes


def test_equal_sites_have_equal_energies(names) -> None:
    # Sums of 66 energies of some 6 eV, each good to 1e-7 of itself in float32.
    assert names["ends"][1] - names["ends"][0] == pytest.approx(0.0, abs=66 * 6 * 1e-7)
    np.testing.assert_array_equal(
        names["images"][0].calc.partition.weights, names["images"][-1].calc.partition.weights
    )


def test_the_numbers_of_the_adsorption_energies(names) -> None:
    said = re.search(r"weights as beside the molecule \| −([\d.]+)", PAGE).group(1)
    energy = names["energy"]
    found = energy["covered"] - energy["bare"] - energy["gas"]
    # The table has three decimals; float32 leaves 1e-7 of the 400 eV of a slab.
    assert found == pytest.approx(-float(said), abs=1e-3)


def test_the_vacancy_is_that_of_full_high_fidelity(names) -> None:
    total = {}
    for name in ("perfect", "vacancy"):
        atoms = names[name].copy()
        atoms.calc = DuettoCalculator(names["pair"], self_check=False)
        total[name] = atoms.get_potential_energy()
    full = total["vacancy"] - total["perfect"]
    assert names["total"]["vacancy"] - names["total"]["perfect"] == pytest.approx(full, abs=1e-3)


def test_the_message_on_the_page_is_the_guard_s(names) -> None:
    shared = DuettoCalculator(names["pair"], names["regions"])
    shared.get_potential_energy(names["atoms"])
    with pytest.raises(duetto.RunStopped) as stopped:
        shared.get_potential_energy(names["moved"])
    flowing = " ".join(PAGE.split())
    assert str(stopped.value).partition(" (and ")[0] in flowing


def test_the_optional_species_leaves_the_reference_to_lf(names) -> None:
    assert names["lenient"].weights(names["slab"]).sum() == 0
    with pytest.raises(duetto.InputError, match="optional: true"):
        names["regions"].weights(names["slab"])


def test_the_equation_of_state_is_that_of_platinum(names) -> None:
    from ase.units import GPa

    # The pair's own labels: 3.97 Å and some 230 GPa; five points of one curve.
    assert (4 * names["volume"] / 32) ** (1 / 3) == pytest.approx(3.97, abs=0.05)
    assert 150 < names["bulk_modulus"] / GPa < 350
