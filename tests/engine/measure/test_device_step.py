"""What is timed of a backend that takes whole steps on its device."""

from __future__ import annotations

import torch

from duetto.measure.bench.own_engines import _step_of
from tests.engine.potential.test_triton import blended, covered_by_torch, evaluate, potential, some


def test_a_step_of_the_device_is_timed_and_moves_nothing() -> None:
    atoms = some("triclinic", 5)
    p = potential(atoms, blended(atoms), covered_by_torch())
    expected = evaluate(p, atoms).forces
    x, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    step = _step_of(p, x.to(p.device), cell.to(p.device))
    mixture = p.neighbor_list.mixture
    for _ in range(2):
        mixture.forces.zero_()
        step()
        assert torch.equal(mixture.forces.cpu(), expected.cpu())
    assert p.n_rebuilds == 1
