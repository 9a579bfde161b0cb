"""From atoms to edges and back: distances, harmonics, radial basis, and their adjoint."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from duetto.kernels.cpu.compiling import compiled
from duetto.kernels.cpu.harmonics import harmonics_slope, write_harmonics


@compiled
def gather_edges(
    positions: Any,
    cell: Any,
    first: Any,
    neighbor: Any,
    shift: Any,
    centres: Any,
    types: Any,
    cutoff_squared: Any,
    rows: Any,
    ends: Any,
    pair: Any,
    vectors: Any,
) -> int:
    """Edges of a chunk of centres that are shorter than the cutoff now.

    Differences of positions are taken in double precision and stored in that of `vectors`.

    Args:
        positions: (A, 3) float64.
        cell: (3, 3) float64, rows are the cell's vectors.
        first: (A + 1,) start of each atom's neighbours in the list.
        neighbor: (list,) int32.
        shift: (list, 3) int, periodic images of the neighbours.
        centres: (n,) int64.
        types: (A,) int64, the expert's type of every atom; −1 is a species that it does not know,
            never a neighbour.
        cutoff_squared: (T, T) float64.
        rows: (n + 1,) int64 OUTPUT, start of each centre's edges.
        ends: (E,) int32 OUTPUT, the neighbor of each edge.
        pair: (E,) int64 OUTPUT, centre type · T + neighbour type.
        vectors: (E, 3) OUTPUT.

    Returns:
        The number of edges.
    """
    num_types = cutoff_squared.shape[0]
    edges = 0
    for row in range(centres.shape[0]):
        i = centres[row]
        rows[row] = edges
        xi, yi, zi = positions[i, 0], positions[i, 1], positions[i, 2]
        ti = types[i]
        for slot in range(first[i], first[i + 1]):
            j = neighbor[slot]
            tj = types[j]
            if tj < 0:
                continue
            a, b, c = shift[slot, 0], shift[slot, 1], shift[slot, 2]
            dx, dy, dz = positions[j, 0] - xi, positions[j, 1] - yi, positions[j, 2] - zi
            if a != 0 or b != 0 or c != 0:
                dx += a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                dy += a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                dz += a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
            if dx * dx + dy * dy + dz * dz < cutoff_squared[ti, tj]:
                ends[edges] = j
                pair[edges] = ti * num_types + tj
                vectors[edges, 0] = dx
                vectors[edges, 1] = dy
                vectors[edges, 2] = dz
                edges += 1
    rows[centres.shape[0]] = edges
    return edges


@functools.cache
def lengths(dtype: str) -> Callable[..., None]:
    """Compile `lengths(vectors, length)`: (E, 3) to (E,) OUTPUT."""

    @compiled
    def kernel(vectors: Any, length: Any) -> None:
        for e in range(vectors.shape[0]):
            x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
            length[e] = math.sqrt(x * x + y * y + z * z)

    return kernel


@functools.cache
def harmonics(dtype: str, l_max: int) -> Callable[..., None]:
    """Compile `harmonics(vectors, length, Y)`: Y (E, D) OUTPUT, as in `kernels.harmonics`."""
    one = np.dtype(dtype).type(1.0)

    @compiled
    def kernel(vectors: Any, length: Any, Y: Any) -> None:
        for e in range(length.shape[0]):
            inverse = one / length[e]
            x, y, z = vectors[e, 0] * inverse, vectors[e, 1] * inverse, vectors[e, 2] * inverse
            write_harmonics(l_max, Y, (e, 0), x, y, z)

    return kernel


@functools.cache
def edge_gradients(dtype: str, l_max: int) -> Callable[..., None]:
    """Compile `edge_gradients(vectors, length, gY, gr, gradient)`.

    gradient (E, 3) OUTPUT = dE/dr_ij from gY (E, D) = dE/dY and gr (E,) = ∂E/∂|r_ij|: harmonics
    depend on the direction alone, so their gradient is projected off it and divided by the length.
    """
    one = np.dtype(dtype).type(1.0)

    @compiled
    def kernel(vectors: Any, length: Any, gY: Any, gr: Any, gradient: Any) -> None:
        for e in range(length.shape[0]):
            inverse = one / length[e]
            x, y, z = vectors[e, 0] * inverse, vectors[e, 1] * inverse, vectors[e, 2] * inverse
            gx, gy, gz = harmonics_slope(l_max, gY, (e, 0), x, y, z)
            radial = gr[e] - (gx * x + gy * y + gz * z) * inverse
            gradient[e, 0] = gx * inverse + radial * x
            gradient[e, 1] = gy * inverse + radial * y
            gradient[e, 2] = gz * inverse + radial * z

    return kernel


@compiled
def edge_virial(rows: Any, weight: Any, gradient: Any, vectors: Any, virial: Any) -> None:
    """Virial of a chunk, (3, 3) float64 OUTPUT = −Σ_i w_i Σ_j r_ij ⊗ g_ij with g_ij = dE_i/dr_ij.

    Args:
        rows: (n + 1,) int64, start of each centre's edges.
        weight: (n,) float64.
        gradient: (E, 3).
        vectors: (E, 3).
        virial: (3, 3) float64 OUTPUT.
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(weight.shape[0]):
        w = weight[row]
        for e in range(rows[row], rows[row + 1]):
            x = w * np.float64(vectors[e, 0])
            y = w * np.float64(vectors[e, 1])
            z = w * np.float64(vectors[e, 2])
            gx, gy, gz = gradient[e, 0], gradient[e, 1], gradient[e, 2]
            xx, xy, xz = xx - x * gx, xy - x * gy, xz - x * gz
            yx, yy, yz = yx - y * gx, yy - y * gy, yz - y * gz
            zx, zy, zz = zx - z * gx, zy - z * gy, zz - z * gz
    virial[0, 0], virial[0, 1], virial[0, 2] = xx, xy, xz
    virial[1, 0], virial[1, 1], virial[1, 2] = yx, yy, yz
    virial[2, 0], virial[2, 1], virial[2, 2] = zx, zy, zz


@compiled
def scatter_forces(
    starts: Any,
    rows: Any,
    centres: Any,
    weight: Any,
    neighbor: Any,
    gradient: Any,
    forces: Any,
) -> None:
    """Turn edge gradients g_ij = dE_i/dr_ij into forces: F_i += w_i Σ_j g_ij, F_j −= w_i g_ij.

    One edge after the other in the order of the list, so that the sums repeat bit for bit.

    Args:
        starts: (n,) int64, where each centre's edges begin in `gradient`.
        rows: (n,) int64, how many there are.
        centres: (n,) int64.
        weight: (n,) float64; centres without weight are passed over.
        neighbor: (list,) int32.
        gradient: (list, 3).
        forces: (A, 3) float64, ADDED TO.
    """
    for row in range(centres.shape[0]):
        w = weight[row]
        if w == 0.0:
            continue
        fx, fy, fz = 0.0, 0.0, 0.0
        for e in range(starts[row], starts[row] + rows[row]):
            gx = np.float64(gradient[e, 0])
            gy = np.float64(gradient[e, 1])
            gz = np.float64(gradient[e, 2])
            j = neighbor[e]
            forces[j, 0] -= w * gx
            forces[j, 1] -= w * gy
            forces[j, 2] -= w * gz
            fx += gx
            fy += gy
            fz += gz
        i = centres[row]
        forces[i, 0] += w * fx
        forces[i, 1] += w * fy
        forces[i, 2] += w * fz
