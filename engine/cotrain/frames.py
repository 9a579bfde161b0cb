"""Parts of a batch: some of its frames, the edges within one expert's cutoff."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from nequip.data import AtomicDataDict, register_fields
from nequip.data._key_registry import get_field_type
from nequip.nn import with_edge_vectors_
from torch import Tensor

AGREEMENT_KEY = "agreement"
"""Per atom, 1 where its surroundings are shared bulk: the experts are asked to agree there."""

_FITS = "fits_"


def fits_key(role: str) -> str:
    """Per frame, 1 where its labels train the expert of this role."""
    return _FITS + role


def register_cotraining_fields(roles: Iterable[str]) -> None:
    """Tell nequip's batching of the fields above; may be called again."""
    keys = [fits_key(role) for role in roles]
    register_fields(
        graph_fields=keys, node_fields=[AGREEMENT_KEY], long_fields=[*keys, AGREEMENT_KEY]
    )


def select_frames(data: AtomicDataDict.Type, keep: Tensor) -> AtomicDataDict.Type:
    """A batch of some frames of a batch.

    Args:
        data: a batch of B frames.
        keep: (B,) bool.

    Returns:
        The batch itself if all frames are kept, else a new one without unregistered fields.
    """
    if bool(keep.all()):
        return data
    batch = data[AtomicDataDict.BATCH_KEY]
    nodes = keep[batch]
    edge_index = data.get(AtomicDataDict.EDGE_INDEX_KEY)
    edges = None if edge_index is None else nodes[edge_index[0]]
    rows = {"graph": keep, "node": nodes, "edge": edges}
    selected: AtomicDataDict.Type = {}
    for key, value in data.items():
        kind = get_field_type(key, error_on_unregistered=False)
        if key == AtomicDataDict.EDGE_INDEX_KEY:
            selected[key] = (nodes.cumsum(0) - 1)[value[:, edges]]
        elif key == AtomicDataDict.BATCH_KEY:
            selected[key] = (keep.cumsum(0) - 1)[value[nodes]]
        elif kind in rows:
            selected[key] = value[rows[kind]]
    return selected


def edges_within(data: AtomicDataDict.Type, cutoffs: Tensor) -> AtomicDataDict.Type:
    """The batch with only the edges inside a cutoff.

    Args:
        data: a batch with a neighbour list at least as long.
        cutoffs: (T, T) Å, by type of centre and neighbour.
    """
    edge_index = data[AtomicDataDict.EDGE_INDEX_KEY]
    lengths = with_edge_vectors_(data.copy())[AtomicDataDict.EDGE_LENGTH_KEY].view(-1)
    types = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
    inside = lengths < cutoffs[types[edge_index[0]], types[edge_index[1]]]
    if bool(inside.all()):
        return data
    pruned = data.copy()
    pruned[AtomicDataDict.EDGE_INDEX_KEY] = edge_index[:, inside]
    if AtomicDataDict.EDGE_CELL_SHIFT_KEY in data:
        pruned[AtomicDataDict.EDGE_CELL_SHIFT_KEY] = data[AtomicDataDict.EDGE_CELL_SHIFT_KEY][
            inside
        ]
    return pruned


def frames_with(data: AtomicDataDict.Type, nodes: Tensor) -> Tensor:
    """(B,) bool: the frames that hold any of the marked atoms (A,) bool."""
    frames = data[AtomicDataDict.NUM_NODES_KEY]
    marked = torch.zeros(len(frames), dtype=torch.bool, device=nodes.device)
    return marked.index_fill(0, data[AtomicDataDict.BATCH_KEY][nodes], True)
