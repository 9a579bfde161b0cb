"""A look at the backend without any file: a random pair on random atoms, against the reference."""

from __future__ import annotations

import numpy as np
import torch

from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    BesselEmbedding,
    MLPShape,
    ZBLTerm,
)
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential

SPECIES = ("Pt", "C", "O")
_BOX = 9.0  # Å
_SPACING = 2.25  # Å, of the lattice that the atoms are displaced from


def random_pair() -> ExpertPair:
    """Two small untrained experts, always the same."""
    hf = _architecture(r_max=4.5, l_max=2, num_layers=2, features=16)
    lf = _architecture(r_max=4.0, l_max=1, num_layers=1, features=8)
    return ExpertPair(
        AllegroExpert(hf, random_weights(hf, seed=1)), AllegroExpert(lf, random_weights(lf, seed=2))
    )


def _architecture(r_max: float, l_max: int, num_layers: int, features: int) -> AllegroArchitecture:
    types = len(SPECIES)
    network = MLPShape(depth=1, width=features, nonlinearity="silu")
    return AllegroArchitecture(
        type_names=SPECIES,
        r_max=r_max,
        cutoffs=((r_max,) * types,) * types,
        l_max=l_max,
        parity=True,
        num_layers=num_layers,
        num_scalar_features=features,
        num_tensor_features=features // 2,
        embedding=BesselEmbedding(num_bessels=8, polynomial_cutoff_p=6.0),
        embedding_dim=features,
        two_body=network,
        latent=network,
        readout=network,
        tp_path_channel_coupling=True,
        weight_individual_irreps=True,
        avg_num_neighbors=(30.0,) * types,
        zbl=ZBLTerm(polynomial_cutoff_p=6.0),
    )


def check_backend(device: str, dtype: str) -> tuple[str, float]:
    """Compare the backend that `device` gets by default with the reference.

    64 atoms in a periodic box, a third of them complex, a third blended, a third simple.

    Args:
        device: "cpu" or "cuda".
        dtype: "float32" or "float64".

    Returns:
        Name of the backend, and its largest error of a force over the largest force.

    Raises:
        RunStopped: the error is above what the data type explains.
    """
    generator = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3) * _SPACING
    positions = torch.from_numpy(sites + generator.normal(0.0, 0.1, sites.shape)).to(device)
    cell = torch.eye(3, dtype=torch.float64, device=device) * _BOX
    species = generator.choice(SPECIES, len(sites)).tolist()
    weights = generator.choice([0.0, 0.5, 1.0], len(sites))
    potential = Potential(
        random_pair(), species, weights, (True, True, True), device=device, dtype=dtype
    )
    return potential.backend.name, potential.self_check(positions, cell)
