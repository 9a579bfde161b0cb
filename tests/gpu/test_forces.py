"""Forces of the compiled kernels against float64 on the processor, and against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from tests.gpu.systems import in_float64, layered, on_gpu, random_pair, system, tensors
from tests.tolerances import FLOAT32

TOLERANCE = {"fp32": FLOAT32, "bf16x3": 2e-4}
"""Of the largest force; bf16x3 rounds each product to 2⁻¹⁶ = 1.5e-5, through some ten layers there
and back."""


def errors(atoms: Atoms, got, expected) -> tuple[float, float, float]:
    """Largest error of forces, atoms' energies and virial, relative to the largest of each."""
    force = float(expected.forces.abs().max())
    energy = max(float(expected.energies.abs().max()), force)
    stress = max(float(expected.virial.abs().max()), force)
    return (
        float((got.forces.cpu() - expected.forces).abs().max()) / force,
        float((got.energies.cpu() - expected.energies).abs().max()) / energy,
        float((got.virial.cpu() - expected.virial).abs().max()) / stress,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16x3"])
@pytest.mark.parametrize("partition", ["blend", "abrupt", "all_hf", "all_lf"])
@pytest.mark.parametrize("name", ["pt", "ptco"])
def test_forces_equal_float64(name: str, partition: str, precision: str) -> None:
    atoms, pair = system(name, 600)
    w = {
        "blend": layered(atoms),
        "abrupt": layered(atoms, blend=False),
        "all_hf": np.ones(len(atoms)),
        "all_lf": np.zeros(len(atoms)),
    }[partition]
    got = on_gpu(atoms, pair, w, precision=precision).evaluate(*tensors(atoms))
    expected = in_float64(atoms, pair, w).evaluate(*tensors(atoms, "cpu"))
    assert max(errors(atoms, got, expected)) < TOLERANCE[precision], errors(atoms, got, expected)


@pytest.mark.parametrize("hf", ["hf64_no_parity", "hf32", "l3"])
def test_other_architectures(hf: str) -> None:
    atoms, _ = system("ptco", 200)
    pair = random_pair(("Pt", "C", "O"), hf=hf, lf="lf16")
    w = layered(atoms)
    got = on_gpu(atoms, pair, w).evaluate(*tensors(atoms))
    expected = in_float64(atoms, pair, w).evaluate(*tensors(atoms, "cpu"))
    assert max(errors(atoms, got, expected)) < TOLERANCE["fp32"]


def test_forces_are_the_slope_of_the_energy() -> None:
    """Fourth-order differences along random directions in which every atom moves."""
    atoms, pair = system("ptco", 300)
    w = layered(atoms)
    potential = on_gpu(atoms, pair, w, skin=1.0)
    x, cell = tensors(atoms)
    here = potential.evaluate(x, cell)
    generator = torch.Generator().manual_seed(5)
    step = 0.02
    # Float32 energies of atoms scatter by some 1e-6 of their size, independently.
    noise = 2e-6 * float(here.energies.square().sum().sqrt()) / step
    for _ in range(5):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64).cuda()
        # Mostly along the forces, so that the slope stands out from the noise.
        direction = here.forces / here.forces.norm() * direction.norm() + 0.3 * direction
        direction /= direction.abs().max()
        energy = [potential.evaluate(x + k * step * direction, cell).energy for k in (-2, -1, 1, 2)]
        slope = (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)
        expected = -float((here.forces * direction).sum())
        assert slope == pytest.approx(expected, rel=2e-3, abs=noise)


def test_total_force_is_zero_to_the_last_bit() -> None:
    atoms, pair = system("ptco", 600)
    forces = on_gpu(atoms, pair, layered(atoms)).evaluate(*tensors(atoms)).forces
    units = (forces * 2.0**40).round().to(torch.int64)
    assert units.sum(dim=0).tolist() == [0, 0, 0]


def test_list_equals_the_hosts() -> None:
    """Twenty thousand atoms: every pair that the processor's search finds, and no other."""
    atoms, pair = system("pt", 20_000)
    atoms.positions += np.random.default_rng(0).normal(size=(len(atoms), 3)) * 0.3
    w = np.ones(len(atoms))
    device, host = on_gpu(atoms, pair, w), in_float64(atoms, pair, w)
    device.rebuild(*tensors(atoms))
    host.rebuild(*tensors(atoms, "cpu"))
    ours, theirs = device.neighbor_list, host.neighbor_list
    np.testing.assert_array_equal(ours.first, theirs.first)
    i = np.repeat(np.arange(len(atoms)), np.diff(ours.first))
    sorted_rows = [
        np.unique(np.column_stack([i, x.neighbor, x.shift]), axis=0) for x in (ours, theirs)
    ]
    np.testing.assert_array_equal(*sorted_rows)
