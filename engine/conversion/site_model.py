"""nequip models that are not Allegro as functions of a neighbour graph. Imports nequip."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from duetto.conversion.expert import load_nequip
from duetto.errors import InputError
from duetto.experts.adapters.graph import Graph
from duetto.experts.adapters.weights import weights_hash

_DTYPES = ("_output_dtype", "model_dtype")
"""What nequip's modules call the precision that they compute in."""


class NequipSiteModel:
    """A nequip message-passing model as a function of a neighbour graph."""

    def __init__(self, source: str | nn.Module) -> None:
        """Open a model.

        Args:
            source: a checkpoint, a package, or the model itself.

        Raises:
            InputError: it cannot be read, or is an Allegro model or one without site energies.
        """
        from nequip.nn import ConvNetLayer, ForceStressOutput

        model: Any = load_nequip(source, "hf")
        layers = sum(isinstance(module, ConvNetLayer) for module in model.modules())
        if layers == 0:
            raise InputError(
                f"{source}: has no message-passing layer; an Allegro model is packed with "
                "duetto pack, and is many times faster so"
            )
        self._model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        for module in self._model.modules():
            if isinstance(module, ForceStressOutput):
                module.do_derivatives = False
        self.species = tuple(str(name) for name in model.type_names)
        self.cutoff = float(model.metadata["r_max"])
        self.hops = layers

    def to(self, device: torch.device, dtype: torch.dtype) -> NequipSiteModel:
        """See `SiteModel.to`."""
        twin = copy.copy(self)
        twin._model = copy.deepcopy(self._model).to(device=device, dtype=dtype)
        for module in twin._model.modules():
            for name in _DTYPES:
                if isinstance(getattr(module, name, None), torch.dtype):
                    setattr(module, name, dtype)
        return twin

    def describe(self) -> dict[str, Any]:
        """See `SiteModel.describe`."""
        return {"weights": weights_hash(self._model)}

    def site_energies(self, graph: Graph) -> Tensor:
        """See `SiteModel.site_energies`."""
        from nequip.data import AtomicDataDict

        atoms = len(graph.types)
        found = self._model(
            {
                AtomicDataDict.POSITIONS_KEY: graph.positions,
                AtomicDataDict.CELL_KEY: graph.cell[None],
                AtomicDataDict.PBC_KEY: graph.pbc[None],
                AtomicDataDict.EDGE_INDEX_KEY: torch.stack([graph.centre, graph.neighbor]),
                AtomicDataDict.EDGE_CELL_SHIFT_KEY: graph.shift,
                AtomicDataDict.ATOM_TYPE_KEY: graph.types,
                AtomicDataDict.BATCH_KEY: graph.types.new_zeros(atoms),
                AtomicDataDict.NUM_NODES_KEY: graph.types.new_tensor([atoms]),
            }
        )
        energies: Tensor = found[AtomicDataDict.PER_ATOM_ENERGY_KEY]
        return energies.view(-1)[graph.hops == 0]
