"""Allegro for training, evaluated in the folded form under AllegroModel's own parameters."""

from __future__ import annotations

from typing import Any

from allegro.model import AllegroModel
from nequip.data import AtomicDataDict
from nequip.model import model_builder
from nequip.nn import SequentialGraphNetwork, with_edge_vectors_
from nequip.scripts._workflow_utils import get_workflow_state
from torch import nn

from duetto.conversion.expert import allegro_stages, architecture_of, scaled_weights
from duetto.errors import InputError
from duetto.experts.allegro.folding import fold
from duetto.kernels.folded import atomic_energies


class FoldedEnergy(SequentialGraphNetwork):
    """The energy of an Allegro model through the folded form.

    Holds the modules of the network that it is made of, under the same names, so that parameters
    and state dicts are those of nequip's model: only the evaluation differs. Every evaluation
    folds the current parameters, differentiably.

    Args:
        network: the energy network of a nequip Allegro model.

    Raises:
        InputError: a part of the model is not supported.
    """

    def __init__(self, network: nn.Module):
        super().__init__(dict(network.named_children()))
        self._model_dtype = allegro_stages(self)["allegro"].tps[0].weights.dtype
        self._architecture = architecture_of(self)
        self.register_load_state_dict_post_hook(_read_architecture_again)

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """Add energies of atoms (A, 1) and frames (B, 1), float64 eV, to a batch of frames."""
        data = with_edge_vectors_(data, with_lengths=False)
        centre, neighbor = data[AtomicDataDict.EDGE_INDEX_KEY]
        types = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        weights = scaled_weights(dict(self.named_children()), self._model_dtype)
        energies = atomic_energies(
            fold(self._architecture, weights),
            data[AtomicDataDict.EDGE_VECTORS_KEY],
            centre,
            types,
            types[neighbor],
        )
        data[AtomicDataDict.PER_ATOM_ENERGY_KEY] = energies.unsqueeze(-1)
        return self.total_energy_sum(data)


def _read_architecture_again(module: FoldedEnergy, _incompatible: object) -> None:
    # Cutoffs and normalisation are buffers: a state dict may have changed them.
    module._architecture = architecture_of(module)


def fold_model(model: nn.Module) -> nn.Module:
    """Let a nequip Allegro model evaluate its energy in the folded form, in place.

    Args:
        model: a nequip `GraphModel`, or what a model builder makes of Allegro.

    Returns:
        The same model, its parameters and state dict unchanged.

    Raises:
        InputError: the model is not an Allegro model, or a part of it is not supported.
    """
    allegro_stages(model)
    for module in model.modules():
        function = getattr(module, "func", None)
        if isinstance(function, nn.Module) and "allegro" in dict(function.named_children()):
            if not isinstance(function, FoldedEnergy):
                module.func = FoldedEnergy(function)
            return model
    raise InputError(f"{type(model).__name__}: no force output around the Allegro network")


@model_builder
def FoldedAllegroModel(**kwargs: Any) -> nn.Module:
    """`allegro.model.AllegroModel`, trained through the folded form: same arguments, same names.

    Energies, forces, stresses, gradients and state dict are those of AllegroModel; a training
    step takes a fraction of its time. `nequip-compile` and `nequip-package` are given AllegroModel
    itself, so what they write needs no Duetto.

    Args:
        kwargs: the arguments of `allegro.model.AllegroModel`.

    Raises:
        InputError: an argument asks for a part of Allegro that is not supported.
    """
    model = AllegroModel(**kwargs)
    return fold_model(model) if evaluates_folded() else model


def evaluates_folded() -> bool:
    """Whether models are built to be trained; nequip's exports are given its own evaluation."""
    return get_workflow_state() not in ("compile", "package")
