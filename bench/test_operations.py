"""Each compiled CPU operation, on one chunk's worth of edges, against a matrix product.

    pytest bench --benchmark-enable --benchmark-json=bench.json
    python scripts/compare_benchmarks.py bench.json

The sizes are those of a 64/32 expert with l_max 2 in bulk platinum: 24 centres with 42 edges.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.kernels.cpu import edges, radial, stages
from duetto.kernels.cpu.activation import activate, activate_adjoint
from duetto.kernels.cpu.dense import dense, dense_adjoint
from duetto.kernels.cpu.expert import CPUExpert
from duetto.kernels.cpu.product import product
from duetto.measure.bench.architectures import architecture_named

CENTRES, NEIGHBORS = 24, 42
E = CENTRES * NEIGHBORS
L_MAX, D, R, U, H, B = 2, 9, 3, 32, 64, 8
DTYPE = "float32"
CALLS = 10

_RNG = np.random.default_rng(0)


def _numbers(*shape: int) -> np.ndarray:
    """Random numbers, aligned to 64 bytes as the engine's own memory is."""
    return torch.randn(shape).numpy()


def _empty(*shape: int) -> np.ndarray:
    return torch.zeros(shape).numpy()


ROWS = np.arange(CENTRES + 1, dtype=np.int64) * NEIGHBORS
PAIR = np.zeros(E, dtype=np.int64)
VECTORS = (_RNG.normal(size=(E, 3)) + np.array([0.0, 0.0, 3.0])).astype(DTYPE)
LENGTH = np.linalg.norm(VECTORS, axis=1)
Y, WV, HIDDEN = _numbers(E, D), _numbers(E, R * U), _numbers(E, 2 * H)
GY, GWV, GHIDDEN = _numbers(E, D), _numbers(E, R * U), _numbers(E, 2 * H)
N = _numbers(CENTRES, D, U)
MOMENTS = _numbers(D, CENTRES, H)
NORM = np.full(CENTRES, 0.15, dtype=DTYPE)
K1 = _numbers(1, B, H)
Z, SLOPE, GZ = _numbers(E, H), _numbers(E, H), _numbers(E, H)


@pytest.fixture(scope="module")
def expert() -> CPUExpert:
    architecture = architecture_named("hf64", 5.0, ("Pt",))
    return CPUExpert(
        AllegroExpert(architecture, random_weights(architecture, 0)).fold(), torch.float32
    )


def test_gather(measure, matrix_product) -> None:
    atoms = 200
    positions = _RNG.uniform(0, 12.0, size=(atoms, 3))
    slots = int(CENTRES * NEIGHBORS * 1.3)
    first = np.linspace(0, slots, CENTRES + 1).astype(np.int64)
    first = np.concatenate([first, np.full(atoms - CENTRES, slots)])
    neighbor = _RNG.integers(0, atoms, slots).astype(np.int32)
    shift = np.zeros((slots, 3), dtype=np.int16)
    arguments = (positions, np.eye(3) * 12.0, first, neighbor, shift, np.arange(CENTRES))
    types, cutoff = np.zeros(atoms, dtype=np.int64), np.full((1, 1), 169.0)
    out = (np.empty(CENTRES + 1, np.int64), np.empty(slots, np.int32), np.empty(slots, np.int64))
    vectors = _empty(slots, 3)
    operation = lambda: edges.gather_edges(*arguments, types, cutoff, *out, vectors)  # noqa: E731
    assert operation() > 0.7 * slots
    measure(operation, matrix_product, CALLS)


def test_harmonics(measure, matrix_product) -> None:
    kernel, out = edges.harmonics(DTYPE, L_MAX), _empty(E, D)
    measure(lambda: kernel(VECTORS, LENGTH, out), matrix_product, CALLS)


def test_radial(measure, matrix_product) -> None:
    kernel = radial.bessel(DTYPE, B, 6.0, True)
    inverse, roots = np.full(1, 0.1, dtype=DTYPE), np.arange(1, B + 1).astype(DTYPE)
    basis, slope = _empty(B, E), _empty(B, E)
    measure(lambda: kernel(LENGTH, PAIR, inverse, roots, basis, slope), matrix_product, CALLS)


def test_two_body(measure, matrix_product) -> None:
    kernel, basis = stages.two_body(DTYPE, B, H, "silu"), _numbers(B, E)
    measure(lambda: kernel(basis, PAIR, K1, HIDDEN, 0, SLOPE), matrix_product, CALLS)


def test_two_body_adjoint(measure, matrix_product) -> None:
    kernel, slope = stages.two_body_adjoint(DTYPE, B, H), _numbers(B, E)
    out = _empty(E)
    measure(lambda: kernel(GHIDDEN, 0, SLOPE, slope, PAIR, K1, out), matrix_product, CALLS)


def test_activation(measure, matrix_product) -> None:
    kernel = activate(DTYPE, "silu", H)
    measure(lambda: kernel(Z, E, HIDDEN, 0, 0, SLOPE), matrix_product, CALLS)


def test_activation_adjoint(measure, matrix_product) -> None:
    kernel = activate_adjoint(DTYPE, H)
    measure(lambda: kernel(GHIDDEN, 0, E, 0, SLOPE, GZ), matrix_product, CALLS)


def test_product(measure, matrix_product) -> None:
    kernel, weights = product(DTYPE, H), _numbers(H, H)
    measure(lambda: kernel(Z, 0, E, 0, H, weights, GZ, 0, 0), matrix_product, CALLS)


def test_dense(measure, matrix_product) -> None:
    """A latent layer: the hidden vectors of two layers and the scalars in, one out."""
    kernel, weights, x = dense(DTYPE, "silu", H), _numbers(2 * H, H), _numbers(E, 2 * H)
    measure(lambda: kernel(x, 0, 2 * H, weights, HIDDEN, H, SLOPE), matrix_product, CALLS)


def test_dense_adjoint(measure, matrix_product) -> None:
    kernel, weights = dense_adjoint(DTYPE, H, 2 * H, True), _numbers(H, 2 * H)
    gh = _numbers(E, 3 * H)
    measure(lambda: kernel(gh, 2 * H, SLOPE, weights, gh), matrix_product, CALLS)


def test_moments(measure, matrix_product) -> None:
    kernel = stages.moments(DTYPE, D, H)
    measure(lambda: kernel(ROWS, NORM, Y, HIDDEN, 0, MOMENTS), matrix_product, CALLS)


def test_moments_adjoint(measure, matrix_product) -> None:
    kernel = stages.moments_adjoint(DTYPE, D, H)
    out, gradient = _empty(E, H), _empty(E, stages.padded(D))
    measure(lambda: kernel(ROWS, NORM, Y, HIDDEN, 0, MOMENTS, out, gradient), matrix_product, CALLS)


def test_scalars(measure, matrix_product) -> None:
    kernel = stages.scalars(DTYPE, L_MAX, U)
    measure(lambda: kernel(ROWS, WV, Y, N, HIDDEN, H), matrix_product, CALLS)


def test_scalars_adjoint(measure, matrix_product) -> None:
    kernel, out = stages.scalars_adjoint(DTYPE, L_MAX, U, True), _empty(*N.shape)
    gwV, gY = _empty(*GWV.shape), _empty(E, stages.padded(D))
    measure(lambda: kernel(ROWS, WV, Y, N, GHIDDEN, H, gwV, gY, out), matrix_product, CALLS)


def test_contract(measure, matrix_product, expert: CPUExpert) -> None:
    terms = expert.products[0].terms
    A, q = _numbers(D, CENTRES, U), _numbers(CENTRES, int(terms[2].max()) + 1, U)
    kernel, out = stages.contract(DTYPE, U), _empty(CENTRES, D, U)
    measure(lambda: kernel(*terms, A, q, out), matrix_product, CALLS)


def test_contract_adjoint(measure, matrix_product, expert: CPUExpert) -> None:
    terms = expert.products[0].terms
    A, q = _numbers(D, CENTRES, U), _numbers(CENTRES, int(terms[2].max()) + 1, U)
    seed, gA, gq = _numbers(CENTRES, D, U), _empty(*A.shape), _empty(*q.shape)
    kernel = stages.contract_adjoint(DTYPE, U)
    measure(lambda: kernel(*terms, A, q, seed, gA, gq), matrix_product, CALLS)


def test_readout(measure, matrix_product) -> None:
    kernel, ro, last = stages.readout(DTYPE, H), _numbers(H), _numbers(E, H)
    energy = np.empty(CENTRES)
    measure(lambda: kernel(ROWS, last, ro, NORM, energy), matrix_product, CALLS)


def test_edge_gradients(measure, matrix_product) -> None:
    kernel, out = edges.edge_gradients(DTYPE, L_MAX), _empty(E, 3)
    measure(lambda: kernel(VECTORS, LENGTH, GY, LENGTH, out), matrix_product, CALLS)


def test_virial(measure, matrix_product) -> None:
    out, weight = np.empty((3, 3)), np.ones(CENTRES)
    measure(lambda: edges.edge_virial(ROWS, weight, VECTORS, VECTORS, out), matrix_product, CALLS)


def test_scatter(measure, matrix_product) -> None:
    neighbor = _RNG.integers(0, 200, E).astype(np.int32)
    counts, forces = np.full(CENTRES, NEIGHBORS), np.zeros((200, 3))
    centres, weight = np.arange(CENTRES), np.ones(CENTRES)
    measure(
        lambda: edges.scatter_forces(ROWS[:-1], counts, centres, weight, neighbor, VECTORS, forces),
        matrix_product,
        CALLS,
    )
