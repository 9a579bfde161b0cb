"""The kind `torch`: any torch model with differentiable site energies, run by its own package.

A message-passing model sees as many cutoffs away as it has layers. So the atoms of the region are
evaluated together with all atoms that many edges away, in chunks where that saves memory, and
autograd of Σ c_i E_i gives forces on all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.adapters.graph import Graph, SiteModel
from duetto.experts.base import Edges
from duetto.experts.calculators import NO_CALCULATOR
from duetto.experts.region import RegionEnergies, Surroundings
from duetto.files import require_file
from duetto.settings.values import suggestion

Array = NDArray[Any]


@dataclass(frozen=True)
class Adapter:
    """How a package's models are opened.

    Attributes:
        home: "module:function" that opens one: from a file, or from the name of a version.
        package: the import that must be there.
        install: what to tell who lacks it.
        needs_file: whether a model is a file, or weights that the package itself has.
    """

    home: str
    package: str
    install: str
    needs_file: bool


ADAPTERS = {
    "chgnet": Adapter(
        "duetto.experts.adapters.chgnet:ChgnetModel", "chgnet", "duetto[chgnet]", False
    ),
    "mace": Adapter("duetto.experts.adapters.mace:MaceModel", "mace", "duetto[mace]", True),
    "metatomic": Adapter(
        "duetto.experts.adapters.metatomic:MetatomicModel",
        "metatomic.torch",
        "duetto[metatomic]",
        True,
    ),
    "nequip": Adapter(
        "duetto.conversion.site_model:NequipSiteModel", "nequip", "duetto[train]", True
    ),
}
"""Packages whose models can be experts, by the word that a configuration says."""

_LARGEST_CHUNK = 4000
"""Atoms evaluated at once where centres can be parted: about what a receptive field of 24 Å holds
in a metal, which no chunk can be smaller than."""
_WORTHWHILE = 0.8
"""Parting centres must leave each part at most this share of the atoms, or both would be done
nearly twice."""


@dataclass(frozen=True)
class _Chunk:
    """Some centres, their receptive field, and the edges in it.

    Attributes:
        places: (n,) of the centres among all that were asked for.
        atoms: (N,) ascending.
        hops: (N,) edges to the nearest centre.
        slots: (E,) places in the neighbour list.
        i: (E,) local index of each edge's centre.
        j: (E,) of its neighbour.
    """

    places: Array
    atoms: Array
    hops: Array
    slots: Array
    i: Array
    j: Array


class TorchExpert:
    """A model of another package as an expert.

    Attributes:
        name: the package, a key of ADAPTERS.
        source: the file or the version that the model is.
    """

    kind: ClassVar[str] = "torch"

    def __init__(self, name: str, source: str, model: SiteModel) -> None:
        """Take an open model; `open_torch_expert` opens one."""
        self.name, self.source = name, source
        self._model = model
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._chunks: list[_Chunk] = []
        self._chunks_of: tuple[Any, Any] = (None, None)

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the model's types."""
        return self._model.species

    @property
    def receptive_field(self) -> float:
        """Å: the number of layers times the cutoff of each."""
        return self._model.hops * self._model.cutoff

    @property
    def largest_cutoff(self) -> float:
        """Length of an edge at most, Å."""
        return self._model.cutoff

    def cutoff(self, centre: str, neighbor: str) -> float:
        """Length of an edge at most, Å."""
        return self._model.cutoff

    def site_energies(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Refuse: there is no gradient by a centre's own edges.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.name} {self.source} sees {self.receptive_field:g} Å far by passing messages; "
            "its energies are no functions of the edges of one atom, which is asked for here"
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """The same expert computing elsewhere, in another precision."""
        twin = copy.copy(self)
        twin._device, twin._dtype = torch.device(device), dtype
        twin._model = self._model.to(twin._device, dtype)
        twin._chunks, twin._chunks_of = [], (None, None)
        return twin

    def to_json(self) -> dict[str, Any]:
        """Package, file or version, and the hash of the weights; not the weights."""
        return {"package": self.name, "source": self.source, **self._model.describe()}

    def to_tensors(self) -> dict[str, Tensor]:
        """None: the weights stay where they are."""
        return {}

    @classmethod
    def from_tensors(cls, data: dict[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Open the model that `to_json` describes.

        Raises:
            InputError: it is not there any more, or has other weights.
        """
        if not isinstance(data.get("package"), str) or not isinstance(data.get("source"), str):
            raise InputError("the description of a torch expert names no package or no source")
        expert = cls(data["package"], data["source"], _open(data["package"], data["source"]))
        if expert.to_json() != data:
            raise InputError(
                f"{data['package']} {data['source']}: the weights are not those that the pair was "
                "made with"
            )
        return expert

    def share_of(self, surroundings: Surroundings, centres: Array) -> dict[str, int]:
        """See `duetto.experts.region.NonlocalExpert`; atoms of several chunks count for each."""
        chunks = self._plan(surroundings, centres)
        return {"atoms": sum(len(chunk.atoms) for chunk in chunks), "chunks": len(chunks)}

    def region_energies(
        self, surroundings: Surroundings, centres: Array, coefficients: Array
    ) -> RegionEnergies:
        """See `duetto.experts.region.NonlocalExpert`."""
        G, A = len(coefficients), len(surroundings.types)
        energies = torch.zeros(len(centres), dtype=torch.float64)
        forces = torch.zeros(G, A, 3, dtype=torch.float64)
        virials = torch.zeros(G, 3, 3, dtype=torch.float64)
        for chunk in self._plan(surroundings, centres):
            x = surroundings.positions[torch.from_numpy(chunk.atoms)].to(self._device)
            x.requires_grad_()
            strain = torch.zeros(3, 3, dtype=torch.float64, device=self._device)
            strain.requires_grad_()
            with torch.enable_grad():
                found = self._model.site_energies(self._graph(surroundings, chunk, x, strain))
                weights = torch.from_numpy(coefficients[:, chunk.places]).to(found)
                for g in range(G if found.requires_grad else 0):  # not for atoms without edges
                    dx, de = torch.autograd.grad(
                        found @ weights[g],
                        (x, strain),
                        retain_graph=g < G - 1,
                        allow_unused=True,
                        materialize_grads=True,
                    )
                    forces[g, torch.from_numpy(chunk.atoms)] -= dx.cpu()
                    virials[g] -= de.cpu()
            energies[torch.from_numpy(chunk.places)] = found.detach().double().cpu()
        return RegionEnergies(energies, forces, virials)

    def _graph(self, s: Surroundings, chunk: _Chunk, x: Tensor, strain: Tensor) -> Graph:
        """The atoms of a chunk and the edges that are short enough now."""
        i, j = (self._send(side) for side in (chunk.i, chunk.j))
        shift = self._send(s.shift[chunk.slots]).double()
        cell = s.cell.to(self._device) * self._send(s.pbc)[:, None]
        with torch.no_grad():
            vectors = x[j] - x[i] + shift @ cell
            near = (vectors**2).sum(1) < self._model.cutoff**2
        stretch = torch.eye(3, dtype=torch.float64, device=self._device) + strain
        return Graph(
            positions=x @ stretch,
            cell=cell @ stretch,
            pbc=self._send(s.pbc),
            types=self._send(s.types[chunk.atoms]),
            hops=self._send(chunk.hops),
            centre=i[near],
            neighbor=j[near],
            shift=shift[near],
        )

    def _send(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _plan(self, s: Surroundings, centres: Array) -> list[_Chunk]:
        """Chunks of the centres; those of the last call while list and centres are the same."""
        if self._chunks_of[0] is not s.first or self._chunks_of[1] is not centres:
            everything = np.arange(len(centres))
            self._chunks = self._part(s, centres, everything) if len(centres) else []
            self._chunks_of = (s.first, centres)
        return self._chunks

    def _part(self, s: Surroundings, centres: Array, places: Array) -> list[_Chunk]:
        """One chunk, or two halves along the longest extent where that makes them smaller."""
        whole = self._chunk(s, centres, places)
        if len(whole.atoms) <= _LARGEST_CHUNK or len(places) < 2:
            return [whole]
        x = s.positions[torch.from_numpy(centres[places])].numpy()
        order = np.argsort(x[:, np.ptp(x, axis=0).argmax()], kind="stable")
        halves = [np.sort(places[half]) for half in np.array_split(order, 2)]
        parts = [self._chunk(s, centres, half) for half in halves]
        if max(len(part.atoms) for part in parts) > _WORTHWHILE * len(whole.atoms):
            return [whole]
        return [chunk for half in halves for chunk in self._part(s, centres, half)]

    def _chunk(self, s: Surroundings, centres: Array, places: Array) -> _Chunk:
        hops = np.full(len(s.types), -1)
        hops[centres[places]] = front = 0
        for front in range(self._model.hops):
            slots = _slots(s.first, np.flatnonzero(hops == front))
            found = s.neighbor[slots]
            hops[found[hops[found] < 0]] = front + 1
        atoms = np.flatnonzero(hops >= 0)
        self._require_known(s, atoms)
        local = np.full(len(hops), -1)
        local[atoms] = np.arange(len(atoms))
        inner = atoms[hops[atoms] < self._model.hops]
        slots = _slots(s.first, inner)
        i = np.repeat(local[inner], np.diff(s.first)[inner])
        return _Chunk(places, atoms, hops[atoms], slots, i, local[s.neighbor[slots]])

    def _require_known(self, s: Surroundings, atoms: Array) -> None:
        unknown = atoms[s.types[atoms] < 0]
        if len(unknown):
            raise InputError(
                f"atom {unknown[0]} is of a species that {self.name} {self.source} does not know, "
                f"and within {self.receptive_field:g} Å of an atom that it computes"
            )


def _slots(first: Array, atoms: Array) -> Array:
    """Places in the list of all neighbours of some atoms."""
    counts = np.diff(first)[atoms]
    begin = np.repeat(first[atoms] - np.cumsum(counts) + counts, counts)
    return begin + np.arange(len(begin))


def open_torch_expert(name: str, source: str | None = None) -> TorchExpert:
    """Open a model of another package as an expert.

    Args:
        name: a key of ADAPTERS.
        source: the model's file; for `chgnet` the version, by default 0.3.0.

    Raises:
        InputError: there is no such package or file, or the model gives no site energies.
    """
    if not isinstance(name, str):  # whatever a user calls an expert
        name = f"the ASE calculator {type(name).__name__}"
    model = _open(name, source)
    return TorchExpert(name, str(source or model.describe().get("version", "")), model)


def _open(name: str, source: str | None) -> SiteModel:
    adapter = ADAPTERS.get(name)
    if adapter is None and (name.lower().startswith("ase") or "calculator" in name.lower()):
        raise InputError(f"{name}: {NO_CALCULATOR}; use {', '.join(ADAPTERS)}")
    if adapter is None:
        raise InputError(
            f"no torch model is called {name!r}{suggestion(name, ADAPTERS)}; "
            f"there are {', '.join(ADAPTERS)}"
        )
    if not _installed(adapter.package):
        raise InputError(
            f"{name} needs the package {adapter.package.split('.')[0]}, which is not installed: "
            f"pip install '{adapter.install}'"
        )
    if adapter.needs_file:
        _require_file(name, source)
    module, _, function = adapter.home.partition(":")
    opened: SiteModel = getattr(import_module(module), function)(*([source] if source else []))
    return opened


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a nested package
        return False


def _require_file(name: str, source: str | None) -> None:
    if source is None:
        raise InputError(f"{name}: needs the model's file")
    require_file(source, "file of a model")
