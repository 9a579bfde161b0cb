"""What `scripts/mixture_speed.py` measures on, and how it counts errors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ase import Atoms

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mixture_speed.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("mixture_speed", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["mixture_speed"] = module  # dataclasses look for their module there
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fraction", [0.1, 0.4])
def test_slabs_are_as_thick_as_the_share_of_complex_atoms_asks(
    script: ModuleType, fraction: float
) -> None:
    (case,) = script.slabs(2000, [fraction])
    assert len(case.atoms) == pytest.approx(2000, rel=0.15)
    # A slab has whole layers: of eleven, the share moves by a tenth of itself with one of them.
    assert case.weights.mean() == pytest.approx(fraction, rel=0.1)
    platinum = case.atoms.symbols == "Pt"
    assert (case.weights[~platinum] == 1.0).all()
    per_layer = 4 * (case.atoms.symbols == "C").sum()  # a quarter monolayer
    assert case.weights[platinum].sum() == 4 * per_layer


def test_balls_hold_the_share_asked(script: ModuleType) -> None:
    (case,) = script.balls(500, [0.2])
    assert case.weights.sum() == round(0.2 * len(case.atoms))


def test_errors_of_complex_atoms_and_of_those_deep_inside(script: ModuleType) -> None:
    atoms = Atoms("Pt4", [[0, 0, 0], [3, 0, 0], [6, 0, 0], [9, 0, 0]])
    case = script.Case(atoms, np.array([0.0, 1.0, 1.0, 1.0]))
    error = np.repeat([[5.0], [0.3], [0.0], [0.1]], 3, axis=1)
    found = script.force_errors(case, error, 8.0)
    complex_rms = 1e3 * np.sqrt((0.3**2 + 0.1**2) / 3)
    assert found["force_rmse_complex_mev_per_angstrom"] == pytest.approx(complex_rms)
    assert found["force_rmse_core_mev_per_angstrom"] == pytest.approx(100.0)
    assert script.force_errors(case, error, 9.0)["force_rmse_core_mev_per_angstrom"] is None
