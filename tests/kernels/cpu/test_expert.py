"""The CPU expert against the plain-torch reference: energies and edge gradients of a chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.experts.allegro.architecture import MLPShape
from duetto.kernels.cpu.expert import Chunk, CPUExpert, Workspace
from duetto.kernels.folded import atomic_energies
from tests.pairs import high_fidelity

RELATIVE = {"float32": 2e-5, "float64": 1e-12}
"""Some hundred roundings of 6e-8 (1e-16), both signs, over the largest gradient."""


def chunk(counts: list[int], dtype: str) -> tuple[Chunk, np.ndarray, np.ndarray]:
    """Random edges of centres with the given numbers of neighbours."""
    rng = np.random.default_rng(0)
    E, n = sum(counts), len(counts)
    directions = rng.normal(size=(E, 3))
    lengths = rng.uniform(1.5, 4.1, E)
    vectors = directions / np.linalg.norm(directions, axis=1)[:, None] * lengths[:, None]
    types, neighbors = rng.integers(0, 3, n), rng.integers(0, 3, E)
    centre = np.repeat(np.arange(n), counts)
    rows = np.concatenate([[0], np.cumsum(counts)])
    return (
        Chunk(rows, types[centre] * 3 + neighbors, types, vectors.astype(dtype)),
        centre,
        neighbors,
    )


@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"l_max": 3, "num_layers": 3},
        {"l_max": 1, "num_layers": 1, "width": 16},
        {"num_tensor_features": 14},  # wider than the hidden vectors that share its place
        # Nothing here divides by a vector's length.
        {"width": 7, "num_tensor_features": 5, "embedding_dim": 6},
        {"latent": MLPShape(2, 6, "gelu"), "readout": MLPShape(0, 0, None)},
    ],
    ids=["plain", "deep", "low_fidelity", "wide_tensor", "odd_widths", "two_hidden_layers"],
)
@pytest.mark.parametrize("counts", [[9, 0, 1, 30], [0], [1]], ids=["mixed", "isolated", "single"])
def test_energies_and_gradients(changes: dict, counts: list[int], dtype: str) -> None:
    folded = high_fidelity(**changes).fold()
    expert = CPUExpert(folded, getattr(torch, dtype))
    edges, centre, neighbors = chunk(counts, dtype)
    work = Workspace(expert.dtype)
    energy = np.full(len(counts), np.nan)
    gradient = np.full((sum(counts), 3), np.nan, dtype)
    expert.evaluate(work, edges, energy, gradient)
    for scratch in work._flat.values():
        scratch.fill(np.nan)  # whatever is read before it is written shows
    expert.evaluate(work, edges, energy, gradient)

    vectors = torch.tensor(edges.vectors, dtype=torch.float64, requires_grad=True)
    expected = atomic_energies(
        folded,
        vectors,
        torch.tensor(centre),
        torch.tensor(edges.types),
        torch.tensor(neighbors),
    )
    (expected_gradient,) = torch.autograd.grad(expected.sum(), vectors)
    scale = max(float(expected_gradient.abs().max()), 1e-2) if sum(counts) else 1.0
    assert np.abs(energy - expected.detach().numpy()).max() < RELATIVE[dtype]
    error = np.abs(gradient - expected_gradient.numpy()).max(initial=0.0)
    assert error < RELATIVE[dtype] * scale
