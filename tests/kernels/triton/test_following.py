"""Weights that follow seeds on the device, against the CPU's kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import fcc111

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton.following import SeedsByAtom
from duetto.potential.seed_weights import SeedWeights

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Case:
    """A skewed slab with seeds closer to each other than the blend is wide, some across a face."""

    def __init__(self) -> None:
        atoms = fcc111("Pt", (5, 5, 3), a=3.97, vacuum=6.0)
        atoms.pbc = (True, True, False)
        atoms.rattle(0.1, seed=3)
        atoms.positions[10] += atoms.cell.array[0]
        self.x, self.box, self.pbc = atoms.positions, atoms.cell.array, atoms.pbc
        self.seeds = np.array([0, 1, 40, 62])
        rng = np.random.default_rng(1)
        self.static = np.where(rng.random(75) < 0.2, rng.random(75), 0.0)
        self.static[self.seeds] = 1.0
        self.around = SeedWeights(2.0, 2.5, self.pbc, 0.6)
        self.around.rebuild(self.x, self.box, self.seeds, self.static)
        self.x = self.x + rng.uniform(-0.15, 0.15, self.x.shape)
        self.difference = rng.normal(size=75)
        self.difference[self.static == 1.0] = np.nan

    def on_device(self) -> SeedsByAtom:
        return SeedsByAtom.of(*self.around.pairs(self.box), 2.0, 2.5, DEVICE)


def on_device(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(DEVICE)


def test_weights_and_pull_are_those_of_the_cpu() -> None:
    case = Case()
    q, active = case.around.follow(case.x, case.box)
    mine = case.on_device().follow(on_device(case.x), on_device(1.0 - case.static))
    # The same operations in float64 but for the sum of position and image: rounding of 10 Å.
    np.testing.assert_allclose(mine.cpu(), q, atol=1e-13)
    assert ((q > 0) & (q < 1 - case.static)).sum() > 20
    assert active["hf"].sum() > 20

    forces, virial = np.zeros_like(case.x), np.zeros((1, 3, 3))
    case.around.pull(case.x, case.box, q, case.difference, forces, virial)
    flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=DEVICE)
    pulled, strained = case.on_device().pull(
        on_device(case.x), on_device(q), on_device(case.difference), flags
    )
    assert np.abs(forces).max() > 0.1
    # Sums of some 50 contributions that are rounded to 2⁻⁴⁰ eV/Å each.
    np.testing.assert_allclose(pulled.cpu(), forces, atol=50 * 2.0**-40)
    np.testing.assert_allclose(strained.cpu(), virial[0], atol=1e-12)
    # As integers they sum to zero; in eV/Å to the rounding of the sum.
    assert float((pulled * 2.0**40).sum(dim=0).abs().max()) == 0.0
    assert not flags.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_what_is_no_force_raises_the_flag(bad: float) -> None:
    case = Case()
    q, _ = case.around.follow(case.x, case.box)
    inside = np.flatnonzero((q > 0.3) & (q < 0.7) & (case.static == 0.0))[0]
    case.difference[inside] = bad
    flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=DEVICE)
    pulled, _ = case.on_device().pull(
        on_device(case.x), on_device(q), on_device(case.difference), flags
    )
    assert flags[flag.FORCE_RANGE.value] == 1
    assert torch.isfinite(pulled).all()


def test_no_seed_near_anything() -> None:
    lists = SeedsByAtom.of(
        np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros((0, 3)), 2, 1, DEVICE
    )
    q = torch.rand(5, dtype=torch.float64, device=DEVICE)
    x = torch.zeros(5, 3, dtype=torch.float64, device=DEVICE)
    flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32, device=DEVICE)
    assert torch.equal(lists.follow(x, q), q)
    forces, virial = lists.pull(x, q, q, flags)
    assert not forces.any()
    assert not virial.any()
