"""The potential behind LAMMPS's ML-IAP interface: edges in, energies and gradients by edges out.

One class serves every LAMMPS: builds with Python ML-IAP (`pair_style mliap unified`, with Kokkos on
GPUs) call it themselves, and the pair style `duetto` calls it with data in the same shape.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from duetto.errors import InputError, RunStopped
from duetto.experts.base import Edges, cutoff_matrix
from duetto.experts.pair import ROLES, ExpertPair
from duetto.files import atomic_write
from duetto.frontends.lammps.types import (
    TERMS,
    AtomType,
    coefficients,
    cutoffs_between,
    expert_types,
    parse_types,
)
from duetto.potential.edges import edges_of_centres
from duetto.potential.mixture import Potential

_CHECKED_CENTRES = 12
_CHECK_TOLERANCE = {"fp64": 1e-10, "fp32": 2e-4, "bf16x3": 2e-4, "tf32": 2e-2}
"""Largest error of a gradient over the largest gradient; as in the engine's own self-check."""


class EdgeData(Protocol):
    """What LAMMPS hands over: its `MLIAPData` in Python, as far as it is used here.

    Attributes:
        ntotal: owned and ghost atoms.
        nlistatoms: centres.
        npairs: edges.
        iatoms: (nlistatoms,) the centres.
        elems: (ntotal,) types, from 0, in the order of `element_types`.
        pair_i: (npairs,) centre of each edge.
        pair_j: (npairs,) neighbour.
        rij: (npairs, 3) r_j − r_i, Å.
        eatoms: (nlistatoms,) OUTPUT, eV.
        energy: OUTPUT, eV.
    """

    ntotal: int
    nlistatoms: int
    npairs: int
    iatoms: Any
    elems: Any
    pair_i: Any
    pair_j: Any
    rij: Any
    eatoms: Any
    energy: Any

    def update_pair_forces(self, fij: Any) -> None:
        """Take dE/dr_ij (npairs, 3), eV/Å."""


class DuettoUnified:
    """Both experts over the edges of one MPI rank, in LAMMPS's `MLIAPUnified` interface.

    Attributes:
        element_types: names of the types: Pt, Pt_simple, Pt_blend.
        ndescriptors: LAMMPS wants one.
        nparams: LAMMPS wants one.
        rcutfac: half of the longest cutoff, Å.
        interface: LAMMPS's own.
        cutoffs: (T, T) Å, by type of centre and neighbour.
        narrow: (T, T) Å, the same for centres that hf is not asked for.
        follow: core and blend of weights that follow seeds, Å; None where they do not.
    """

    def __init__(
        self,
        pair: ExpertPair,
        names: Sequence[str],
        *,
        terms: str = "mixture",
        device: str = "cpu",
        dtype: str = "float64",
        backend: str = "auto",
        precision: str = "auto",
        follow: tuple[float, float] | None = None,
    ) -> None:
        """Check the types; the experts are compiled when they are first asked.

        Args:
            pair: the experts.
            names: the LAMMPS types in their order.
            terms: "mixture", or one of its two terms in time: "fast" is E^LF, "slow" is
                w (E^HF − E^LF).
            device: "cpu", "cuda", "cuda:1", or "auto": the GPU that is current where there is one.
            dtype: "float64" or "float32", of the experts' arithmetic.
            backend: see `duetto.potential.mixture.Potential`.
            precision: likewise.
            follow: weights follow the types that are seeds: Å around one in which w = 1, and Å
                further out over which w falls to that of the type.

        Raises:
            InputError: an argument is out of range, or a type is unknown to the pair.
        """
        if terms not in TERMS:
            raise InputError(f"terms {terms!r}: use one of {', '.join(TERMS)}")
        # E^LF of all atoms has no weights.
        self.pair, self.terms, self.follow = pair, terms, None if terms == "fast" else follow
        follows = self.follow is not None
        self.types: list[AtomType] = parse_types(names, pair, terms, follows=follows)
        self.settings: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "backend": backend,
            "precision": precision,
        }
        self.element_types = list(names)
        self.ndescriptors = self.nparams = 1
        self.interface: Any = None
        self.cutoffs = cutoffs_between(self.types, pair, terms, follows=follows)
        # With the slow term nothing is asked where hf is not.
        self.narrow = cutoffs_between(self.types, pair, terms, follows=follows, without="hf")
        if terms == "slow":
            self.narrow[:] = 0.0
        self.rcutfac = 0.5 * float(self.cutoffs.max(initial=0.0))
        self.roles = sorted(
            {
                role
                for kind in self.types
                for role in kind.roles(terms, follows=follows, correction=pair.correction)
            }
        )
        self._engine: _Engine | None = None

    @property
    def engine(self) -> _Engine:
        """The experts, made ready for the device."""
        if self._engine is None:
            self._engine = _Engine(self)
        return self._engine

    def compute_forces(self, data: EdgeData) -> None:
        """Energies of the centres and gradients by their edges.

        Raises:
            InputError: types with weights of their own, or seeds, where LAMMPS hands over none.
            RunStopped: the experts' kernels differ from their reference.
        """
        following = getattr(data, "following", None)
        if self.follow is not None and following is None:
            raise InputError(
                "weights that follow seeds need all seeds of all ranks, which this interface of "
                "LAMMPS does not hand over; use the pair style duetto, or types without _seed"
            )
        on = self.engine.device
        if on.type == "cuda":
            torch.cuda.synchronize(on)  # Kokkos has written its arrays in a stream of its own
        weights = getattr(data, "weights", None)
        centres = _on(data.iatoms, on, data.nlistatoms).long()
        types = _on(data.elems, on, data.ntotal).long()
        active: Mapping[str, Tensor] = {}
        if following is None:
            weight = self.weights(types[centres], None if weights is None else _on(weights, on))
        else:
            weight, active = following.of_centres(centres)
        row = _rows(_on(data.pair_i, on, data.npairs).long(), centres, data.ntotal)
        energies, gradient, sites = self.engine.evaluate(
            types[centres],
            weight,
            row,
            types[_on(data.pair_j, on, data.npairs).long()],
            _on(data.rij, on, data.npairs).double().reshape(-1, 3),
            active,
        )
        _return(data, energies, gradient)
        if following is not None:
            # Where HF is a correction, its energies are the difference.
            low = 0.0 if self.pair.correction else sites["lf"]
            following.pull(centres, sites["hf"] - low)

    def weights(self, kinds: Tensor, own: Tensor | None) -> Tensor:
        """The share of HF of atoms by their types; where weights follow seeds, the least of it.

        Args:
            kinds: (n,) LAMMPS types, from 0.
            own: (n,) float64, of atoms whose type has no weight; None where there are none.

        Returns:
            (n,) float64.

        Raises:
            InputError: an atom's own weight is missing or not between 0 and 1.
        """
        by_type = [np.nan if kind.weight is None else kind.weight for kind in self.types]
        weight = torch.tensor(by_type, dtype=torch.float64, device=kinds.device)[kinds]
        blended = torch.isnan(weight)
        if not bool(blended.any()):
            return weight
        if own is None:
            raise InputError(
                "types called NAME_blend have weights of their own, which this interface of "
                "LAMMPS does not hand over; use the pair style duetto, or regions without blend"
            )
        odd = blended & ~((own >= 0.0) & (own <= 1.0))
        if bool(odd.any()):
            raise InputError(f"weight {float(own[odd][0])} of an atom is not between 0 and 1")
        return torch.where(blended, own, weight)

    def compute_descriptors(self, data: Any) -> None:
        """LAMMPS asks; there are none."""

    def compute_gradients(self, data: Any) -> None:
        """LAMMPS asks; there are none."""

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a device; the experts as the bytes of their pair file."""
        state = self.__dict__ | {"_engine": None, "interface": None}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pair.duetto")
            self.pair.save(path)
            state["pair"] = path.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Inverse of `__getstate__`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pair.duetto")
            path.write_bytes(state["pair"])
            self.__dict__.update(state | {"pair": ExpertPair.load(path)})


class _Engine:
    """The experts of a `DuettoUnified` on their device."""

    def __init__(self, unified: DuettoUnified) -> None:
        settings: dict[str, Any] = dict(unified.settings)
        if settings["device"] == "auto":
            gpu = torch.cuda.is_available()
            settings["device"] = f"cuda:{torch.cuda.current_device()}" if gpu else "cpu"
        potential = Potential(unified.pair, [], np.zeros(0), (False, False, False), **settings)
        self.backend, self.precision = potential.backend, potential.precision
        self.device = torch.device(settings["device"])
        self.dtype = getattr(torch, unified.settings["dtype"])
        self.experts = {role: unified.pair.experts[role] for role in unified.roles}
        self.terms, self.correction = unified.terms, unified.pair.correction
        self._types: Mapping[str, Tensor] = {
            role: torch.from_numpy(expert_types(unified.types, expert)).to(self.device)
            for role, expert in self.experts.items()
        }
        self._reach_squared = {
            role: _with_unknown(cutoff_matrix(expert) ** 2).to(self.device)
            for role, expert in self.experts.items()
        }
        own = unified.cutoffs.max(axis=1, initial=0.0)
        self._reach = np.where(own > 0.0, own, own.max(initial=0.0))
        self._checked: set[str] = set()

    def warm_up(self) -> None:
        """Compile what is compiled on first use, so that the first step is like the others."""
        kinds = torch.arange(len(self._reach), device=self.device)
        vectors = torch.zeros(len(kinds), 3, dtype=torch.float64, device=self.device)
        vectors[:, 0] = 0.75 * torch.from_numpy(self._reach).to(self.device)
        half = torch.full_like(vectors[:, 0], 0.5)
        self.evaluate(kinds, half, kinds, kinds, vectors)
        self._checked.clear()  # the check is for the user's own atoms

    def evaluate(
        self,
        kinds: Tensor,
        weight: Tensor,
        row: Tensor,
        neighbors: Tensor,
        vectors: Tensor,
        active: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mixed energies and gradients.

        Args:
            kinds: (n,) LAMMPS type of each centre, from 0.
            weight: (n,) its share of HF.
            row: (E,) ascending, the place of each edge's centre among the n.
            neighbors: (E,) LAMMPS type of the neighbour.
            vectors: (E, 3) float64, Å.
            active: by role, (n,) bool: centres that the expert computes even where it counts for
                nothing.

        Returns:
            (n,) float64 eV, (E, 3) float64 eV/Å, and by role (n,) float64 eV, what each expert says
            of a centre, not weighted, of "hf" the correction where it is one; NaN where it was not
            asked.
        """
        energies = torch.zeros(len(kinds), dtype=torch.float64, device=self.device)
        sites = {role: torch.full_like(energies, torch.nan) for role in ROLES}
        gradient = torch.zeros_like(vectors)
        distance_squared = (vectors**2).sum(1)
        shares = weight.cpu().numpy()
        for role in self.experts:
            by_role = coefficients(role, shares, self.terms, correction=self.correction)
            share = torch.from_numpy(by_role).to(self.device)
            mine = share != 0.0
            if active and role in active:
                mine = mine | active[role]
            mine = mine & (self._types[role][kinds] >= 0)  # not those of other pair styles
            if not bool(mine.any()):
                continue
            centre_types, neighbor_types = self._types[role][kinds], self._types[role][neighbors]
            near = distance_squared < self._reach_squared[role][centre_types[row], neighbor_types]
            edges, kept = edges_of_centres(
                mine, row, near, centre_types, neighbor_types, vectors, self.dtype
            )
            site, by_edge = self._site_energies(role, edges)
            sites[role][mine] = site.double()
            energies[mine] += share[mine] * site
            gradient.index_add_(0, kept, share[row[kept]][:, None] * by_edge.double())
        return energies, gradient, sites

    def _site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """By the backend, which is compared with the expert's own evaluation the first time."""
        site, by_edge = self.backend.site_energies(role, edges)
        # Where atoms are in one place there is nothing to compare: the pair style names the atom.
        if role not in self._checked and bool(torch.isfinite(by_edge).all()):
            self._check(role, edges, by_edge)
            self._checked.add(role)
        return site, by_edge

    def _check(self, role: str, edges: Edges, gradient: Tensor) -> None:
        n = min(_CHECKED_CENTRES, edges.n_centres)
        last = int(edges.first[n])
        sample = Edges(
            edges.first[: n + 1].cpu(),
            edges.centre_types[:n].cpu(),
            edges.neighbor_types[:last].cpu(),
            edges.vectors[:last].double().cpu(),
        )
        _, expected = self.experts[role].site_energies(sample)
        if not last:
            return
        error = float((gradient[:last].double().cpu() - expected).abs().max())
        error /= max(float(expected.abs().max()), 1e-3)
        tolerance = _CHECK_TOLERANCE[self.precision]
        if not error <= tolerance:
            raise RunStopped(
                f"backend {self.backend.name} ({self.precision}, {self.device}) differs from the "
                f"reference of expert {role} by {error:.1e} of the largest gradient, more than "
                f"{tolerance:.0e}"
            )


def _with_unknown(reach: Tensor) -> Tensor:
    """One row and column more, of zeros: types −1, which are nobody's neighbour."""
    return torch.nn.functional.pad(reach, (0, 1, 0, 1))


def _on(array: Any, device: torch.device, length: int | None = None) -> Tensor:
    """An array of LAMMPS's, NumPy's or CuPy's, as a tensor; LAMMPS hands over None for nothing."""
    if array is None or length == 0:
        return torch.zeros(0, device=device)
    return torch.as_tensor(array, device=device)


def _rows(pair_i: Tensor, centres: Tensor, ntotal: int) -> Tensor:
    """The place of each edge's centre in the list of centres; ascending.

    Raises:
        RunStopped: the edges do not come centre by centre.
    """
    place = torch.full((max(ntotal, 1),), -1, dtype=torch.int64, device=centres.device)
    place[centres] = torch.arange(len(centres), device=centres.device)
    row = place[pair_i]
    if len(row) and bool((row.diff() < 0).any() or (row < 0).any()):
        raise RunStopped("LAMMPS's edges are not sorted by their centre, as they should be")
    return row


def _return(data: EdgeData, energies: Tensor, gradient: Tensor) -> None:
    """Hand over the results where LAMMPS keeps its atoms: on a GPU with Kokkos, else here."""
    data.energy = float(energies.sum())
    if hasattr(data, "update_pair_forces_gpu"):
        torch.as_tensor(data.eatoms).copy_(energies)
        if data.npairs:
            data.update_pair_forces_gpu(gradient)
        return
    data.eatoms = energies.cpu().numpy()
    if data.npairs:
        data.update_pair_forces(np.ascontiguousarray(gradient.cpu().numpy()))


def save_unified(unified: DuettoUnified, path: str | os.PathLike[str]) -> None:
    """Write what `pair_style mliap unified FILE` loads, whole or not at all.

    Raises:
        InputError: the file's name does not end in .pt, by which LAMMPS knows it.
    """
    if Path(path).suffix != ".pt":
        raise InputError(f"{path}: LAMMPS loads files that end in .pt; use such a name")
    stream = io.BytesIO()
    torch.save(unified, stream)
    atomic_write(path, stream.getvalue())
