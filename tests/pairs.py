"""Expert pairs with random weights, for tests that need no trained potential."""

from __future__ import annotations

from typing import Any

from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    BesselEmbedding,
    MLPShape,
    ZBLTerm,
)
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair

SPECIES = ("Pt", "C", "O")


def architecture(**changes: Any) -> AllegroArchitecture:
    """A small two-layer expert for Pt, C and O."""
    width = changes.pop("width", 8)
    r_max = changes.pop("r_max", 4.2)
    types = changes.pop("type_names", SPECIES)
    mlp = MLPShape(1, width, "silu")
    fields: dict[str, Any] = {
        "type_names": types,
        "r_max": r_max,
        "cutoffs": ((r_max,) * len(types),) * len(types),
        "l_max": 2,
        "parity": True,
        "num_layers": 2,
        "num_scalar_features": width,
        "num_tensor_features": width // 2,
        "embedding": BesselEmbedding(8, 6.0),
        "embedding_dim": width,
        "two_body": mlp,
        "latent": mlp,
        "readout": mlp,
        "tp_path_channel_coupling": True,
        "weight_individual_irreps": True,
        "avg_num_neighbors": (12.0,) * len(types),
    }
    return AllegroArchitecture(**(fields | changes))


def high_fidelity(seed: int = 1, **changes: Any) -> AllegroExpert:
    """Two layers, l_max 2."""
    a = architecture(**changes)
    return AllegroExpert(a, random_weights(a, seed))


def low_fidelity(seed: int = 2, **changes: Any) -> AllegroExpert:
    """One layer, l_max 1, a shorter cutoff."""
    a = architecture(**({"l_max": 1, "num_layers": 1, "r_max": 3.6, "width": 4} | changes))
    return AllegroExpert(a, random_weights(a, seed))


def mismatched_pair(seed: int = 1, zbl: bool = False) -> ExpertPair:
    """Two experts that know nothing of each other; `zbl` keeps atoms apart in dynamics."""
    term = ZBLTerm(6.0) if zbl else None
    return ExpertPair(high_fidelity(seed, zbl=term), low_fidelity(seed + 1, zbl=term))
