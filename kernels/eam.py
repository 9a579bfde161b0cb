"""The embedded-atom method on the splines of LAMMPS, in plain torch.

    E_i = F_i(ρ_i) + ½ Σ_j φ_ij(r_ij),   ρ_i = Σ_j ρ_ji(r_ij),   φ = z / r

F, ρ and z = r·φ are tables with an even spacing, joined by cubic splines whose slopes at the points
are five-point differences: `PairEAM::interpolate` and `PairEAM::compute` of LAMMPS, rule by rule,

    in r     before the second point the first interval goes on; after the last point a function
             keeps its last value, and here, unlike in LAMMPS, its slope is then zero, so that
             forces stay the gradient of the energy;
    in ρ     below the first point the first interval goes on; above the last one F goes on as a
             straight line.

E_i belongs to the centre i alone and depends on its own edges only, so that it can be mixed.

The evaluation below is the reference for every other one, differentiable in the vectors.
Letters: C centres, E edges, T types, K points of a table in r, M points of a table in ρ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_POINTS = 5
"""Of a table, for slopes from five of them."""


@dataclass(frozen=True)
class EamTables:
    """Tables of an embedded-atom potential, float64.

    Attributes:
        embedding: (T, M) F, eV.
        density: (T, T, K) by neighbour and centre: what the neighbour contributes to ρ.
        product: (T, T, K) r·φ, eV Å, symmetric.
        drho: spacing of `embedding`, in the units of ρ.
        dr: spacing of `density` and `product`, Å of the table.
        distance_scale: Å of the table per Å; the functions are of the scaled distance.
        energy_scale: eV per eV of the table.
        shift: (T,) eV, added to the energy of each centre.
    """

    embedding: Tensor
    density: Tensor
    product: Tensor
    drho: float
    dr: float
    distance_scale: float
    energy_scale: float
    shift: Tensor

    def to(self, device: torch.device) -> EamTables:
        """The same tables on another device."""
        return EamTables(
            self.embedding.to(device),
            self.density.to(device),
            self.product.to(device),
            self.drho,
            self.dr,
            self.distance_scale,
            self.energy_scale,
            self.shift.to(device),
        )


def spline_coefficients(values: Tensor) -> Tensor:
    """Cubic of each interval in p, the distance from its left point over the spacing.

    Args:
        values: (..., N) at evenly spaced points, N ≥ 5.

    Returns:
        (..., N, 4) c3, c2, c1, c0 of ((c3 p + c2) p + c1) p + c0; the last row is unused.
    """
    f = values
    slope = torch.empty_like(f)
    slope[..., 0] = f[..., 1] - f[..., 0]
    slope[..., 1] = 0.5 * (f[..., 2] - f[..., 0])
    slope[..., -2] = 0.5 * (f[..., -1] - f[..., -3])
    slope[..., -1] = f[..., -1] - f[..., -2]
    wide, narrow = f[..., :-4] - f[..., 4:], f[..., 3:-1] - f[..., 1:-3]
    slope[..., 2:-2] = (wide + 8.0 * narrow) / 12.0
    rise = f[..., 1:] - f[..., :-1]
    square, cube = torch.zeros_like(f), torch.zeros_like(f)
    square[..., :-1] = 3.0 * rise - 2.0 * slope[..., :-1] - slope[..., 1:]
    cube[..., :-1] = slope[..., :-1] + slope[..., 1:] - 2.0 * rise
    return torch.stack([cube, square, slope, f], dim=-1)


def eam_site_energies(
    tables: EamTables,
    vectors: Tensor,
    row: Tensor,
    centre_types: Tensor,
    neighbor_types: Tensor,
) -> Tensor:
    """Energy of every centre, (C,) float64, eV.

    Args:
        tables: on the device of the edges.
        vectors: (E, 3) float64, r_j − r_i, Å, within the cutoff.
        row: (E,) int64, which centre each edge belongs to.
        centre_types: (C,) int64.
        neighbor_types: (E,) int64.
    """
    centre = centre_types[row]
    r = tables.distance_scale * torch.linalg.vector_norm(vectors, dim=1)
    interval, p = _interval(r, tables.dr, tables.product.shape[-1])
    density = _cubic(spline_coefficients(tables.density)[neighbor_types, centre, interval], p)
    product = _cubic(spline_coefficients(tables.product)[neighbor_types, centre, interval], p)
    zeros = torch.zeros(len(centre_types), dtype=torch.float64, device=vectors.device)
    rho = zeros.index_add(0, row, density)
    pairs = zeros.index_add(0, row, product / r)
    energy = _embedding(tables, rho, centre_types) + 0.5 * pairs
    return tables.energy_scale * energy + tables.shift[centre_types]


def _interval(x: Tensor, spacing: float, points: int) -> tuple[Tensor, Tensor]:
    """Index of the interval, and the place in it, no further than its end."""
    place = x * (1.0 / spacing) + 1.0
    number = place.detach().long().clamp(1, points - 1)
    return number - 1, (place - number).clamp(max=1.0)


def _cubic(c: Tensor, p: Tensor) -> Tensor:
    return ((c[..., 0] * p + c[..., 1]) * p + c[..., 2]) * p + c[..., 3]


def _embedding(tables: EamTables, rho: Tensor, types: Tensor) -> Tensor:
    points = tables.embedding.shape[-1]
    interval, p = _interval(rho, tables.drho, points)
    c = spline_coefficients(tables.embedding)[types, interval]
    slope = ((3.0 * c[..., 0] + 2.0 * c[..., 1]) + c[..., 2]) / tables.drho
    beyond = (rho - (points - 1) * tables.drho).clamp(min=0.0)
    return _cubic(c, p) + slope * beyond
