"""Which atom is named when a gradient is no number or too large."""

from __future__ import annotations

import torch

from duetto.kernels.triton.mixture import Mixture
from tests.kernels.triton.two_experts import cell, mixture, positions, shallow


def evaluated() -> Mixture:
    found = mixture(shallow(1), shallow(2))
    found.neighbors.build(positions(), cell())
    found.evaluate(positions())
    return found


def test_only_gradients_in_use_count() -> None:
    found = evaluated()
    rowptr = found.neighbors.edges().rowptr
    found._gradients[:, int(rowptr[-1]) :] = torch.nan  # what an earlier, longer list has left
    assert found._gradients.shape[1] > int(rowptr[-1])
    assert found.centre_out_of_range() == -1
    used = (rowptr[1:] > rowptr[:-1]).nonzero().flatten()
    row = int(used[used % 2 == 0][-1])
    found._gradients[1, int(rowptr[row])] = 2000.0  # eV/Å
    assert found.centre_out_of_range() == int(found.neighbors.centre_atoms[row // 2])
