"""The example of nickel and hydrogen, in a short form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from duetto import DuettoCalculator, ExpertPair, Regions
from duetto.cotrain.config import load_train_config
from duetto.cotrain.expansion import data_section
from duetto.cotrain.look import look_at

EXAMPLE = Path(__file__).parents[2] / "examples" / "nih"


def test_its_configuration_fits_its_files() -> None:
    counts = look_at(data_section(load_train_config(EXAMPLE / "cotrain.yaml")))
    assert [(found.labelled, found.fits["lf"]) for found in counts] == [(216, 54), (24, 6)]


def test_the_mixture_follows_full_high_fidelity_along_the_path() -> None:
    specification = importlib.util.spec_from_file_location("neb", EXAMPLE / "neb.py")
    assert specification is not None
    assert specification.loader is not None
    neb = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(neb)
    pair = ExpertPair.load(EXAMPLE / "nih.duetto")
    path = neb.interpolated(*neb.ends(4), 5)
    partition = Regions.from_dict(neb.REGIONS).partition(path)
    assert 0 < partition.weights.sum() < len(path[0])
    profiles = []
    for how in ({"partition": partition}, {}):
        calculator = DuettoCalculator(pair, dtype="float64", **how)
        energies = np.array([calculator.get_potential_energy(atoms) for atoms in path])
        profiles.append(1e3 * (energies - energies[0]))
    # What the example promises of a barrier, meV.
    assert np.abs(profiles[0] - profiles[1]).max() < 5.0
    assert np.ptp(profiles[1]) > 100.0
