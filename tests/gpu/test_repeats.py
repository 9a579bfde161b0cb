"""The same input gives the same bits, however programs and atomics are ordered."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.systems import layered, on_gpu, system, tensors

REPEATS = 100


@pytest.mark.parametrize("name", ["pt", "ptco"])
def test_evaluations_repeat_bit_for_bit(name: str) -> None:
    atoms, pair = system(name, 2000)
    potential = on_gpu(atoms, pair, layered(atoms), precision="bf16x3")
    x, cell = tensors(atoms)
    first = potential.evaluate(x, cell)
    for repeat in range(REPEATS):
        # Every tenth with a list built anew: its order must not depend on the atomics either.
        if repeat % 10 == 0:
            potential.rebuild(x, cell)
        again = potential.evaluate(x, cell)
        assert torch.equal(again.forces, first.forces), repeat
        assert torch.equal(again.energies, first.energies), repeat
        assert torch.equal(again.virial, first.virial), repeat
        assert again.energy == first.energy, repeat
