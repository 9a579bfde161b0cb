"""The mixture's energy, forces and virial.

    E(R) = Σ_i [w_i E_i^HF(R) + (1 − w_i) E_i^LF(R)],   F = −∂E/∂R

with weights w that do not depend on R: F is the exact gradient, for abrupt and blended partitions
alike, and energy and momentum are conserved.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.errors import InputError, RunStopped
from duetto.experts.pair import ExpertPair
from duetto.potential.base import Backend, DeviceBackend, Evaluation, ExpertWork
from duetto.potential.cpu import CPUBackend
from duetto.potential.neighbors import NeighborList
from duetto.potential.reference import ReferenceBackend

__all__ = ["Evaluation", "Potential"]

Array = NDArray[Any]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
BACKENDS = ("auto", "torch", "triton")
PRECISIONS = ("auto", "fp32", "bf16x3", "tf32")
_log = logging.getLogger("duetto")

_SELF_CHECK_ATOMS = 12
_SELF_CHECK_TOLERANCE = {"fp64": 1e-10, "fp32": 2e-4, "bf16x3": 2e-4, "tf32": 2e-2}
"""Largest error of a force over the largest force. Float32 sums of some hundred terms are good to
about 1e-5, and so are products of split bfloat16, 2⁻¹⁶ each; a wrong kernel is off by far more
than 2e-4. TF32 errs by 2⁻¹¹ a product, with up to ten products a layer, three layers."""


class Potential:
    """Two experts as one potential for one set of atoms.

    Attributes:
        pair: the experts.
        species: chemical symbol of every atom.
        precision: what matrix products are computed in, see `precision_of`.
        weights: (A,) float64, w_i.
        neighbor_list: the list in use.
        on_rebuild: called as f(positions, cell, potential) after each rebuild of the list, before
            the evaluation; a guard may change the weights there.
    """

    def __init__(
        self,
        pair: ExpertPair,
        species: Sequence[str],
        weights: ArrayLike,
        pbc: ArrayLike,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        backend: str = "auto",
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
            backend: "auto", "torch" or "triton".
            precision: of matrix products, one of PRECISIONS; "auto" is the first that the backend
                has, see `precision_of`.
            skin: Verlet skin, Å.

        Raises:
            InputError: a species is unknown to an expert that computes atoms, the pair lacks an
                expert that the weights ask for, or an argument is out of range.
        """
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: use float32 or float64")
        if not 0.0 <= skin < 100.0:
            raise InputError(f"skin {skin} Å: use a number from 0 to 100")
        self.pair = pair
        self.species = tuple(species)
        self.pbc = np.asarray(pbc, dtype=bool)
        self.device, self.dtype = device, dtype
        self._skin = skin
        self._folded = {role: expert.fold() for role, expert in pair.experts.items()}
        name = _choose_backend(backend, device, DTYPES[dtype])
        self.precision = precision_of(precision, name, device, dtype)
        self.backend: Backend = _make_backend(
            name, device, self._folded, DTYPES[dtype], self.precision
        )
        self.on_rebuild: list[Callable[[Tensor, Tensor, Potential], None]] = []
        self.n_rebuilds = 0
        self.set_weights(weights)

    def set_weights(self, weights: ArrayLike) -> None:
        """Change the partition; the neighbour list is built anew at the next evaluation."""
        w = np.array(weights, dtype=np.float64)
        if w.shape != (len(self.species),):
            raise InputError(f"{w.shape} weights for {len(self.species)} atoms")
        if not ((w >= 0) & (w <= 1)).all():
            atom = int(np.flatnonzero(~((w >= 0) & (w <= 1)))[0])
            raise InputError(f"weight {w[atom]} of atom {atom} is not between 0 and 1")
        self.weights = w
        self._work = self._divide(w)
        ranges = np.zeros(len(w))
        for job in self._work:
            r_max = self.pair.experts[job.role].architecture.r_max
            ranges[job.centres] = np.maximum(ranges[job.centres], r_max)
        self.neighbor_list = self._new_list(ranges, self._work, self._skin)

    def _new_list(self, ranges: Array, work: list[ExpertWork], skin: float) -> Any:
        """An empty list where the backend wants it: on the host, or on its device."""
        if isinstance(self.backend, DeviceBackend):
            return self.backend.new_list(work, self.pbc, skin)
        return NeighborList(ranges, self.pbc, skin)

    def _for_list(self, positions: Tensor, cell: Tensor) -> tuple[Any, Any]:
        """Positions and cell where the list wants them."""
        if isinstance(self.backend, DeviceBackend):
            return positions.detach(), cell.detach()
        return positions.detach().cpu().numpy(), cell.detach().cpu().numpy()

    def _divide(self, w: Array) -> list[ExpertWork]:
        """Centres and weights of each expert that has any."""
        shares = {"hf": w, "lf": 1.0 - w}
        work = []
        for role, share in shares.items():
            centres = np.flatnonzero(share > 0).astype(np.int64)
            if len(centres) == 0:
                continue
            if role not in self.pair.experts:
                raise InputError(
                    f"{len(centres)} atoms need the expert {role}, which the pair lacks"
                )
            types = self._types(role)
            work.append(ExpertWork(role, centres, share[centres], types))
        return work

    def _types(self, role: str) -> Array:
        index = {name: t for t, name in enumerate(self.pair.experts[role].species)}
        for atom, name in enumerate(self.species):
            if name not in index:
                known = ", ".join(index)
                raise InputError(
                    f"atom {atom} is {name}, which the expert {role} does not know ({known})"
                )
        return np.array([index[name] for name in self.species], dtype=np.int64)

    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """Energy, forces and virial.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å; ignored along directions that are not periodic.

        Raises:
            InputError: a position is not finite or the cell is flat.
        """
        x, box = self._for_list(positions, cell)
        if not self.neighbor_list.is_valid(x, box):
            self.rebuild(positions, cell)
            for callback in list(self.on_rebuild):
                callback(positions, cell, self)
            if not self.neighbor_list.is_valid(x, box):  # a callback changed the partition
                self.rebuild(positions, cell)
        return self.backend.evaluate(positions, cell, self.neighbor_list, self._work)

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the neighbour list around these positions."""
        self.neighbor_list.rebuild(*self._for_list(positions, cell))
        self.n_rebuilds += 1

    def list_reference(self) -> Tensor | None:
        """Positions the neighbour list was built around, (A, 3) float64; None before the first."""
        reference = self.neighbor_list.reference
        return None if reference is None else torch.from_numpy(reference.copy())

    def expert_energies(self, positions: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of every atom by each expert, E^HF and E^LF, (A,) float64, eV.

        Raises:
            InputError: the pair lacks an expert or an expert does not know a species.
        """
        roles = ("hf", "lf")
        A = len(self.species)
        missing = [role for role in roles if role not in self.pair.experts]
        if missing:
            raise InputError(f"the pair lacks the expert {missing[0]}")
        r_max = max(expert.architecture.r_max for expert in self.pair.experts.values())
        energies = []
        for role in roles:
            work = [ExpertWork(role, np.arange(A), np.ones(A), self._types(role))]
            neighbors = self._new_list(np.full(A, r_max), work, 0.0)
            neighbors.rebuild(*self._for_list(positions, cell))
            energies.append(self.backend.evaluate(positions, cell, neighbors, work).energies)
        return energies[0], energies[1]

    def self_check(self, positions: Tensor, cell: Tensor) -> float:
        """Compare the backend with the reference on a few of these atoms.

        Returns:
            Largest error of a force over the largest force.

        Raises:
            RunStopped: the error is above what the data type explains.
        """
        self.evaluate(positions, cell)
        sample = [_sample(job, self.species) for job in self._work]
        mine = self.backend.evaluate(positions, cell, self.neighbor_list, sample)
        reference = ReferenceBackend(self._folded, torch.float64)
        theirs = reference.evaluate(positions.cpu(), cell.cpu(), self.neighbor_list, sample)
        error = float((mine.forces.cpu() - theirs.forces).abs().max())
        error /= max(float(theirs.forces.abs().max()), 1e-3)
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
            len(np.unique(np.concatenate([job.centres for job in sample]))) if sample else 0,
            error,
        )
        return error


def _sample(job: ExpertWork, species: Sequence[str]) -> ExpertWork:
    """A few centres of the job, every species among them."""
    chosen: list[int] = []
    names = np.array(species)[job.centres]
    kinds = np.unique(names)
    for name in kinds:
        of_kind = np.flatnonzero(names == name)
        share = -(-_SELF_CHECK_ATOMS // len(kinds))
        chosen += of_kind[:: max(1, len(of_kind) // share)][:share].tolist()
    places = np.sort(np.array(chosen))
    return ExpertWork(job.role, job.centres[places], job.weight[places], job.types)


def precision_of(asked: str, backend: str, device: str, dtype: str) -> str:
    """What matrix products are computed in.

    Args:
        asked: one of PRECISIONS. "bf16x3" and "fp32" are those of the triton backend; the torch
            backend has "fp32", and on CUDA "tf32". Experts in float64 multiply in float64: "auto".
        backend: "torch" or "triton".
        device: "cpu" or "cuda".
        dtype: "float32" or "float64".

    Returns:
        "fp64", "fp32", "bf16x3" or "tf32".

    Raises:
        InputError: there are no such products there.
    """
    kind = torch.device(device).type
    if dtype == "float64":
        possible: tuple[str, ...] = ("fp64",)
    elif backend == "triton":
        possible = ("bf16x3", "fp32")
    else:
        possible = ("fp32", "tf32") if kind == "cuda" else ("fp32",)
    if asked == "auto":
        return possible[0]
    if asked in possible and asked in PRECISIONS:
        return asked
    allowed = ", ".join(("auto", *(name for name in possible if name in PRECISIONS)))
    raise InputError(
        f"precision: got {asked!r}; allowed with dtype {dtype} in backend {backend} on {kind}: "
        f"{allowed}"
    )


def _choose_backend(name: str, device: str, dtype: torch.dtype) -> str:
    """The backend, "torch" or "triton"."""
    if name not in BACKENDS:
        raise InputError(f"backend {name!r}: use one of {', '.join(BACKENDS)}")
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no CUDA device here; use device cpu")
    if kind not in {"cpu", "cuda"}:
        raise InputError(f"device {device!r}: use cpu or cuda")
    reason = _without_triton(kind, dtype)
    if name == "triton" and reason is not None:
        raise InputError(f"backend triton {reason}; use backend auto or torch")
    if name != "torch" and reason is None:
        return "triton"
    if kind == "cuda" and name == "auto":
        _log.info("backend torch on %s: triton %s", device, reason)
    return "torch"


def _make_backend(
    name: str, device: str, folded: dict[str, Any], dtype: torch.dtype, precision: str
) -> Backend:
    if name == "triton":
        from duetto.potential.triton import TritonBackend

        return TritonBackend(folded, device, precision)
    if torch.device(device).type == "cpu":
        return CPUBackend(folded, dtype)
    return ReferenceBackend(folded, dtype, device, tf32=precision == "tf32")


def _without_triton(kind: str, dtype: torch.dtype) -> str | None:
    """Why the triton backend cannot be used, as the end of a sentence; None if it can."""
    if kind != "cuda":
        return "needs a CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "needs the package triton, which is not installed"
    if dtype != torch.float32:
        return "computes in float32 only"
    return None
