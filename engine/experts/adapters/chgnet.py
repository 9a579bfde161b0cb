"""CHGNet (Deng et al., Nature Machine Intelligence 5, 1031, 2023), whose package has its weights.

The layers are CHGNet's own. The graph is made here, in double precision and without pymatgen, and
each layer is applied to those atoms alone that the next one needs: with four layers of 6 Å about a
seventh of the work of evaluating all atoms of the receptive field.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.adapters.graph import Graph, bond_numbers
from duetto.experts.adapters.weights import weights_hash

VERSIONS = ("0.3.0", "r2scan", "0.2.0")


@contextmanager
def as_packaged() -> Iterator[None]:
    """Modules are made in float32, as the weights are, whatever the process's default is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class ChgnetModel:
    """CHGNet as a function of a neighbour graph."""

    def __init__(self, version: str = "0.3.0") -> None:
        """Load the weights from the package.

        Raises:
            InputError: the package is not there, or has no such version.
        """
        if version not in VERSIONS:
            raise InputError(f"chgnet has no version {version!r}: use {', '.join(VERSIONS)}")
        from chgnet.model import CHGNet

        with (
            as_packaged(),
            redirect_stdout(StringIO()),
        ):  # it tells of itself, also where JSON is wanted
            self._model = CHGNet.load(model_name=version, use_device="cpu", verbose=False).eval()
        self._model.requires_grad_(False)
        self._version = version
        if not self._model.mlp_first or self._model.composition_model is None:
            raise InputError(f"chgnet {version} gives no energy for every atom")
        elements = self._model.atom_embedding.embedding.num_embeddings
        self.species = tuple(chemical_symbols[1 : elements + 1])
        converter = self._model.graph_converter
        self.cutoff = float(converter.atom_graph_cutoff)
        self._bond_cutoff = float(converter.bond_graph_cutoff)
        self.hops = len(self._model.atom_conv_layers)

    def to(self, device: torch.device, dtype: torch.dtype) -> ChgnetModel:
        """See `SiteModel.to`."""
        twin = copy.copy(self)
        twin._model = copy.deepcopy(self._model).to(device=device, dtype=dtype)
        return twin

    def describe(self) -> dict[str, Any]:
        """See `SiteModel.describe`."""
        return {"version": self._version, "weights": weights_hash(self._model)}

    def site_energies(self, graph: Graph) -> Tensor:
        """See `SiteModel.site_energies`."""
        model = self._model
        references = model.composition_model.fc.weight[0]
        bonds = _Bonds.of(graph, graph.vectors.to(references.dtype), self._bond_cutoff)
        hops, angle_hops = graph.hops, graph.hops[bonds.angles[:, 0]]
        edge_hops = hops[graph.centre]
        radial, near = model.bond_basis_expansion, bonds.angles
        basis, short = (
            radial.rbf_expansion_ag(bonds.lengths),
            radial.rbf_expansion_bg(bonds.lengths),
        )
        atoms = model.atom_embedding(graph.types)
        edges = model.bond_embedding(basis)
        atom_weights, bond_weights = model.bond_weights_ag(basis), model.bond_weights_bg(short)
        corners = model.angle_embedding(
            model.angle_basis_expansion(
                bonds.unit[bonds.sides[:, 0]], bonds.unit[bonds.sides[:, 1]]
            )
        )
        pairs = torch.stack([graph.centre, graph.neighbor], dim=1)
        for layer in range(self.hops):
            left = self.hops - 1 - layer  # hops that later layers still reach over
            wanted = edge_hops <= left
            atoms = model.atom_conv_layers[layer](
                atom_feas=atoms,
                bond_feas=edges,
                bond_weights=atom_weights,
                atom_graph=pairs[wanted],
                directed2undirected=bonds.number[wanted],
            )
            if left == 0 or not len(bonds.angles):
                continue
            inner = angle_hops <= left
            near, corners, angle_hops = near[inner], corners[inner], angle_hops[inner]
            if model.bond_conv_layers[layer] is not None:
                edges = model.bond_conv_layers[layer](
                    atom_feas=atoms,
                    bond_feas=edges,
                    bond_weights=bond_weights,
                    angle_feas=corners,
                    bond_graph=near,
                )
            if model.angle_layers[layer] is not None:
                corners = model.angle_layers[layer](
                    atom_feas=atoms, bond_feas=edges, angle_feas=corners, bond_graph=near
                )
        centres = hops == 0
        features = atoms[centres]
        if model.readout_norm is not None:
            features = model.readout_norm(features)
        return model.mlp(features)[:, 0] + references[graph.types[centres]]


@dataclass(frozen=True)
class _Bonds:
    """Undirected bonds and the angles between short ones.

    Letters: E directed edges, B bonds, Q angles.

    Attributes:
        number: (E,) the bond of each edge.
        lengths: (B,) Å.
        unit: (E, 3) direction of each edge.
        angles: (Q, 3) atom, first and second bond.
        sides: (Q, 2) the edges of the angle.
    """

    number: Tensor
    lengths: Tensor
    unit: Tensor
    angles: Tensor
    sides: Tensor

    @classmethod
    def of(cls, graph: Graph, vectors: Tensor, short: float) -> _Bonds:
        """Bonds of all edges, angles of edges shorter than `short`."""
        number, representative = bond_numbers(graph)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        sides = _angles(graph.centre, (lengths < short).detach())
        angles = torch.stack([graph.centre[sides[:, 0]], *number[sides.T]], dim=1)
        return cls(number, lengths[representative], vectors / lengths[:, None], angles, sides)


def _angles(centre: Tensor, short: Tensor) -> Tensor:
    """(Q, 2) ordered pairs of different short edges of the same atom; edges sorted by centre."""
    edges = short.nonzero()[:, 0]
    counts = torch.bincount(centre[edges], minlength=int(centre.max()) + 1 if len(centre) else 0)
    begin = torch.cumsum(counts, 0) - counts
    own = counts[centre[edges]]
    first = torch.repeat_interleave(torch.arange(len(edges), device=edges.device), own)
    offset = torch.arange(len(first), device=edges.device)
    offset = offset - torch.repeat_interleave(torch.cumsum(own, 0) - own, own)
    second = begin[centre[edges]][first] + offset
    different = first != second
    return torch.stack([edges[first[different]], edges[second[different]]], dim=1)
