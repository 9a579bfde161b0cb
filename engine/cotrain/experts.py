"""Builds the experts of a co-training run."""

from __future__ import annotations

from typing import Any

from hydra.utils import get_method
from nequip.train.lightning import _SOLE_MODEL_KEY
from torch import nn

from duetto.cotrain.folded_model import FoldedEnergy, evaluates_folded, fold_model
from duetto.errors import InputError


def ExpertModels(folded: bool = True, **experts: dict[str, Any]) -> nn.ModuleDict:
    """The models of a co-training run, by role.

    Args:
        folded: evaluate models that come from a package or a checkpoint in the folded form, too;
            `nequip-compile` and `nequip-package` are given the models as they come.
        experts: for each role (`hf`, `lf`) a model builder's configuration with `_target_`:
            `duetto.cotrain.FoldedAllegroModel`, `allegro.model.AllegroModel`,
            `nequip.model.ModelFromPackage`, `nequip.model.ModelFromCheckpoint`.

    Returns:
        The models in the order given.

    Raises:
        InputError: the models do not know the same types, or cannot be evaluated in folded form.
    """
    if not experts:
        raise InputError("co-training needs two experts, hf and lf, or hf alone; none is given")
    models = nn.ModuleDict({role: _build(role, config) for role, config in experts.items()})
    types: dict[str, Any] = {role: model.type_names for role, model in models.items()}
    if len({tuple(names) for names in types.values()}) > 1:
        listed = "; ".join(f"{role}: {' '.join(names)}" for role, names in types.items())
        raise InputError(f"the experts must have the same type_names in the same order; {listed}")
    if folded and evaluates_folded():
        for role, config in experts.items():
            if "ModelFrom" in config["_target_"]:
                fold_model(models[role])
    return models


def _build(role: str, config: dict[str, Any]) -> nn.Module:
    arguments = dict(config)
    model = get_method(arguments.pop("_target_"))(**arguments)
    if not isinstance(model, nn.ModuleDict):
        _refuse_compiled(role, model)
        return model
    for key in (role, _SOLE_MODEL_KEY):
        if key in model:
            return model[key]
    raise InputError(f"{role}: the file holds the models {', '.join(model)}, none called {role}")


def _refuse_compiled(role: str, model: Any) -> None:
    folded = any(isinstance(module, FoldedEnergy) for module in model.modules())
    if folded and model.is_compile_graph_model:
        raise InputError(
            f"{role}: the folded form is not for compile_mode: compile; leave that out, or use "
            "_target_: allegro.model.AllegroModel"
        )
