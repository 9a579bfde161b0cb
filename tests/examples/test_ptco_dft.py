"""The configuration for a DFT set of one's own, on a real one where it is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from duetto.cotrain.config import load_train_config
from duetto.cotrain.expansion import data_section
from duetto.cotrain.look import look_at

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "ptco_dft" / "cotrain.yaml"
DATA = ROOT.parent / "shared" / "data" / "ptco_dft"


def test_it_loads_and_names_what_is_not_here() -> None:
    config = load_train_config(CONFIG)
    assert config.species == ["Pt", "C", "O"]
    assert not config.data.labelled[0].exists()  # a set of the user's
    assert config.hf.cutoff > config.lf.cutoff


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the DFT set in ../shared/data/ptco_dft")
def test_it_fits_a_real_set() -> None:
    files = {"labelled": "ptco_val.extxyz", "test": "ptco_val.extxyz"}
    changes = [f"data.{key}={DATA.resolve() / name}" for key, name in files.items()]
    changes.append("data.validation=0.2")  # of the smaller file, for the sake of time
    counts = look_at(data_section(load_train_config(CONFIG, changes)))
    # A fifth of each kind is held out: 16 of 81, 7 of 35, one of 7 and one of 3.
    assert [(found.name, found.labelled) for found in counts] == [
        ("training", 101),
        ("validation", 25),
        ("test", 126),
    ]
    assert counts[0].fits == {"hf": 101, "lf": 2}
    assert counts[0].unlabelled == 200
