"""An expert of a pair file as a model to train, or to train towards."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from duetto.conversion.model import nequip_model
from duetto.cotrain.folded_model import evaluates_folded, fold_model
from duetto.errors import InputError
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ExpertPair


def ModelFromPair(
    pair: str, role: str, type_names: Sequence[str], model_dtype: str = "float32"
) -> nn.Module:
    """The expert of a pair file with its weights, under the parameters of Allegro's own model.

    Args:
        pair: path of the pair file.
        role: "hf" or "lf".
        type_names: those of the training, which must be the expert's in its order.
        model_dtype: "float32" or "float64".

    Raises:
        InputError: the file cannot be read, lacks the expert, knows other types, or the expert is
            not Allegro or a correction to another.
    """
    loaded = ExpertPair.load(pair)
    if role == "hf" and loaded.correction:
        raise InputError(f"{pair}: its hf is a correction to its lf, no model of its own")
    expert = loaded.experts.get(role)
    if expert is None:
        raise InputError(f"{pair}: the pair lacks the expert {role}")
    if not isinstance(expert, AllegroExpert):
        raise InputError(
            f"{pair}: {role} is of the kind {expert.kind}; only allegro can be trained"
        )
    if tuple(type_names) != expert.species:
        raise InputError(
            f"{pair}: the types of {role} are {' '.join(expert.species)}, and type_names says "
            f"{' '.join(type_names)}"
        )
    model = nequip_model(expert, model_dtype)
    # Lightning leaves modules in the mode they come in, and in evaluation mode nequip's forces
    # have no graph to go back through.
    return (fold_model(model) if evaluates_folded() else model).train()
