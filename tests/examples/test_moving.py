"""The examples whose regions move: short pieces of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import fcc111

from duetto.run.run import run
from duetto.run.thermo import read_thermo

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ptco"


def short(name: str, out: Path, *overrides: str) -> Any:
    return run(EXAMPLE / name, overrides=[f"output.dir={out}", *overrides], say=lambda line: None)


def hopping() -> Any:
    specification = importlib.util.spec_from_file_location("hopping", ROOT / "scripts/hopping.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["hopping"] = module  # where its dataclass looks
    specification.loader.exec_module(module)
    return module


def test_a_hopping_molecule_takes_its_region_along(tmp_path: Path) -> None:
    summary = short("hop.yaml", tmp_path, "stages.0.steps=60", "output.trajectory_every=5")
    assert 20 < summary.n_complex + summary.n_blend < 40
    table = read_thermo(tmp_path / "thermo.csv")
    # Velocity Verlet's error at 1 fs with a bond that vibrates in 16 fs: (2π/16)²/24 of the bond's
    # some 0.3 eV at this temperature.
    assert np.ptp(table["conserved_eV"]) < 6e-3
    module = hopping()
    seen = module.visit(tmp_path, 0.02)
    assert len(seen.path) == 9
    assert (seen.n_hf >= 20).all()


def test_sites_of_the_surface_are_told_apart() -> None:
    atoms = fcc111("Pt", (4, 4, 3), a=3.97, vacuum=7.0)
    atoms.pbc = (True, True, False)
    top = np.flatnonzero(atoms.positions[:, 2] > atoms.positions[:, 2].max() - 0.1)
    a, b, c = atoms.positions[top[[0, 1, 4]]]
    module = hopping()
    for name, place in {"top": a, "bridge": (a + b) / 2, "hollow": (a + b + c) / 3}.items():
        there = atoms + Atoms("C", [place + np.array([0.1, -0.05, 1.5]) - atoms.cell.array[0]])
        assert module.SITES[module.site_of(there, len(atoms), top)] == name


def test_an_interstitial_is_found_and_followed(tmp_path: Path) -> None:
    summary = short("interstitial.yaml", tmp_path, "stages.0.steps=5", "stages.1.steps=25")
    assert 16 <= summary.n_complex <= 24
    first = ase.io.read(tmp_path / "trajectory.xyz", "0")
    middle = first.positions[[168, 256]].mean(axis=0)
    inside = first.arrays["w"] == 1.0
    assert np.linalg.norm(first.positions[inside] - middle, axis=1).max() < 5.2
    assert summary.e_repartition_eV_per_ps is not None
    table = read_thermo(tmp_path / "thermo.csv")
    nve = table["step"] >= 5
    assert np.ptp(table["conserved_eV"][nve]) < 0.01 * np.ptp(table["kinetic_energy_eV"][nve])
