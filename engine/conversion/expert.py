"""nequip models, checkpoints and packages to experts. Imports nequip; a production run does not.

Only what `allegro.model.AllegroModel` builds is taken, and every module in the model is looked at,
so that a part Duetto would not evaluate is refused by its name, never dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duetto.errors import InputError
from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    BesselEmbedding,
    MLPShape,
    SplineEmbedding,
    ZBLTerm,
)
from duetto.experts.allegro.folding import weight_shapes
from duetto.files import require_file
from duetto.kernels.constants import COULOMB

_ACTIVATION_MODULES = {
    "SiLU": "silu",
    "Mish": "mish",
    "GELU": "gelu",
    "ShiftedSoftplus": "ssp",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Identity": None,
}
_STAGES = {
    "edge_norm": {"EdgeLengthNormalizer"},
    "radial_chemical_embed": {"SequentialGraphNetwork", "TwoBodySplineScalarEmbed"},
    "scalar_embed_mlp": {"ScalarMLP"},
    "tensor_embed": {"TwoBodySphericalHarmonicTensorEmbed"},
    "allegro": {"Allegro_Module"},
    "edge_readout": {"ScalarMLP"},
    "edge_eng_sum": {"EdgewiseReduce"},
    "per_type_energy_scale_shift": {"PerTypeScaleShift"},
    "cutoff": {"AddRadialCutoffToData"},
    "pair_potential": {"ZBL"},
    "total_energy_sum": {"AtomwiseReduce"},
}
_OPTIONAL_STAGES = {"cutoff", "pair_potential"}
_ZBL_PREFACTOR = COULOMB * 0.5
"""eV Å, nequip's value in LAMMPS's metal units; half to each side of a pair."""


def load_nequip(source: str | os.PathLike[str] | nn.Module, key: str) -> nn.Module:
    """The nequip model behind a path or an object.

    Args:
        source: a checkpoint (`*.ckpt`), a package (`*.nequip.zip`), or a nequip model.
        key: "hf" or "lf"; which model to take where the file holds several.

    Raises:
        InputError: the file is missing or is not a nequip model.
    """
    if isinstance(source, nn.Module):
        return source
    models = nequip_models(source)
    if key in models:
        return models[key]
    if len(models) == 1:
        return next(iter(models.values()))
    names = ", ".join(models)
    raise InputError(f"{source}: holds the models {names}, and none is called {key}")


def nequip_models(source: str | os.PathLike[str]) -> dict[str, nn.Module]:
    """The models of a checkpoint or package by name, with averaged (EMA) weights if it has them.

    They are evaluated by nequip's own code, also if they were trained in the folded form. As
    nequip's commands do, this sets nequip's global state: default dtype float64, and its seed.

    Raises:
        InputError: the file is missing, or nequip cannot read it.
    """
    path = Path(source)
    require_file(path, "nequip checkpoint or package")
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.scripts._workflow_utils import get_workflow_state, set_workflow_state
    from nequip.utils.global_state import set_global_state

    set_global_state()
    before = get_workflow_state()
    set_workflow_state("compile")
    try:
        return dict(load_saved_model(path, model_key=None).items())
    except Exception as error:  # nequip raises whatever its unpickling met
        raise InputError(f"{path}: cannot be read as a nequip model: {error}") from error
    finally:
        set_workflow_state(before)


def expert_from_nequip(model: nn.Module) -> tuple[AllegroArchitecture, dict[str, Tensor]]:
    """Architecture and detached float64 weights of a nequip Allegro model.

    Raises:
        InputError: the model is not an Allegro model or has a part that is not supported.
    """
    stages = allegro_stages(model)
    architecture = architecture_of(model)
    weights = {
        name: tensor.detach().to(device="cpu", dtype=torch.float64).contiguous()
        for name, tensor in scaled_weights(stages, torch.float64).items()
    }
    for name, shape in weight_shapes(architecture).items():
        if tuple(weights[name].shape) != shape:
            given = tuple(weights[name].shape)
            raise InputError(f"weight {name} has shape {given} where {shape} is expected")
    return architecture, weights


def allegro_stages(model: nn.Module) -> dict[str, Any]:
    """The modules of an Allegro model by name, each checked to be one that Duetto evaluates."""
    found = [
        dict(module.named_children())
        for module in model.modules()
        if "allegro" in dict(module.named_children())
    ]
    if len(found) != 1:
        raise InputError(
            f"{type(model).__name__} is not a nequip Allegro model: no `allegro` stage in it"
        )
    stages = found[0]
    for name, module in stages.items():
        kinds = _STAGES.get(name)
        kind = type(module).__name__
        if kinds is None or kind not in kinds:
            raise InputError(f"the model's stage {name} ({kind}) is not supported")
    missing = set(_STAGES) - _OPTIONAL_STAGES - set(stages)
    if missing:
        raise InputError(f"the model lacks the stages {', '.join(sorted(missing))}")
    return stages


def architecture_of(model: nn.Module) -> AllegroArchitecture:
    """Hyperparameters of a nequip Allegro model, read off its modules."""
    stages = allegro_stages(model)
    allegro, norm = stages["allegro"], stages["edge_norm"]
    types = tuple(stages["per_type_energy_scale_shift"].type_names)
    T = len(types)
    cutoffs = (1.0 / norm._rmax_recip.double()).reshape(-1).expand(T * T).view(T, T)
    environments = allegro.tps[0].irreps_in2
    l_max = max(ir.l for _, ir in environments)
    return AllegroArchitecture(
        type_names=types,
        r_max=float(norm.r_max),
        cutoffs=tuple(tuple(_tidy(c) for c in row) for row in cutoffs.tolist()),
        l_max=l_max,
        parity=_has_parity(allegro),
        num_layers=allegro.num_layers,
        num_scalar_features=allegro.num_scalar_features,
        num_tensor_features=allegro.num_tensor_features,
        embedding=_embedding(stages["radial_chemical_embed"]),
        embedding_dim=_mlp_matrices(stages["scalar_embed_mlp"].mlp_module)[0].shape[0],
        two_body=_mlp_shape(stages["scalar_embed_mlp"].mlp_module),
        latent=_mlp_shape(allegro.latents[0]),
        readout=_mlp_shape(stages["edge_readout"].mlp_module),
        tp_path_channel_coupling=allegro.tps[0].path_channel_coupling,
        weight_individual_irreps=allegro._env_weighter.weight_individual_irreps,
        avg_num_neighbors=_avg_num_neighbors(allegro.avg_num_neighbors_norm, T),
        zbl=_zbl(stages.get("pair_potential")),
    )


def scaled_weights(stages: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights as `duetto.experts.allegro.folding` names them, differentiable in the parameters."""
    weights: dict[str, Tensor] = {}
    allegro = stages["allegro"]
    T = stages["per_type_energy_scale_shift"].num_types
    weights |= _embedding_weights(stages["radial_chemical_embed"], T, dtype)
    weights |= _named("two_body", stages["scalar_embed_mlp"].mlp_module, dtype)
    tensor_weights = _single(stages["tensor_embed"].env_embed_linear, dtype)
    weights["tensor_embedding"] = tensor_weights
    weights["environment"] = _single(allegro.first_layer_env_embed_projection, dtype)
    for n, (latent, product) in enumerate(zip(allegro.latents, allegro.tps, strict=True)):
        weights |= _named(f"latent.{n}", latent, dtype)
        path_weights = product.weights.to(dtype)
        if product.num_paths == 1:
            path_weights = path_weights[..., None]
        weights[f"product.{n}"] = path_weights.expand(product.mul, -1).t()
    weights |= _named("readout", stages["edge_readout"].mlp_module, dtype)
    scale_shift = stages["per_type_energy_scale_shift"]
    ones = torch.ones(T, dtype=torch.float64, device=tensor_weights.device)
    has_scales, has_shifts = scale_shift.has_scales, scale_shift.has_shifts
    weights["energy.scale"] = ones * (scale_shift.scales.view(-1) if has_scales else 1.0)
    weights["energy.shift"] = ones * (scale_shift.shifts.view(-1) if has_shifts else 0.0)
    return weights


def _tidy(value: float) -> float:
    """Undo the rounding of a reciprocal: 1 / (1 / 4.1) is 4.1 again."""
    rounded = round(value, 10)
    return rounded if abs(rounded - value) <= 4e-16 * abs(value) else value


def _has_parity(allegro: Any) -> bool:
    return any(ir.p != (-1) ** ir.l for _, ir in allegro.tensor_track_allowed_irreps)


def _avg_num_neighbors(norm: Any, T: int) -> tuple[float, ...]:
    return tuple((1.0 / norm.norm_const.double() ** 2).view(-1).expand(T).tolist())


def _embedding(module: Any) -> BesselEmbedding | SplineEmbedding:
    if hasattr(module, "spline"):
        return SplineEmbedding(module.spline.num_splines, module.spline.spline_span)
    if not (hasattr(module, "bessel_encode") and hasattr(module, "type_embed")):
        raise InputError(f"radial_chemical_embed {type(module).__name__} is not supported")
    bessel = module.bessel_encode
    return BesselEmbedding(bessel.num_bessels, float(bessel.cutoff.p), bool(bessel.trainable))


def _embedding_weights(module: Any, T: int, dtype: torch.dtype) -> dict[str, Tensor]:
    if hasattr(module, "spline"):
        spline = module.spline
        shape = (T, T, spline.num_channels, spline.num_splines)
        return {"radial.spline": spline.class_embed.weight.to(dtype).view(shape)}
    return {
        "radial.roots": module.bessel_encode.bessel_weights[0],
        "radial.linear": _single(module.type_embed.basis_linear, dtype),
        "radial.centre": module.type_embed.center_embed.weight.to(dtype),
        "radial.neighbour": module.type_embed.neighbor_embed.weight.to(dtype),
    }


def _zbl(module: Any) -> ZBLTerm | None:
    if module is None:
        return None
    prefactor = float(module._qqr2exesquare)
    if abs(prefactor - _ZBL_PREFACTOR) > 1e-6 * _ZBL_PREFACTOR:
        raise InputError("pair_potential ZBL: only units `metal` (eV, Å) are supported")
    return ZBLTerm(float(module.cutoff.p))


def _layers(function: Any) -> Iterator[Any]:
    if type(function.mlp).__name__ == "DeepLinearMLP":
        yield function.mlp
    else:
        yield from function.mlp


def _activation(function: Any) -> str | None:
    """Name of a network's nonlinearity, None if it is linear."""
    for layer in _layers(function):
        kind = type(layer).__name__
        if kind in {"ScalarLinearLayer", "ParametrizedScalarLinearLayer", "DeepLinearMLP"}:
            continue
        if kind not in _ACTIVATION_MODULES:
            raise InputError(f"nonlinearity {kind} is not supported")
        if kind == "GELU" and layer.approximate != "none":
            raise InputError(f"nonlinearity GELU(approximate={layer.approximate!r}) unsupported")
        return _ACTIVATION_MODULES[kind]
    return None


def _mlp_matrices(function: Any, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Matrices of a network, scale factors multiplied in; a linear network gives one."""
    matrices = []
    for layer in _layers(function):
        if type(layer).__name__ == "DeepLinearMLP":
            product = torch.linalg.multi_dot([weight.to(dtype) for weight in layer.weights])
            matrices.append(product * layer.alpha.to(dtype))
        elif hasattr(layer, "weight"):
            if layer.bias is not None:
                raise InputError("a network with biases is not supported")
            matrices.append(layer.weight.to(dtype) * layer.alpha.to(dtype))
    if len(matrices) > 1 and _activation(function) is None:
        return [torch.linalg.multi_dot(matrices)]
    return matrices


def _mlp_shape(function: Any) -> MLPShape:
    matrices = _mlp_matrices(function)
    depth = len(matrices) - 1
    width = matrices[0].shape[1] if depth else 0
    return MLPShape(depth, width, _activation(function))


def _named(name: str, function: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    return {f"{name}.{k}": matrix for k, matrix in enumerate(_mlp_matrices(function, dtype))}


def _single(function: Any, dtype: torch.dtype) -> Tensor:
    (matrix,) = _mlp_matrices(function, dtype)
    return matrix
