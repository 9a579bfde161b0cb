"""An expert as a nequip model with the same weights. Imports nequip.

The opposite of `duetto.conversion.expert`: nequip evaluates here what Duetto evaluates there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from duetto.conversion.expert import allegro_stages, architecture_of, scaled_weights
from duetto.errors import InputError
from duetto.experts.allegro.architecture import AllegroArchitecture, BesselEmbedding, MLPShape
from duetto.experts.allegro.expert import AllegroExpert


def nequip_model(expert: AllegroExpert, dtype: str) -> nn.Module:
    """Build nequip's Allegro model of an expert, in evaluation mode.

    Sets nequip's global state, and with it torch's default data type to float64, as nequip's own
    calculators do.

    Args:
        expert: architecture and weights.
        dtype: "float32" or "float64", nequip's `model_dtype`.

    Raises:
        InputError: nequip builds something else from these hyperparameters.
    """
    from allegro.model import AllegroModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    weights = expert.weights
    model: nn.Module = AllegroModel(
        seed=0,
        model_dtype=dtype,
        per_type_energy_scales=_by_type(expert, weights["energy.scale"]),
        per_type_energy_shifts=_by_type(expert, weights["energy.shift"]),
        **_settings(expert.architecture),
    )
    built = architecture_of(model)
    if not _equal(built, expert.architecture):
        raise InputError("nequip builds another architecture from this pair's hyperparameters")
    with_weights = {name: w for name, w in weights.items() if not name.startswith("energy.")}
    _set_weights(model, with_weights)
    return model.eval()


def _by_type(expert: AllegroExpert, values: Tensor) -> dict[str, float]:
    return dict(zip(expert.species, values.tolist(), strict=True))


def _equal(a: AllegroArchitecture, b: AllegroArchitecture) -> bool:
    """Equality of all fields but the last digits of the averages, which nequip keeps as roots."""
    one, other = a.to_json(), b.to_json()
    averages = torch.tensor([one.pop("avg_num_neighbors"), other.pop("avg_num_neighbors")])
    return one == other and torch.allclose(averages[0], averages[1], rtol=1e-6)


def _settings(a: AllegroArchitecture) -> dict[str, Any]:
    """Arguments of `AllegroModel`."""
    types = a.type_names
    uniform = all(cutoff == a.r_max for row in a.cutoffs for cutoff in row)
    cutoffs = {
        centre: dict(zip(types, row, strict=True))
        for centre, row in zip(types, a.cutoffs, strict=True)
    }
    repulsion = a.zbl and {
        "_target_": "nequip.nn.pair_potential.ZBL",
        "units": "metal",
        "chemical_species": list(types),
        "polynomial_cutoff_p": a.zbl.polynomial_cutoff_p,
    }
    return {
        "type_names": list(types),
        "r_max": a.r_max,
        "per_edge_type_cutoff": None if uniform else cutoffs,
        "l_max": a.l_max,
        "parity": a.parity,
        "num_layers": a.num_layers,
        "num_scalar_features": a.num_scalar_features,
        "num_tensor_features": a.num_tensor_features,
        "radial_chemical_embed": _embedding(a),
        "radial_chemical_embed_dim": a.embedding_dim,
        **_network("scalar_embed_mlp", a.two_body),
        **_network("allegro_mlp", a.latent),
        **_network("readout_mlp", a.readout),
        "tp_path_channel_coupling": a.tp_path_channel_coupling,
        "weight_individual_irreps": a.weight_individual_irreps,
        "avg_num_neighbors": dict(zip(types, a.avg_num_neighbors, strict=True)),
        "pair_potential": repulsion,
    }


def _embedding(a: AllegroArchitecture) -> dict[str, Any]:
    embedding = a.embedding
    if isinstance(embedding, BesselEmbedding):
        return {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": embedding.num_bessels,
            "bessel_trainable": embedding.trainable,
            "polynomial_cutoff_p": embedding.polynomial_cutoff_p,
        }
    return {
        "_target_": "allegro.nn.TwoBodySplineScalarEmbed",
        "num_splines": embedding.num_splines,
        "spline_span": embedding.spline_span,
    }


def _network(name: str, shape: MLPShape) -> dict[str, Any]:
    return {
        f"{name}_hidden_layers_depth": shape.depth,
        f"{name}_hidden_layers_width": max(shape.width, 1),
        f"{name}_nonlinearity": shape.nonlinearity,
    }


def _set_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the model's parameters the values from which `scaled_weights` makes `weights`.

    Each weight is a constant times one parameter, perhaps repeated or transposed, so the gradient
    of ½|weight|² by the parameter is that constant squared times the parameter, and the gradient
    of weight · target the same with the target in the parameter's place: no need to know how
    nequip lays its parameters out.
    """
    parameters = list(model.parameters())
    made = scaled_weights(allegro_stages(model), torch.float64)
    for name, target in weights.items():
        weight = made[name]
        if not weight.requires_grad:
            if not torch.allclose(weight, target, rtol=1e-6):
                raise InputError(f"nequip keeps {name} fixed, at other values than this pair's")
            continue
        norms = torch.autograd.grad(
            0.5 * weight.square().sum(), parameters, retain_graph=True, allow_unused=True
        )
        wanted = torch.autograd.grad(
            (weight * target).sum(), parameters, retain_graph=True, allow_unused=True
        )
        for parameter, norm, value in zip(parameters, norms, wanted, strict=True):
            if norm is not None and value is not None:
                with torch.no_grad():
                    old = parameter.detach().clone()
                    parameter.copy_(torch.where(norm == 0.0, old, value * old / norm))
