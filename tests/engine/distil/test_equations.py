"""Normal equations against plain least squares, constraints, and cross-validation."""

import pytest
import torch

from duetto.distil.equations import Constraints, Equations, choose_ridge, solve
from duetto.errors import InputError

NOISE = {"sites": 0.5, "forces": 2.0, "virial": 1.0}


def problem(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    X = {
        name: torch.randn(rows, 6, dtype=torch.float64, generator=generator)
        for name, rows in (("sites", 40), ("forces", 60))
    }
    y = {
        name: torch.randn(len(x), dtype=torch.float64, generator=generator) for name, x in X.items()
    }
    return X, y


def equations(X: dict[str, torch.Tensor], y: dict[str, torch.Tensor], blocks: int) -> Equations:
    found = Equations(6, NOISE)
    for name in X:
        parts = zip(X[name].chunk(blocks), y[name].chunk(blocks), strict=True)
        for number, (x, values) in enumerate(parts):
            found.add(number % 4, name, x, values)
    return found


def test_blocks_give_what_all_rows_give_at_once() -> None:
    X, y = problem()
    found = equations(X, y, 10)
    weighted = torch.cat([X[name] / NOISE[name] for name in X])
    values = torch.cat([y[name] / NOISE[name] for name in X])
    expected = torch.linalg.lstsq(weighted, values[:, None]).solution[:, 0]
    nobody = torch.zeros(6, dtype=torch.bool)
    c = solve(*found.sums(found.folds), 0.0, nobody, None)
    torch.testing.assert_close(c, expected, rtol=1e-10, atol=1e-10)
    for name in X:
        direct = float((X[name] @ c - y[name]).square().mean().sqrt())
        assert found.error(c, found.folds, name) == pytest.approx(direct, rel=1e-10)


def test_constraints_hold_and_the_rest_is_optimal() -> None:
    X, y = problem()
    XX, Xy = equations(X, y, 4).sums([0, 1, 2, 3])
    G = torch.tensor([[1.0, 2, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0]], dtype=torch.float64)
    g = torch.tensor([3.0, -1.0], dtype=torch.float64)
    free = torch.zeros(6, dtype=torch.bool)
    c = solve(XX, Xy, 1e-3, free, Constraints(("a", "b"), G, g))
    torch.testing.assert_close(G @ c, g, rtol=1e-12, atol=1e-12)
    # The gradient of what is minimised stands on the constraints alone (Karush, Kuhn, Tucker).
    gradient = XX @ c - Xy + 1e-3 * XX.diagonal() * c
    rest = gradient - G.T @ torch.linalg.lstsq(G.T, gradient[:, None]).solution[:, 0]
    assert rest.abs().max() < 1e-10 * Xy.abs().max()


def test_constraints_that_cannot_be_met_are_refused_by_name() -> None:
    X, y = problem()
    XX, Xy = equations(X, y, 4).sums([0, 1, 2, 3])
    free = torch.zeros(6, dtype=torch.bool)
    row = torch.tensor([[1.0, 2, 0, 0, 0, 1]], dtype=torch.float64)
    twice = Constraints(
        ("C11", "C12"), torch.cat([row, 2 * row]), torch.tensor([1.0, 5.0]).double()
    )
    with pytest.raises(InputError, match="C11, C12 depend on each other"):
        solve(XX, Xy, 1e-3, free, twice)
    with pytest.raises(InputError, match="2 constraints on 1 coefficients"):
        solve(XX[:1, :1], Xy[:1], 1e-3, free[:1], twice)
    with pytest.raises(InputError, match="on C44 touches no coefficient"):
        solve(XX, Xy, 1e-3, free, Constraints(("C44",), 0 * row, torch.ones(1).double()))


def test_cross_validation_smooths_noise_and_trusts_exact_data() -> None:
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(40, 30, dtype=torch.float64, generator=generator)
    truth = torch.randn(30, dtype=torch.float64, generator=generator)
    free = torch.zeros(30, dtype=torch.bool)
    chosen = []
    for noise in (0.0, 20.0):
        y = X @ truth + noise * torch.randn(40, dtype=torch.float64, generator=generator)
        found = Equations(30, NOISE)
        for fold in range(8):
            found.add(fold, "sites", X[fold::8], y[fold::8])
        chosen.append(choose_ridge(found, free, None)[0])
    assert chosen[0] <= 1e-9
    assert chosen[1] >= 1e-4


def test_one_fold_cannot_be_left_out() -> None:
    X, y = problem()
    found = Equations(6, NOISE)
    found.add(0, "sites", X["sites"], y["sites"])
    with pytest.raises(InputError, match="set ridge"):
        choose_ridge(found, torch.zeros(6, dtype=torch.bool), None)
