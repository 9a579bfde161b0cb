"""What the page on regions shows is what Duetto reads."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from duetto.partition.guard import Guard
from duetto.partition.regions import Regions
from duetto.partition.regions.moving import QUANTITIES
from duetto.partition.regions.partition import PROFILES
from duetto.partition.regions.terms import TERMS
from duetto.partition.update import start_weights

PAGE = (Path(__file__).parents[3] / "docs" / "regions.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.fixture(scope="module")
def names():
    """What the Python on the page defines."""
    defined = {}
    for source in blocks("python"):
        exec(compile(source, "docs/regions.md", "exec"), defined)
    return defined


@pytest.mark.parametrize("source", blocks("yaml"))
def test_every_yaml_block_is_read_and_fits_the_structure_of_the_page(source, names, tmp_path):
    atoms = names["atoms"]
    marked = atoms.copy()
    marked.info.clear()
    marked.set_array("active", atoms.positions[:, 2] > 12)
    marked.set_array("site", np.where(atoms.numbers == 78, "terrace", "gas"))
    atoms.set_array("uncertainty", np.linspace(0, 0.1, len(atoms)))
    marked.set_array("uncertainty", np.linspace(0, 0.1, len(atoms)))
    ase.io.write(tmp_path / "marks.extxyz", marked, format="extxyz")

    config = yaml.safe_load(source)
    assert set(config) <= {"regions", "guard"}
    if "guard" in config:
        Guard.from_config(config["guard"])
    if "regions" in config:
        weights = start_weights(Regions.from_dict(config["regions"], folder=tmp_path), atoms)
        unknown = any(
            word in str(config) for word in ("disagreement", "extrapolation")
        )  # until the experts are asked
        if not unknown and not isinstance(config["regions"].get("complex"), str):
            assert 0 < (weights == 1).sum() < len(atoms)


def test_the_counts_on_the_page_are_those_of_its_code(names):
    said = re.search(r"# (RegionCounts\(.*\))", PAGE).group(1)
    assert said == str(names["count_regions"](names["weights"]))


def test_the_page_shows_every_term_and_profile():
    shown = "".join(blocks("yaml"))
    for term in TERMS:
        assert re.search(rf"\b{term}:", shown), term
        assert f"| `{term}` |" in PAGE
    for quantity in QUANTITIES:
        assert re.search(rf"\b{quantity}:", shown), quantity
        assert f"| `{quantity}` |" in PAGE
    for profile in PROFILES:
        assert f"`{profile}`" in PAGE


def test_the_message_on_the_page_is_the_guard_s():
    from tests.engine.partition.test_guard import keep, moved, row, step

    positions, potential = row()
    guard = keep(potential, "warn")
    step(guard, positions, potential)
    step(guard, moved(positions, 5.0), potential, 1200)
    flowing = " ".join(PAGE.split())
    assert guard.events[0].message in flowing
