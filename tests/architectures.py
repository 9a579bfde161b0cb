"""Small nequip Allegro models drawn across everything that a pair file may hold."""

from __future__ import annotations

from typing import Any

BESSEL = {
    "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
    "num_bessels": 8,
    "bessel_trainable": False,
    "polynomial_cutoff_p": 6,
}
SPLINE = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": 10, "spline_span": 6}
ZBL = {
    "_target_": "nequip.nn.pair_potential.ZBL",
    "units": "metal",
    "chemical_species": ["Pt", "C", "O"],
}
TYPES = ["Pt", "C", "O"]

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "l1_one_layer": {"l_max": 1, "num_layers": 1},
    "l1_three_layers": {"l_max": 1, "num_layers": 3},
    "l2_parity": {"l_max": 2, "num_layers": 2},
    "l2_no_parity": {"l_max": 2, "num_layers": 2, "parity": False},
    "l2_three_layers_parity": {"l_max": 2, "num_layers": 3},
    "l3_parity": {"l_max": 3, "num_layers": 2},
    "l3_three_layers_no_parity": {"l_max": 3, "num_layers": 3, "parity": False},
    "uncoupled_paths": {
        "l_max": 2,
        "num_layers": 2,
        "tp_path_channel_coupling": False,
        # Three networks of three widths: elsewhere all have the width of tests/pairs.py, so that
        # what is compiled for one test serves many.
        "scalar_embed_mlp_hidden_layers_width": 12,
        "allegro_mlp_hidden_layers_width": 10,
        "readout_mlp_hidden_layers_width": 6,
    },
    "trainable_bessel": {
        "l_max": 1,
        "num_layers": 2,
        "radial_chemical_embed": {**BESSEL, "bessel_trainable": True, "polynomial_cutoff_p": 5},
    },
    "spline": {"l_max": 2, "num_layers": 1, "radial_chemical_embed": SPLINE},
    "deep_mlps": {
        "l_max": 2,
        "num_layers": 2,
        "scalar_embed_mlp_hidden_layers_depth": 2,
        "allegro_mlp_hidden_layers_depth": 2,
        "readout_mlp_hidden_layers_depth": 2,
    },
    "linear_mlps": {
        "l_max": 2,
        "num_layers": 2,
        "scalar_embed_mlp_hidden_layers_depth": 0,
        "allegro_mlp_hidden_layers_depth": 0,
        "readout_mlp_hidden_layers_depth": 0,
    },
    "no_nonlinearity": {"l_max": 1, "num_layers": 2, "allegro_mlp_nonlinearity": None},
    "mish_gelu_ssp": {
        "l_max": 1,
        "num_layers": 2,
        "scalar_embed_mlp_nonlinearity": "mish",
        "allegro_mlp_nonlinearity": "gelu",
        "readout_mlp_nonlinearity": "ssp",
    },
    "tanh_sigmoid_softplus": {
        "l_max": 1,
        "num_layers": 2,
        "scalar_embed_mlp_nonlinearity": "tanh",
        "allegro_mlp_nonlinearity": "sigmoid",
        "readout_mlp_nonlinearity": "softplus",
    },
    "per_type": {
        "l_max": 2,
        "num_layers": 2,
        "per_edge_type_cutoff": {"Pt": 3.9, "C": {"Pt": 3.5, "C": 2.9, "O": 3.1}},
        "per_type_energy_scales": {"Pt": 1.3, "C": 0.7, "O": 0.9},
        "per_type_energy_shifts": {"Pt": -6.0, "C": -7.5, "O": -5.1},
        "avg_num_neighbors": {"Pt": 14.0, "C": 9.0, "O": 7.0},
    },
    "zbl": {"l_max": 1, "num_layers": 1, "pair_potential": ZBL},
    "narrow_embedding_shared_irreps": {
        "l_max": 2,
        "num_layers": 2,
        "radial_chemical_embed_dim": 6,
        "weight_individual_irreps": False,
    },
}


def build(name: str, *, dtype: str = "float64", seed: int = 7, **changes: Any) -> Any:
    """Build the named nequip model with fresh weights."""
    from allegro.model import AllegroModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    settings: dict[str, Any] = {
        "seed": seed,
        "model_dtype": dtype,
        "type_names": TYPES,
        "r_max": 4.1,
        "parity": True,
        "radial_chemical_embed": BESSEL,
        "scalar_embed_mlp_hidden_layers_depth": 1,
        "scalar_embed_mlp_hidden_layers_width": 8,
        "num_scalar_features": 8,
        "num_tensor_features": 4,
        "allegro_mlp_hidden_layers_depth": 1,
        "allegro_mlp_hidden_layers_width": 8,
        "readout_mlp_hidden_layers_depth": 1,
        "readout_mlp_hidden_layers_width": 8,
        "avg_num_neighbors": 12.0,
        "per_type_energy_shifts": -1.0,
        "per_type_energy_scales": 1.0,
    }
    settings |= ARCHITECTURES[name] | changes
    return AllegroModel(**settings).eval()
