"""Edges that somebody else has listed, in the rows that expert kernels read."""

from __future__ import annotations

import torch
from torch import Tensor

from duetto.kernels.triton.expert_spec import SLOTS
from duetto.kernels.triton.neighbor_list import N_TILES, SMALLEST_TILE, CapacityError, DeviceEdges


def edge_rows(
    first: Tensor, centre_types: Tensor, neighbor_types: Tensor, vectors: Tensor
) -> DeviceEdges:
    """Rows of expert 0, one for every centre, in the order of the centres, each by itself.

    Args:
        first: (C + 1,) int64, where each centre's edges begin.
        centre_types: (C,) int.
        neighbor_types: (E,) int.
        vectors: (E, 3), r_j − r_i, Å.

    Returns:
        Edges with rows 0 … C − 1 and vectors in float32; `neighbors` is empty, for experts do not
        read it.

    Raises:
        CapacityError: a centre has more edges than the largest tile.
    """
    counts, C = first.diff(), len(centre_types)
    tiles = [SMALLEST_TILE << t for t in range(N_TILES)]
    most = int(counts.max()) if C else 0
    if most > tiles[-1]:
        raise CapacityError(
            f"an atom has {most} neighbours inside the cutoff; the kernels take at most {tiles[-1]}"
        )
    tile = torch.bucketize(counts, first.new_tensor(tiles[:-1]))
    sizes = torch.bincount(tile, minlength=N_TILES).tolist() + [0] * N_TILES
    work = first.new_full((2 * N_TILES, C, SLOTS), -1, dtype=torch.int32)
    for key, rows in enumerate(tile.argsort(stable=True).split(sizes[:N_TILES])):
        work[key, : len(rows), 0] = rows
    return DeviceEdges(
        rowptr=first.long().contiguous(),
        neighbors=first.new_zeros(0, dtype=torch.int32),
        neighbor_types=neighbor_types.int().contiguous(),
        vectors=vectors.float().T.contiguous(),
        row_types=centre_types.int().contiguous(),
        work=work,
        work_count=tuple(work.new_tensor(sizes).split(1)),
        work_capacity=tuple(sizes),
    )
