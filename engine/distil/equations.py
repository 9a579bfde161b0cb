"""Normal equations, in parts, and their solution under constraints.

Rows are added block by block and forgotten. The parts, one for each fold of the data and each
quantity, are small matrices, from which fits to some folds and their errors on others follow
without the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from duetto.errors import InputError

QUANTITIES = ("sites", "forces", "virial", "changes")
"""Site energies, forces, virials, and changes of the forces along stretches of dynamics."""


@dataclass
class Part:
    """Sums over the rows of one quantity in one fold.

    Attributes:
        XX: (X, X) Σ x xᵀ. Xy: (X,) Σ x y. yy: Σ y². rows: how many.
    """

    XX: Tensor
    Xy: Tensor
    yy: float = 0.0
    rows: int = 0

    @classmethod
    def empty(cls, unknowns: int) -> Part:
        """No rows."""
        zeros = torch.zeros(unknowns, unknowns, dtype=torch.float64)
        return cls(zeros, zeros[0].clone())

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows x (n, X) with values y (n,)."""
        self.XX += x.T @ x
        self.Xy += x.T @ y
        self.yy += float(y @ y)
        self.rows += len(y)

    def squares(self, c: Tensor) -> float:
        """Σ (x c − y)²."""
        return max(float(c @ self.XX @ c - 2.0 * (c @ self.Xy)) + self.yy, 0.0)


@dataclass
class Equations:
    """The parts of all folds.

    Attributes:
        unknowns: X.
        noise: by quantity, the error that a row is allowed; rows weigh its inverse square.
        parts: by fold and quantity.
    """

    unknowns: int
    noise: dict[str, float]
    parts: dict[tuple[int, str], Part] = field(default_factory=dict)

    def add(self, fold: int, quantity: str, x: Tensor, y: Tensor) -> None:
        """Add rows, not weighted."""
        key = fold, quantity
        if key not in self.parts:
            self.parts[key] = Part.empty(self.unknowns)
        self.parts[key].add(x, y)

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds that have rows."""
        return sorted({fold for fold, _ in self.parts})

    @property
    def quantities(self) -> list[str]:
        """Names of those that have rows."""
        met = {quantity for _, quantity in self.parts}
        return [quantity for quantity in QUANTITIES if quantity in met]

    def sums(self, folds: list[int]) -> tuple[Tensor, Tensor]:
        """Weighted XX and Xy of some folds."""
        total = Part.empty(self.unknowns)
        for (fold, quantity), part in self.parts.items():
            if fold in folds:
                weight = self.noise[quantity] ** -2
                total.XX += weight * part.XX
                total.Xy += weight * part.Xy
        return total.XX, total.Xy

    def error(self, c: Tensor, folds: list[int], quantity: str) -> float:
        """Root mean square of x c − y over some folds."""
        chosen = [self.parts[f, quantity] for f in folds if (f, quantity) in self.parts]
        rows = sum(part.rows for part in chosen)
        return (sum(part.squares(c) for part in chosen) / max(rows, 1)) ** 0.5

    def misfit(self, c: Tensor, folds: list[int]) -> float:
        """Weighted mean square over some folds: what cross-validation compares."""
        squares = rows = 0.0
        for (fold, quantity), part in self.parts.items():
            if fold in folds:
                squares += part.squares(c) / self.noise[quantity] ** 2
                rows += part.rows
        return squares / max(rows, 1.0)


@dataclass(frozen=True)
class Constraints:
    """Linear equations G c = g that the fit obeys.

    Attributes:
        names: (n,) of the rows.
        G: (n, X). g: (n,).
    """

    names: tuple[str, ...]
    G: Tensor
    g: Tensor


def solve(
    XX: Tensor, Xy: Tensor, ridge: float, free: Tensor, constraints: Constraints | None
) -> Tensor:
    """argmin cᵀ XX c − 2 cᵀ Xy + ridge Σ' s² c² under G c = g, by the null space of G.

    Args:
        XX, Xy: normal equations (X, X), (X,).
        ridge: relative to the scale s² = diagonal of XX of each unknown.
        free: (X,) bool, unknowns that are not regularised: energies of isolated atoms.
        constraints: or None.

    Raises:
        InputError: the constraints contradict each other or touch nothing.
    """
    if constraints is not None and len(constraints.g) > len(Xy):
        raise InputError(
            f"{len(constraints.g)} constraints on {len(Xy)} coefficients; enlarge the basis"
        )
    s = XX.diagonal().clamp(min=1e-300).sqrt()
    H = XX / s[:, None] / s + torch.diag(torch.where(free, 0.0, ridge).double())
    b = Xy / s
    if constraints is None or not len(constraints.g):
        return _solve_positive(H, b) / s
    G = constraints.G / s
    scale = G.norm(dim=1)
    if float(scale.min()) == 0.0:
        name = constraints.names[int(scale.argmin())]
        raise InputError(f"the constraint on {name} touches no coefficient; enlarge the basis")
    Q, R = torch.linalg.qr((G / scale[:, None]).T, mode="complete")
    n = len(constraints.g)
    triangle = R[:n]
    if float(triangle.diagonal().abs().min()) < 1e-10:
        raise InputError(
            f"the constraints on {', '.join(constraints.names)} depend on each other for this "
            "basis; add radial functions or degrees"
        )
    right = (constraints.g / scale)[:, None]
    particular = Q[:, :n] @ torch.linalg.solve_triangular(triangle.T, right, upper=False)
    c = particular[:, 0]
    Z = Q[:, n:]
    c = c + Z @ _solve_positive(Z.T @ H @ Z, Z.T @ (b - H @ c))
    return c / s


def _solve_positive(H: Tensor, b: Tensor) -> Tensor:
    """Solve with a symmetric matrix; directions that the data say nothing about get nothing."""
    values, vectors = torch.linalg.eigh(H)
    usable = values > values[-1] * 1e-14
    inverse = torch.where(usable, 1.0 / torch.where(usable, values, 1.0), 0.0)
    return vectors @ (inverse * (vectors.T @ b))


RIDGES = tuple(10.0**power for power in range(-12, -2))


def choose_ridge(
    equations: Equations, free: Tensor, constraints: Constraints | None
) -> tuple[float, dict[float, float]]:
    """The ridge with the least misfit on folds that were left out, and all misfits.

    Raises:
        InputError: there is nothing to leave out.
    """
    folds = equations.folds
    if len(folds) < 2:
        raise InputError(
            "distil: all structures are of one trajectory, so that no ridge can be chosen by "
            "cross-validation; give more, or set ridge, such as 1e-8"
        )
    misfits = {}
    for ridge in RIDGES:
        total = 0.0
        for fold in folds:
            XX, Xy = equations.sums([other for other in folds if other != fold])
            total += equations.misfit(solve(XX, Xy, ridge, free, constraints), [fold])
        misfits[ridge] = total / len(folds)
    return min(misfits, key=lambda ridge: misfits[ridge]), misfits
