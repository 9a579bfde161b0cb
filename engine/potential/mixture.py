"""The mixture's energy, forces and virial.

    E(R) = Σ_i [w_i E_i^HF(R) + (1 − w_i) E_i^LF(R)],   F = −∂E/∂R

as a list of terms (`duetto.potential.terms`). With weights w that do not depend on R, F is the
exact gradient, for abrupt and blended partitions alike, and energy and momentum are conserved.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError, RunStopped
from duetto.experts.base import max_cutoff
from duetto.experts.pair import ExpertPair
from duetto.experts.region import strictly_local
from duetto.potential.base import Backend, Bath, Evaluation, Propagating, Start
from duetto.potential.choice import DTYPES, choose_backend, make_backend, precision_of
from duetto.potential.modes import in_plain_torch
from duetto.potential.neighbors import neighbors_of
from duetto.potential.reference import ReferenceBackend
from duetto.potential.terms import (
    ExpertWork,
    Term,
    atom_types,
    checked_weights,
    divide,
    mixture_terms,
    require_known,
)
from duetto.potential.turns import Turns

__all__ = ["Evaluation", "Potential", "Term"]

Array = NDArray[Any]
_log = logging.getLogger("duetto")

_SELF_CHECK_ATOMS = 12
_SELF_CHECK_TOLERANCE = {"fp64": 1e-10, "fp32": 2e-4, "bf16x3": 2e-4, "tf32": 2e-2}
"""Largest error of a force over the largest force. Float32 sums of some hundred terms are good to
about 1e-5, and so are products of split bfloat16, 2⁻¹⁶ each; a wrong kernel is off by far more
than 2e-4. TF32 errs by 2⁻¹¹ a product, with up to ten products a layer, three layers."""


class Potential:
    """Experts as one potential for one set of atoms.

    Attributes:
        pair: the experts.
        species: chemical symbol of every atom.
        precision: what matrix products are computed in, see `choice.precision_of`.
        weights: (A,) float64, w_i.
        terms: whose sum the energy is.
        neighbor_list: the list in use.
        ahead: what `evaluate` found last by the weights of the next step, where those are known.
    """

    @in_plain_torch
    def __init__(
        self,
        pair: ExpertPair,
        species: Sequence[str],
        weights: ArrayLike,
        pbc: ArrayLike,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        backend: str | Backend = "auto",
        precision: str = "auto",
        skin: float = 0.5,
    ) -> None:
        """Check the partition and prepare the experts that it needs.

        Args:
            pair: the experts.
            species: (A,) chemical symbols.
            weights: (A,) numbers in [0, 1]; 1 is high fidelity.
            pbc: (3,) bool.
            device: "cpu" or "cuda".
            dtype: "float32" or "float64", of the network's arithmetic; positions, forces and sums
                over atoms are float64.
            backend: "auto", "numba" (CPU), "triton" (CUDA) or "reference" (plain torch); or one
                that is made already, for these experts, this device and this dtype.
            precision: of matrix products, one of PRECISIONS; "auto" is the first that the backend
                has, see `choice.precision_of`.
            skin: Verlet skin, Å.

        Raises:
            InputError: a species is unknown to an expert that computes it, the pair lacks an
                expert that the weights ask for, or an argument is out of range.
        """
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: use float32 or float64")
        if not 0.0 <= skin < 100.0:
            raise InputError(f"skin {skin} Å: use a number from 0 to 100")
        self.pair = pair
        self._turns = Turns()
        self.species = tuple(species)
        self.pbc = np.asarray(pbc, dtype=bool)
        self.device, self.dtype = device, dtype
        self._skin = skin
        chosen = backend
        name = choose_backend(chosen, device, dtype) if isinstance(chosen, str) else chosen.name
        self.precision = precision_of(precision, name, device, dtype)
        if isinstance(chosen, str):
            chosen = make_backend(name, device, pair.experts, dtype, self.precision)
        self.backend = chosen
        self._types = {role: atom_types(e, self.species) for role, e in pair.experts.items()}
        self._reach = {role: max_cutoff(expert) for role, expert in pair.experts.items()}
        self._groups: list[tuple[Sequence[Sequence[Term]], list[ExpertWork]]] = []
        self._work: list[ExpertWork] = []
        self.n_rebuilds = 0
        self.neighbor_list: Any = None
        self.ahead: Evaluation | None = None
        self.set_weights(weights)

    def set_weights(
        self,
        weights: ArrayLike,
        active: Mapping[str, NDArray[np.bool_]] | None = None,
        ahead: ArrayLike | None = None,
    ) -> None:
        """Change the partition.

        The neighbour list is built anew at the next evaluation unless each expert computes the
        atoms that it did before.

        Args:
            weights: (A,) numbers in [0, 1].
            active: by role, (A,) atoms that the expert computes although they may have no weight
                there now: a partition that moves changes weights among them without a new list.
            ahead: (A,) weights that will be in force next. `evaluate` then finds energy and forces
                by both, each expert asked once; those of the next are left in `ahead`.

        Raises:
            InputError: a weight is out of range, or asks for an expert that is not there.
        """
        w = checked_weights(weights, len(self.species))
        terms = mixture_terms(w)
        groups = [terms]
        if ahead is not None:
            groups.append(mixture_terms(checked_weights(ahead, len(self.species))))
        work = with_known_centres(self._divide(groups, active), self._work)
        same = len(work) == len(self._work) and all(
            new.centres is old.centres for new, old in zip(work, self._work, strict=True)
        )
        self.weights, self.terms, self._work = w, terms, work
        self._groups.clear()
        if self.neighbor_list is None or not same:
            self.neighbor_list = self._new_list(work, self._ranges(work), self._skin)

    def reserve(self, groups: Sequence[Sequence[Term]]) -> None:
        """Have the neighbour list serve these groups of terms, too, from its next building on.

        What `evaluate_terms` does by itself; a run that is resumed asks before it builds the list
        that it was stopped with.
        """
        work = self._work_of(groups)
        ranges = self._ranges([*self._work, *work])
        if not self.neighbor_list.serves(work, ranges):
            self.neighbor_list = self._new_list(work, ranges, self._skin)

    def _divide(
        self,
        groups: Sequence[Sequence[Term]],
        active: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> list[ExpertWork]:
        """What each expert computes for these groups of terms, if they can be computed."""
        for term in (term for group in groups for term in group):
            asked = int(np.count_nonzero(term.coefficients))
            if asked and term.expert not in self._types:
                raise InputError(
                    f"{asked} atoms need the expert {term.expert}, which the pair lacks"
                )
        known = [[term for term in group if term.expert in self._types] for group in groups]
        work = divide(known, self._types, active, correction=self.pair.correction)
        require_known(work, self.pair.experts, self.species)
        return work

    def _work_of(self, groups: Sequence[Sequence[Term]]) -> list[ExpertWork]:
        """The same, remembered for groups that are asked for again."""
        for known, work in self._groups:
            if known is groups:
                return work
        earlier = [job for _, jobs in self._groups for job in jobs]
        work = with_known_centres(self._divide(groups), [*self._work, *earlier])
        self._groups.append((groups, work))
        return work

    def _evaluated(self) -> Sequence[ExpertWork]:
        """What `evaluate` asks the experts for."""
        return self._work

    def _ranges(self, work: Sequence[ExpertWork]) -> Array:
        """How far the experts of each atom see, (A,) Å; 0 where there are none."""
        ranges = np.zeros(len(self.species))
        for job in work:
            ranges[job.centres] = np.maximum(ranges[job.centres], self._reach[job.role])
        return ranges

    def _new_list(self, work: Sequence[ExpertWork], ranges: Array, skin: float) -> Any:
        return self.backend.new_list(work, ranges, self.pbc, skin)

    @in_plain_torch
    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """Energy, forces and virial.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å; ignored along directions that are not periodic.

        Raises:
            InputError: a position is not finite or the cell is flat.
        """
        with self._turns:
            self._bring_list_up_to_date(positions, cell)
            found = self._ask(positions, cell, self.neighbor_list, self._work)
            self.ahead = found[1] if len(found) > 1 else None
            return found[0]

    @in_plain_torch
    def evaluate_terms(
        self, positions: Tensor, cell: Tensor, groups: Sequence[Sequence[Term]]
    ) -> list[Evaluation]:
        """Energies, forces and virials of several sums of terms; each expert computes an atom once.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            groups: the sums. Ask again with the same object: what follows from it is remembered.

        Returns:
            One evaluation per group.

        Raises:
            InputError: as `evaluate`; a term asks for an expert that is not there.
        """
        with self._turns:
            self.reserve(groups)
            self._bring_list_up_to_date(positions, cell)
            work = self._work_of(groups)
            return self._ask(positions, cell, self.neighbor_list, work)

    def _ask(
        self, positions: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> list[Evaluation]:
        """What the backend finds, HF's energies whole whatever its form."""
        found = self.backend.evaluate(positions, cell, neighbors, work)
        return [one.with_whole_hf() for one in found] if self.pair.correction else found

    def _bring_list_up_to_date(self, positions: Tensor, cell: Tensor) -> None:
        if not self.neighbor_list.is_valid(positions, cell):
            self.rebuild(positions, cell)

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the neighbour list around these positions."""
        self.neighbor_list.rebuild(positions, cell)
        self.n_rebuilds += 1

    @property
    def takes_steps_on_device(self) -> bool:
        """Whether there is a `propagator`, which can go on from one step to the next by itself."""
        return isinstance(self.backend, Propagating)

    def propagator(self, start: Start, timestep_fs: float, bath: Bath | None = None) -> Any:
        """Dynamics on the backend's device from `start`; see `duetto.potential.base.Propagating`.

        Raises:
            TypeError: the backend has none.
        """
        if not isinstance(self.backend, Propagating):
            raise TypeError(f"backend {self.backend.name} takes every step on the host")
        return self.backend.propagator(self.neighbor_list, self._work, start, timestep_fs, bath)

    def count_rebuild(self) -> None:
        """Note that a propagator of the backend has built the list in use anew."""
        self.n_rebuilds += 1

    def list_reference(self) -> Tensor | None:
        """Positions the neighbour list was built around, (A, 3) float64; None before the first."""
        reference = self.neighbor_list.reference
        return None if reference is None else torch.from_numpy(reference.copy())

    @in_plain_torch
    def expert_energies(
        self, positions: Tensor, cell: Tensor, atoms: ArrayLike | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies of atoms by each expert, E^HF and E^LF.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            atoms: indices of the atoms to compute; all of them if None.

        Returns:
            Two times (A,) float64, eV, NaN for atoms that were not asked for.

        Raises:
            InputError: the pair lacks an expert or an expert does not know a species.
        """
        chosen = np.zeros(len(self.species))
        chosen[slice(None) if atoms is None else np.asarray(atoms, dtype=np.int64)] = 1.0
        missing = [role for role in ("hf", "lf") if role not in self.pair.experts]
        if missing:
            raise InputError(f"the pair lacks the expert {missing[0]}")
        work = self._divide([[Term("hf", chosen), Term("lf", chosen)]])
        if not work:
            nothing = torch.full((len(self.species),), torch.nan, dtype=torch.float64)
            return nothing, nothing.clone()
        neighbors = self._new_list(work, self._ranges(work), 0.0)
        neighbors.rebuild(positions, cell)
        sites = self._ask(positions, cell, neighbors, work)[0].site_energies
        return sites["hf"], sites["lf"]

    @property
    def reach(self) -> float:
        """How far the experts see, Å."""
        return max(self._reach.values())

    def expert_forces(
        self, positions: Tensor, cell: Tensor, centres: ArrayLike
    ) -> tuple[Tensor, Tensor]:
        """Forces by the energies of some centres alone, once by HF and once by LF.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            centres: indices.

        Returns:
            Two times (A, 3) float64, eV/Å: an atom's force is whole where all centres within
            `reach` of it are among them.

        Raises:
            InputError: the pair lacks an expert or an expert does not know a species.
        """
        chosen = np.zeros(len(self.species))
        chosen[np.asarray(centres, dtype=np.int64)] = 1.0
        work = self._divide([[Term("hf", chosen)], [Term("lf", chosen)]])
        neighbors = self._new_list(work, self._ranges(work), 0.0)
        neighbors.rebuild(positions, cell)
        by_hf, by_lf = self._ask(positions, cell, neighbors, work)
        return by_hf.forces, by_lf.forces

    @in_plain_torch
    def self_check(self, positions: Tensor, cell: Tensor) -> float:
        """Compare the backend with the reference on a few of these atoms.

        Returns:
            Largest error of a force over the largest force.

        Raises:
            RunStopped: the error is above what the data type explains.
        """
        self.evaluate(positions, cell)
        local = strictly_local(self.pair.experts)
        sample = [_sample(job) for job in self._evaluated() if job.role in local]
        mine = self.backend.evaluate(positions, cell, self.neighbor_list, sample)
        sampled = np.unique(np.concatenate([np.zeros(0, np.int64), *(s.centres for s in sample)]))
        # A list of its own: that of the backend may be large, elsewhere, or what is wrong.
        near = neighbors_of(sampled, self.reach, positions, cell, self.pbc)
        reference = ReferenceBackend(local, torch.float64)
        theirs = reference.evaluate(positions.cpu(), cell.cpu(), near, sample)
        # One that is not a number is the largest.
        error = max(map(_relative_error, mine, theirs), key=lambda e: (e != e, e))
        tolerance = _SELF_CHECK_TOLERANCE[self.precision]
        if not error <= tolerance:
            raise RunStopped(
                f"backend {self.backend.name} ({self.precision}, {self.device}) differs from the "
                f"reference by {error:.1e} of the largest force, more than {tolerance:.0e}"
            )
        _log.info(
            "backend %s with products in %s: forces on %d atoms agree with the float64 reference "
            "to %.1e of the largest",
            self.backend.name,
            self.precision,
            len(sampled),
            error,
        )
        return error


def with_known_centres(work: list[ExpertWork], known: Sequence[ExpertWork]) -> list[ExpertWork]:
    """The same work; where its centres are those of earlier work, with that very array.

    Backends plan by centres, and keep a plan as long as the array is the same.
    """

    def known_centres(job: ExpertWork) -> Array:
        for other in known:
            if other.role == job.role and np.array_equal(job.centres, other.centres):
                return other.centres
        return job.centres

    return [replace(job, centres=known_centres(job)) for job in work]


def _relative_error(found: Evaluation, expected: Evaluation) -> float:
    """Largest error of a force over the largest force."""
    error = float((found.forces.cpu() - expected.forces).abs().max())
    return error / max(float(expected.forces.abs().max()), 1e-3)


def _sample(job: ExpertWork) -> ExpertWork:
    """A few centres of the job, every species among them."""
    chosen: list[int] = []
    types = job.types[job.centres]
    kinds = np.flatnonzero(np.bincount(types))
    share = -(-_SELF_CHECK_ATOMS // len(kinds))
    for kind in kinds:
        of_kind = np.flatnonzero(types == kind)
        chosen += of_kind[:: max(1, len(of_kind) // share)][:share].tolist()
    return job.of(np.sort(np.array(chosen)))
