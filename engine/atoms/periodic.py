"""Distances and wrapping in any cell: triclinic, partly periodic, smaller than the distance."""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.geometry import complete_cell, minkowski_reduce

Array: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

# Fractional slack for the rounding of a coordinate on the cell's face, as in `ase.Atoms.wrap`.
FACE = 1e-7


class Nearest(NamedTuple):
    """For each query its `distance` (Q,) in Å to the nearest point, and which `point` (Q,) it is.

    Where no point lies within the limit: distance inf, point -1.
    """

    distance: Array
    point: Indices


class Pairs(NamedTuple):
    """Pairs of a `query` (P,) and a `point` (P,) at a `distance` (P,), Å.

    `shift` (P, 3), whole numbers as floats: which image of the point, in cell vectors, from the
    positions as they are given, wrapped or not.
    """

    query: Indices
    point: Indices
    distance: Array
    shift: Array


def wrap(positions: Array, cell: Array, pbc: npt.NDArray[np.bool_]) -> Array:
    """Positions (A, 3) moved into the cell along its periodic vectors.

    A cell vector along which the structure is not periodic plays no part. An atom less than
    `FACE` of a cell vector below a face stays there instead of jumping to the opposite one.
    """
    if not pbc.any():
        return positions
    basis = complete_basis(cell, pbc)
    inverse = np.linalg.inv(basis)
    # Twice: of an atom many cells away the first pass knows the fraction only roughly.
    for _ in range(2):
        positions = positions - np.where(pbc, np.floor(positions @ inverse + FACE), 0.0) @ basis
    return positions


def across(positions: Array, cell: Array, pbc: npt.NDArray[np.bool_]) -> Array:
    """Coordinates (A, N), in Å, along the N directions perpendicular to all periodic vectors."""
    return np.asarray(positions @ np.linalg.inv(complete_basis(cell, pbc))[:, ~pbc])


def nearest(
    queries: Array,
    points: Array,
    cell: Array,
    pbc: npt.NDArray[np.bool_],
    limit: float,
    *,
    skip_self: Indices | None = None,
) -> Nearest:
    """The nearest point, over all periodic images, of each query.

    All images that can lie within `limit` are written out, so the cell may be smaller than
    `limit`. Time and memory are O((Q + P) log P) plus the images in the shell around the cell.

    Args:
        queries: (Q, 3), Å.
        points: (P, 3), Å.
        cell: (3, 3), rows are the vectors, Å.
        pbc: (3,).
        limit: Å; only points closer than this count.
        skip_self: (Q,), for each query the point that is the query itself (-1: none), which
            does not count; its periodic images do.
    """
    if not len(queries) or not len(points):
        return Nearest(np.full(len(queries), np.inf), np.full(len(queries), -1))
    from scipy.spatial import cKDTree  # slow to import

    queries, images, source = _write_images_out(queries, points, cell, pbc, limit)
    tree = cKDTree(images)
    if skip_self is None:
        distance, hit = tree.query(queries, distance_upper_bound=limit)
    else:
        distance, hit = tree.query(queries, k=2, distance_upper_bound=limit)
        # The first hit is the query itself unless another point coincides with it.
        itself = (np.append(source, -2)[hit[:, 0]] == skip_self) & (distance[:, 0] < FACE)
        pick = (np.arange(len(queries)), itself.astype(np.int64))
        distance, hit = distance[pick], hit[pick]
    return Nearest(distance, np.append(source, -1)[hit])


def pairs_within(
    queries: Array, points: Array, cell: Array, pbc: npt.NDArray[np.bool_], limit: float
) -> Pairs:
    """All pairs of a query and an image of a point closer than `limit`, in no special order.

    A query that coincides with a point is a pair, too.

    Args:
        queries: (Q, 3), Å.
        points: (P, 3), Å.
        cell: (3, 3), rows are the vectors, Å.
        pbc: (3,).
        limit: Å.
    """
    if not len(queries) or not len(points):
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, np.zeros(0), np.zeros((0, 3)))
    from scipy.spatial import cKDTree

    wrapped, images, source = _write_images_out(queries, points, cell, pbc, limit)
    found = cKDTree(wrapped).sparse_distance_matrix(cKDTree(images), limit, output_type="ndarray")
    i, image = found["i"].astype(np.int64), found["j"].astype(np.int64)
    j = source[image]
    lattice = (images[image] - wrapped[i]) - (points[j] - queries[i])
    shift = np.where(pbc, np.round(lattice @ np.linalg.inv(complete_basis(cell, pbc))), 0.0)
    return Pairs(i, j, found["v"], shift)


def complete_basis(cell: Array, pbc: npt.NDArray[np.bool_]) -> Array:
    """The periodic vectors, completed by unit vectors perpendicular to them."""
    return np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))


def heights(basis: Array) -> Array:
    """Distance between the opposite faces of the cell, per vector; 0 where it is flat."""
    faces = np.array([_cross(basis[k - 2], basis[k - 1]) for k in range(3)])
    volume, areas = abs(basis[0] @ faces[0]), np.sqrt((faces**2).sum(axis=1))
    return np.divide(volume, areas, out=np.zeros(3), where=areas > 0)


def _cross(a: Array, b: Array) -> list[float]:
    """a × b of two vectors, for which `np.cross` takes ten times as long."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]


def _write_images_out(
    queries: Array, points: Array, cell: Array, pbc: npt.NDArray[np.bool_], limit: float
) -> tuple[Array, Array, Indices]:
    """Wrapped queries, and every image of a point that can be within `limit` of one of them."""
    source = np.arange(len(points))
    if not pbc.any():
        return queries, points, source
    # A reduced basis needs the fewest images; the lattice, and so every distance, is the same.
    basis = np.asarray(minkowski_reduce(complete_basis(cell, pbc), pbc)[0])
    queries, points = wrap(queries, basis, pbc), wrap(points, basis, pbc)
    inverse = np.linalg.inv(basis)
    reach = min(limit, _farthest(queries, points, basis, pbc)) / heights(basis) + FACE
    for axis in np.flatnonzero(pbc):
        shifts = np.arange(-np.ceil(reach[axis]), np.ceil(reach[axis]) + 1)
        spread = (points[None] + shifts[:, None, None] * basis[axis]).reshape(-1, 3)
        fraction = spread @ inverse[:, axis]
        kept = (fraction >= -reach[axis] - FACE) & (fraction <= 1 + reach[axis] + FACE)
        points, source = spread[kept], np.tile(source, len(shifts))[kept]
    return queries, points, source


def _farthest(queries: Array, points: Array, basis: Array, pbc: npt.NDArray[np.bool_]) -> float:
    """An upper bound, in Å, of the distance from any query to the nearest image of a point.

    Rounding fractional differences to the nearest image leaves at most half of each periodic
    vector; across the other directions nothing is gained by images.
    """
    along = np.linalg.norm(basis[pbc], axis=1).sum() / 2
    beside = across(np.concatenate([queries, points]), basis, pbc)
    extent = np.linalg.norm(beside.max(axis=0) - beside.min(axis=0))
    return float(along + extent) * (1 + FACE) + FACE


def moved(before: Atoms, after: Atoms) -> Array:
    """How far each atom (A,) has moved against the others, Å.

    A common translation, whole lattice vectors and a strain of the cell do not count. Both have
    the same atoms and periodicity. In a very skewed cell a distance of more than half of it may
    come out too long.
    """
    pbc = np.asarray(before.pbc, dtype=bool)
    bases = [complete_basis(atoms.cell.array, pbc) for atoms in (before, after)]
    start, end = (
        atoms.positions @ np.linalg.inv(basis)
        for atoms, basis in zip((before, after), bases, strict=True)
    )
    steps = end - start
    # Against one atom first: steps on either side of half a cell have no median.
    steps = _nearest_images(steps - steps[:1], pbc)
    steps = _nearest_images(steps - np.median(steps, axis=0), pbc)
    return np.asarray(np.linalg.norm(steps @ bases[1], axis=1))


def _nearest_images(fractional: Array, pbc: npt.NDArray[np.bool_]) -> Array:
    """Fractional differences (N, 3), rounded into −1/2 to 1/2 along the periodic vectors."""
    return np.where(pbc, fractional - np.rint(fractional), fractional)
