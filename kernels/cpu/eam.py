"""The embedded-atom method on the CPU: one visit to each centre's edges.

The equations and the rules at the ends of tables are those of `duetto.kernels.eam`. Both functions
of an edge lie in one row of 64 bytes, a line of the cache, and the sums are in double precision
whatever the precision of the vectors: the arithmetic is nothing beside the way to the table.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.expert import Chunk, Listener, Workspace
from duetto.kernels.eam import EamTables, spline_coefficients

Array = NDArray[Any]


class CPUEam:
    """Tables made ready for chunks of centres on the CPU.

    Attributes:
        dtype: of vectors and gradients.
        cutoff_squared: (T, T) float64, Å².
        floats_per_edge: numbers that a chunk keeps per edge.
        listener: is told when a chunk is done.
    """

    floats_per_edge = 8

    def __init__(self, tables: EamTables, cutoff: float, dtype: torch.dtype) -> None:
        """Lay out the splines.

        Args:
            tables: float64, on the CPU.
            cutoff: Å.
            dtype: torch.float32 or torch.float64.
        """
        self.dtype = dtype
        self.listener = Listener()
        T = len(tables.embedding)
        self.cutoff_squared = np.full((T, T), cutoff**2)
        # From (neighbour, centre) to the order of `Chunk.pair`.
        both = [spline_coefficients(t.transpose(0, 1)) for t in (tables.density, tables.product)]
        self._edges = torch.cat(both, dim=-1).flatten(0, 1).contiguous().numpy()
        self._embedding = spline_coefficients(tables.embedding).contiguous().numpy()
        self._shift = tables.shift.numpy()
        self._numbers = (tables.dr, tables.drho, tables.distance_scale, tables.energy_scale)

    @property
    def numpy_dtype(self) -> Any:
        """The NumPy type of `dtype`."""
        return np.float32 if self.dtype == torch.float32 else np.float64

    def evaluate(self, work: Workspace, chunk: Chunk, energy: Array, gradient: Array) -> None:
        """Energies of the chunk's centres and dE/dr_ij of its edges.

        Args:
            work: scratch memory of this thread; none is needed.
            chunk: the edges.
            energy: (n,) float64 OUTPUT, eV.
            gradient: (E, 3) OUTPUT, eV/Å.
        """
        eam(
            chunk.rows,
            chunk.pair,
            chunk.types,
            chunk.vectors,
            self._edges,
            self._embedding,
            self._shift,
            *self._numbers,
            energy,
            gradient,
        )
        self.listener.done("eam/centres")


@compiled
def eam(
    rows: Any,
    pair: Any,
    types: Any,
    vectors: Any,
    edge_table: Any,
    embedding: Any,
    shift: Any,
    dr: float,
    drho: float,
    distance_scale: float,
    energy_scale: float,
    energy: Any,
    gradient: Any,
) -> None:
    """Energies and edge gradients of some centres.

    Args:
        rows: (n + 1,) int64, start of each centre's edges.
        pair: (E,) int64, centre type · T + neighbour type.
        types: (n,) int64, centre types.
        vectors: (E, 3) Å.
        edge_table: (T², K, 8) float64, cubics of ρ and of r·φ.
        embedding: (T, M, 4) float64, cubics of F.
        shift: (T,) float64, eV.
        dr: Å of the table.
        drho: spacing of `embedding`.
        distance_scale: Å of the table per Å.
        energy_scale: eV per eV of the table.
        energy: (n,) float64 OUTPUT, eV.
        gradient: (E, 3) OUTPUT, eV/Å.
    """
    points, last = embedding.shape[1], edge_table.shape[1] - 1
    per_r, per_rho = 1.0 / dr, 1.0 / drho
    for row in range(types.shape[0]):
        rho, pairs = 0.0, 0.0
        for e in range(rows[row], rows[row + 1]):
            x, y, z = (
                np.float64(vectors[e, 0]),
                np.float64(vectors[e, 1]),
                np.float64(vectors[e, 2]),
            )
            r = distance_scale * math.sqrt(x * x + y * y + z * z)
            place = r * per_r + 1.0
            m = max(1, min(int(place), last))
            p = place - m
            inside = 1.0 if p <= 1.0 else 0.0
            p = min(p, 1.0)
            c = edge_table[pair[e], m - 1]
            rho += ((c[0] * p + c[1]) * p + c[2]) * p + c[3]
            phi = (((c[4] * p + c[5]) * p + c[6]) * p + c[7]) / r
            pairs += phi
            # d/dr over r: times the vector of the edge it is the gradient.
            steep = inside * ((3.0 * c[0] * p + 2.0 * c[1]) * p + c[2]) * per_r
            change = inside * ((3.0 * c[4] * p + 2.0 * c[5]) * p + c[6]) * per_r
            gradient[e, 0] = steep / r
            gradient[e, 1] = 0.5 * (change - phi) / (r * r)
        place = rho * per_rho + 1.0
        m = max(1, min(int(place), points - 1))
        p = min(place - m, 1.0)
        c = embedding[types[row], m - 1]
        slope = ((3.0 * c[0] * p + 2.0 * c[1]) * p + c[2]) * per_rho
        embedded = ((c[0] * p + c[1]) * p + c[2]) * p + c[3]
        embedded += slope * max(rho - (points - 1) * drho, 0.0)
        energy[row] = energy_scale * (embedded + 0.5 * pairs) + shift[types[row]]
        unit = energy_scale * distance_scale * distance_scale
        for e in range(rows[row], rows[row + 1]):
            g = unit * (slope * np.float64(gradient[e, 0]) + np.float64(gradient[e, 1]))
            gradient[e, 0] = g * vectors[e, 0]
            gradient[e, 1] = g * vectors[e, 1]
            gradient[e, 2] = g * vectors[e, 2]
