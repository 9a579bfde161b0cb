"""The grid of search cells over a periodic, partly periodic or open system."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FARTHEST_A = 1e12
"""Å; beyond it float64 does not tell positions apart that differ by 1e-4 Å."""

ROUNDING = 1e-9
"""Cells are wider than the search distance by this fraction, so that rounding loses no pair."""

CELLS_PER_ATOM = 4
"""Above this many cells per atom a grid is mostly empty; its cells are made wider."""


@dataclass(frozen=True)
class CellGrid:
    """Cells that tile the system, and how to find an atom's.

    Along a periodic axis the cells divide the cell vector. Along an open axis they divide the
    extent that the atoms had; an atom that leaves it belongs to the outermost cell, which loses no
    pair because clamping brings no two atoms further apart.

    Attributes:
        shape: number of cells per axis.
        reach: how many cells away a neighbour can be, per axis. Where a cell vector is shorter
            than the search distance, more than one image of a cell is within reach.
        frame: (24,) float64: cell vectors (rows; unit vectors complete open axes), their inverse,
            origin and scale. Cell coordinate = (x · inverse − origin) · scale.
        numbers: (9,) int32: shape, 1 for each periodic axis, reach.
    """

    shape: tuple[int, int, int]
    reach: tuple[int, int, int]
    frame: Tensor
    numbers: Tensor

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)


def plan_grid(
    positions: Tensor, cell: Tensor, pbc: tuple[bool, bool, bool], distance: float
) -> CellGrid:
    """Choose the cells for a search of all pairs closer than `distance`.

    Args:
        positions: (A, 3) float64, Å.
        cell: (3, 3) float64, rows are the cell vectors, Å. Those of open axes play no part.
        pbc: (3,) periodicity.
        distance: Å.

    Raises:
        ValueError: the periodic vectors are zero or parallel, or something is not finite.
    """
    basis = complete_cell(cell.detach().cpu().double(), pbc)
    if not bool((positions.abs() <= FARTHEST_A).all()):
        raise ValueError(f"a position is not finite or beyond {FARTHEST_A:g} Å")
    inverse = torch.linalg.inv(basis)
    heights = (1.0 / inverse.norm(dim=0)).tolist()
    # Where the positions are: the host is handed six numbers.
    fractional = positions.detach().double() @ inverse.to(positions.device)
    low, high = fractional.amin(dim=0).tolist(), fractional.amax(dim=0).tolist()
    extents = [heights[a] if pbc[a] else high[a] - low[a] for a in range(3)]
    wide = distance * (1 + ROUNDING)
    shape = _limited([max(1, int(e // wide)) for e in extents], len(positions))
    widths = [extents[a] / shape[a] for a in range(3)]
    reach = [math.ceil(wide / w) if w > 0 else 0 for w in widths]
    reach = [reach[a] if pbc[a] else min(reach[a], shape[a] - 1) for a in range(3)]
    origin = [0.0 if pbc[a] else low[a] for a in range(3)]
    scale = [shape[a] / (1.0 if pbc[a] else max(extents[a], wide)) for a in range(3)]
    coordinates = torch.tensor(origin + scale, dtype=torch.float64)
    frame = torch.cat([basis.flatten(), inverse.flatten(), coordinates])
    numbers = torch.tensor([*shape, *pbc, *reach], dtype=torch.int32)
    device = positions.device
    return CellGrid(
        (shape[0], shape[1], shape[2]),
        (reach[0], reach[1], reach[2]),
        frame.to(device),
        numbers.to(device),
    )


def complete_cell(cell: Tensor, pbc: tuple[bool, bool, bool]) -> Tensor:
    """The periodic vectors, completed by unit vectors perpendicular to them and to each other.

    Raises:
        ValueError: the periodic vectors are zero, parallel or not finite.
    """
    periodic = torch.tensor(pbc)
    basis = torch.where(periodic[:, None], cell, torch.zeros_like(cell))
    if not bool(torch.isfinite(basis).all()):
        raise ValueError("a cell vector is not finite")
    kept = basis[periodic]
    if len(kept):
        _, lengths, axes = torch.linalg.svd(kept, full_matrices=True)
        if float(lengths[-1]) < 1e-6 * max(1.0, float(lengths[0])):
            raise ValueError("the periodic cell vectors are zero or parallel")
    else:
        axes = torch.eye(3, dtype=torch.float64)
    basis[~periodic] = axes[len(kept) :]
    return basis


def _limited(shape: list[int], n_atoms: int) -> list[int]:
    """Halve the finest axis until the grid has no more cells than it can use."""
    while math.prod(shape) > max(64, CELLS_PER_ATOM * n_atoms):
        finest = shape.index(max(shape))
        shape[finest] = -(-shape[finest] // 2)
    return shape
