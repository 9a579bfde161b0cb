"""Models in metatomic's interface: exported by metatrain, or by whoever implements it.

Energies are asked for per atom and for the centres alone (`selected_atoms`).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.adapters.graph import Graph, bond_numbers
from duetto.experts.adapters.weights import weights_hash

_SAMPLES = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]


class MetatomicModel:
    """An exported metatomic model as a function of a neighbour graph."""

    def __init__(self, source: str) -> None:
        """Open a model.

        Args:
            source: the exported file, `.pt`.

        Raises:
            InputError: the file is not such a model, or gives no energy for every atom.
        """
        self._model = _read(source)
        capabilities = self._model.capabilities()
        if "energy" not in capabilities.outputs:
            raise InputError(
                f"{source}: gives {', '.join(capabilities.outputs)} and no energy, so that it "
                "cannot be mixed"
            )
        if capabilities.outputs["energy"].sample_kind != "atom":
            raise InputError(
                f"{source}: gives the energy of a system only; a mixture sums w_i E_i and needs "
                "the energy of every atom"
            )
        self.species = tuple(chemical_symbols[z] for z in capabilities.atomic_types)
        self._lists = self._model.requested_neighbor_lists()
        interaction = float(capabilities.engine_interaction_range("angstrom"))
        if not math.isfinite(interaction):
            raise InputError(f"{source}: its interaction range is infinite; no region bounds it")
        cutoffs = [options.engine_cutoff("angstrom") for options in self._lists]
        self.cutoff = float(max(cutoffs, default=interaction))
        self.hops = max(1, math.ceil(interaction / self.cutoff - 1e-9))
        self._dtype = getattr(torch, capabilities.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> MetatomicModel:
        """See `SiteModel.to`; the precision is the one that the model was exported with."""
        twin = copy.copy(self)
        twin._model = self._model.to(device=device)
        return twin

    def describe(self) -> dict[str, Any]:
        """See `SiteModel.describe`."""
        return {"weights": weights_hash(self._model)}

    def site_energies(self, graph: Graph) -> Tensor:
        """See `SiteModel.site_energies`."""
        from metatensor.torch import Labels
        from metatomic.torch import ModelEvaluationOptions, ModelOutput

        centres = (graph.hops == 0).nonzero()[:, 0].int()
        output = ModelOutput(unit="eV", sample_kind="atom")
        options = ModelEvaluationOptions(
            length_unit="angstrom",
            outputs={"energy": output},
            selected_atoms=Labels(
                ["system", "atom"], torch.stack([torch.zeros_like(centres), centres], dim=1)
            ),
        )
        block = self._model([self._system(graph)], options, False)["energy"].block()
        energies = graph.positions.new_zeros(len(graph.types))
        atoms = block.samples.column("atom").long()
        return energies.index_add(0, atoms, block.values[:, 0].double())[centres.long()]

    def _system(self, graph: Graph) -> Any:
        from metatomic.torch import System

        numbers = torch.tensor(
            [atomic_numbers[symbol] for symbol in self.species],
            dtype=torch.int32,
            device=graph.types.device,
        )
        system = System(
            types=numbers[graph.types],
            positions=graph.positions.to(self._dtype),
            cell=graph.cell.to(self._dtype),
            pbc=graph.pbc,
        )
        vectors = graph.vectors
        for options in self._lists:
            system.add_neighbor_list(options, self._neighbors(graph, vectors, options))
        return system

    def _neighbors(self, graph: Graph, vectors: Tensor, options: Any) -> Any:
        """The pairs that a model asks for, with vectors that carry the gradient."""
        from metatensor.torch import Labels, TensorBlock

        length = torch.linalg.vector_norm(vectors.detach(), dim=1)
        near = length <= options.engine_cutoff("angstrom")
        if not options.full_list:
            one = torch.zeros_like(near)
            one[bond_numbers(graph)[1]] = True
            near &= one
        pairs = torch.stack([graph.centre[near], graph.neighbor[near]], dim=1)
        device = vectors.device
        return TensorBlock(
            values=vectors[near].to(self._dtype)[:, :, None],
            samples=Labels(_SAMPLES, torch.cat([pairs, graph.shift[near].long()], dim=1).int()),
            components=[Labels(["xyz"], torch.arange(3, device=device)[:, None].int())],
            properties=Labels(["distance"], torch.zeros(1, 1, dtype=torch.int32, device=device)),
        )


def _read(source: str) -> Any:
    from metatomic.torch import load_atomistic_model

    try:
        return load_atomistic_model(source)
    except Exception as error:  # whatever TorchScript meets
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: cannot be read as a metatomic model: {reason}") from error
