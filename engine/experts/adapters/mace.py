"""MACE models (Batatia et al., NeurIPS 2022) from the files that mace-torch writes.

Such a file is a pickle: opening one runs the code in it, so open only what you trust.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from duetto.errors import InputError
from duetto.experts.adapters.graph import Graph
from duetto.experts.adapters.weights import weights_hash


class MaceModel:
    """A MACE model as a function of a neighbour graph."""

    def __init__(self, source: str | nn.Module) -> None:
        """Open a model.

        Args:
            source: a `.model` file, or the module itself.

        Raises:
            InputError: the file is not a MACE model of one head.
        """
        model: Any = _read(source) if isinstance(source, str) else source
        for name in ("interactions", "products", "r_max", "atomic_numbers"):
            if not hasattr(model, name):
                raise InputError(f"{source}: {type(model).__name__} is not a MACE model: no {name}")
        heads = list(getattr(model, "heads", None) or ["Default"])
        if len(heads) > 1:
            raise InputError(
                f"{source}: has the heads {', '.join(heads)}; take one out with mace_select_head"
            )
        self._model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.species = tuple(chemical_symbols[int(z)] for z in model.atomic_numbers)
        self.cutoff = float(model.r_max)
        self.hops = len(model.interactions)
        self._dtype = torch.float64

    def to(self, device: torch.device, dtype: torch.dtype) -> MaceModel:
        """See `SiteModel.to`."""
        twin = copy.copy(self)
        twin._model = copy.deepcopy(self._model).to(device=device, dtype=dtype)
        twin._dtype = dtype
        return twin

    def describe(self) -> dict[str, Any]:
        """See `SiteModel.describe`."""
        return {"weights": weights_hash(self._model)}

    def site_energies(self, graph: Graph) -> Tensor:
        """See `SiteModel.site_energies`."""
        dtype, atoms = self._dtype, len(graph.types)
        found = self._model(
            {
                "positions": graph.positions.to(dtype),
                "node_attrs": nn.functional.one_hot(graph.types, len(self.species)).to(dtype),
                # MACE's messages go from the first to the second atom, and so do its vectors.
                "edge_index": torch.stack([graph.neighbor, graph.centre]),
                "shifts": -(graph.shift @ graph.cell).to(dtype),
                "unit_shifts": -graph.shift.to(dtype),
                "cell": graph.cell.to(dtype),
                "batch": graph.types.new_zeros(atoms),
                "ptr": graph.types.new_tensor([0, atoms]),
            },
            compute_force=False,
        )
        energies: Tensor = found["node_energy"]
        return energies[graph.hops == 0]


def _read(source: str) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever unpickling meets
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: cannot be read as a MACE model: {reason}") from error
