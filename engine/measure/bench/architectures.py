"""Architectures to measure, by name, with weights drawn as a fresh model's are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from duetto.errors import InputError
from duetto.experts.allegro.architecture import AllegroArchitecture, BesselEmbedding, MLPShape
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.measure.bench.systems import LATTICE_CONSTANT

_SIZES = {
    # name: l_max, parity, layers, scalar features, tensor features, MLP width, readout width
    "hf64": (2, True, 2, 64, 32, 64, 32),
    "hf64_no_parity": (2, False, 2, 64, 32, 64, 32),
    "hf32": (2, True, 2, 32, 16, 32, 32),
    "l3": (3, True, 2, 64, 32, 64, 32),
    "lf32": (1, True, 1, 32, 16, 32, 32),
    "lf16": (1, True, 1, 16, 8, 16, 16),
}
ARCHITECTURES = tuple(_SIZES)


def architecture_named(name: str, r_max: float, species: Sequence[str]) -> AllegroArchitecture:
    """The architecture called `name`, for these species and this cutoff in Å.

    Eight Bessel functions, SiLU networks with one hidden layer, sums normalised by the number of
    neighbours in bulk platinum.

    Raises:
        InputError: there is no such name, or the cutoff is out of range.
    """
    if name not in _SIZES:
        raise InputError(f"architecture {name!r}: use one of {', '.join(ARCHITECTURES)}")
    l_max, parity, layers, scalars, tensors, width, readout = _SIZES[name]
    T = len(species)
    density = 4.0 / LATTICE_CONSTANT**3
    return AllegroArchitecture(
        type_names=tuple(species),
        r_max=r_max,
        cutoffs=((r_max,) * T,) * T,
        l_max=l_max,
        parity=parity,
        num_layers=layers,
        num_scalar_features=scalars,
        num_tensor_features=tensors,
        embedding=BesselEmbedding(num_bessels=8, polynomial_cutoff_p=6.0),
        embedding_dim=scalars,
        two_body=MLPShape(1, width, "silu"),
        latent=MLPShape(1, width, "silu"),
        readout=MLPShape(1, readout, "silu"),
        tp_path_channel_coupling=True,
        weight_individual_irreps=True,
        avg_num_neighbors=(4.0 / 3.0 * math.pi * r_max**3 * density,) * T,
    )


def random_pair(
    hf: str, lf: str | None, *, hf_r_max: float, lf_r_max: float, species: Sequence[str], seed: int
) -> ExpertPair:
    """A pair of named architectures with random weights; `lf` None leaves it out."""
    experts = {}
    for role, name, r_max in (("hf", hf, hf_r_max), ("lf", lf, lf_r_max)):
        if name is not None:
            architecture = architecture_named(name, r_max, species)
            weights = random_weights(architecture, seed if role == "hf" else seed + 1)
            experts[role] = AllegroExpert(architecture, weights)
    return ExpertPair(
        hf=experts["hf"], lf=experts.get("lf"), provenance={"weights": f"random, seed {seed}"}
    )
