"""The shipped pair for multiple time steps, and the run that uses it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import iread

import duetto
from duetto.cli.main import main
from duetto.potential.split import SplitPotential

EXAMPLE = Path(__file__).parents[2] / "examples" / "ptco"


@pytest.fixture(scope="module")
def pair():
    return duetto.ExpertPair.load(EXAMPLE / "ptco_time.duetto")


def test_its_high_fidelity_expert_is_the_shipped_one(pair):
    shipped = duetto.ExpertPair.load(EXAMPLE / "ptco.duetto").hf.to_tensors()
    tensors = pair.hf.to_tensors()
    assert tensors.keys() == shipped.keys()
    assert all(torch.equal(tensors[name], shipped[name]) for name in shipped)
    assert pair.provenance["hf"]["training"]["training_module"]


def test_its_low_fidelity_expert_follows_at_the_molecules(pair):
    """On held-out frames of CO on platinum."""
    path = EXAMPLE / "data" / "ptco_chgnet_test.extxyz.gz"
    covered = [atoms for atoms in iread(path) if "co_111" in atoms.info["config_type"]][:6]
    assert len(covered) == 6
    slow, whole = [], []
    for atoms in covered:
        potential = SplitPotential(
            pair, list(atoms.symbols), np.ones(len(atoms)), atoms.pbc, dtype="float64"
        )
        evaluation = potential.evaluate(
            torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
        )
        light = torch.tensor([symbol != "Pt" for symbol in atoms.symbols])
        slow.append(evaluation.slow_forces[light])
        whole.append(evaluation.forces[light])
    # Measured over all frames with CO: 6 %. An LF that does not know CO is off by more than the
    # forces themselves.
    assert torch.cat(slow).square().mean().sqrt() < 0.12 * torch.cat(whole).square().mean().sqrt()


def test_the_run_conserves_energy(tmp_path):
    changes = [f"output.dir={tmp_path / 'out'}", "output.trajectory_every=0"]
    assert main(["run", str(EXAMPLE / "time.yaml"), *changes]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert abs(summary["nve_drift_meV_per_atom_per_ps"]) < 2e-3
    assert summary["temperature_K"] > 200.0  # it moves
