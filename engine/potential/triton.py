"""The triton backend: the list, both experts and the forces in kernels on an NVIDIA GPU.

Positions stay on the device; the host reads a few flags per evaluation. Dynamics that does without
even that is `duetto.kernels.triton.dynamics`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.atoms.geometry import check_geometry
from duetto.errors import InputError, RunStopped
from duetto.kernels.folded import FoldedExpert
from duetto.kernels.triton import flags as flag
from duetto.kernels.triton.expert_launch import PRECISIONS, ExpertKernels
from duetto.kernels.triton.expert_packing import pack
from duetto.kernels.triton.expert_spec import unsupported_reason
from duetto.kernels.triton.mixture import Expert, Mixture
from duetto.kernels.triton.neighbor_list import CapacityError
from duetto.kernels.triton.neighbor_list import NeighborList as DeviceSearch
from duetto.kernels.triton.torch_expert import TorchExpert
from duetto.potential.base import Evaluation, ExpertWork

Array = NDArray[Any]
ROLES = ("hf", "lf")
_log = logging.getLogger("duetto")


class TritonBackend:
    """Both experts on one GPU. Network arithmetic is float32; sums over atoms are exact."""

    name = "triton"

    def __init__(
        self,
        experts: Mapping[str, FoldedExpert],
        device: str = "cuda",
        precision: str = "bf16x3",
    ) -> None:
        """Pack the weights and choose how each expert is evaluated.

        Args:
            experts: folded weights by role.
            device: "cuda", or "cpu" in Triton's interpreter.
            precision: of matrix products: "fp32", or "bf16x3", which splits numbers into two
                bfloat16 and is good to about 2⁻¹⁶.

        Raises:
            InputError: unknown precision.
        """
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: use one of {', '.join(PRECISIONS)}")
        self.device = device
        self.precision = precision
        self.folded = dict(experts)
        self.experts: dict[str, Expert] = {}
        self.capturable = True
        for role, expert in experts.items():
            reason = unsupported_reason(expert)
            if reason is None:
                self.experts[role] = ExpertKernels(pack(expert).to(device), precision)
            else:
                _log.warning("expert %s runs in plain torch on %s: %s", role, device, reason)
                self.experts[role] = TorchExpert(expert, device)
                self.capturable = False

    def new_list(self, work: Sequence[ExpertWork], pbc: ArrayLike, skin: float) -> DeviceList:
        """An empty list for the centres of `work`, periodic along `pbc`, with `skin` in Å."""
        return DeviceList(self, work, np.asarray(pbc, dtype=bool), skin)

    def evaluate(
        self, positions: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> Evaluation:
        """See `duetto.potential.base.Backend`.

        A list made by `new_list` for this very `work` is used; else one is built for this call.

        Raises:
            RunStopped: a force is not finite or exceeds 1024 eV/Å between two atoms, or a centre
                has more neighbours than the kernels hold.
        """
        x = positions.detach().to(self.device)
        # Triton launches on the current device, which need not be this one.
        with torch.cuda.device_of(x):
            mixture = self._evaluate(x, cell, neighbors, work)
        return Evaluation(
            energy=float(mixture.energies.sum()),
            energies=mixture.energies.clone().to(positions.device),
            forces=mixture.forces.clone().to(positions.device),
            virial=-mixture.virial().to(positions.device),
        )

    def _evaluate(
        self, x: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> Mixture:
        """The mixture after evaluating it, with no flag raised."""
        if not (isinstance(neighbors, DeviceList) and neighbors.work is work):
            neighbors = self.new_list(work, neighbors.pbc, 0.0)
            neighbors.rebuild(x, cell)
        mixture: Mixture = neighbors.mixture
        # What an evaluation that was given up has raised does not concern this one.
        mixture.neighbors.flags[flag.TILE_FULL.value : flag.HALTED.value].zero_()
        mixture.evaluate(x)
        raised = mixture.neighbors.flags.tolist()
        too_small = (flag.CELL_FULL, flag.LIST_FULL, flag.TILE_FULL, flag.WORK_FULL)
        if any(raised[full.value] for full in too_small):
            neighbors.rebuild(x, cell)
            mixture.evaluate(x)
            raised = mixture.neighbors.flags.tolist()
        if raised[flag.FORCE_RANGE.value]:
            raise RunStopped(_out_of_range(mixture))
        return mixture


class DeviceList:
    """The neighbour list of some centres on the device, in the shape of the host's.

    Attributes:
        work: the centres it is for.
        mixture: forces over this list.
        n_rebuilds: how often it has been built.
    """

    on_device = True

    def __init__(
        self,
        backend: TritonBackend,
        work: Sequence[ExpertWork],
        pbc: NDArray[np.bool_],
        skin: float,
    ) -> None:
        self.work = work
        self.pbc = pbc
        self.skin = skin
        self._cell: Tensor | None = None
        self._copy: tuple[int, tuple[Array, Array, Array]] | None = None
        jobs = {job.role: job for job in work}
        n_atoms = len(work[0].types) if work else 0
        n_types = max((backend.folded[role].num_types for role in jobs), default=1)
        types = np.zeros((2, n_atoms), dtype=np.int32)
        cutoffs = torch.zeros(2, n_types, n_types, dtype=torch.float64)
        for index, role in enumerate(ROLES):
            if role in jobs:
                T = backend.folded[role].num_types
                types[index] = jobs[role].types
                cutoffs[index, :T, :T] = backend.folded[role].cutoffs.cpu()
        search = DeviceSearch(
            torch.from_numpy(types).to(backend.device),
            cutoffs,
            (bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
            skin=skin,
        )
        experts = [backend.experts.get(role) for role in ROLES]
        self.mixture = Mixture(search, experts, capturable=backend.capturable)
        first, second = (_centres(jobs.get(role)) for role in ROLES)
        self.mixture.set_centres((first[0], second[0]), (first[1], second[1]))

    @property
    def n_rebuilds(self) -> int:
        """How often the list has been built."""
        return self.mixture.neighbors.n_rebuilds

    @property
    def reference(self) -> Array | None:
        """Positions at which the list was built, (A, 3) float64, Å; None before."""
        return None if self._cell is None else self.mixture.neighbors.reference.cpu().numpy()

    def is_valid(self, positions: Tensor, cell: Tensor) -> bool:
        """Whether every pair within range is certainly in the list."""
        if self._cell is None or not torch.equal(self._cell, cell.cpu()):
            return False
        search = self.mixture.neighbors
        with torch.cuda.device_of(search.reference):
            search.check_displacements(positions.to(search.reference))
        return not int(search.flags[flag.MOVED.value])

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Search all pairs anew.

        Args:
            positions: (A, 3) float64, Å. cell: (3, 3) float64, Å.

        Raises:
            InputError: a position or cell vector is not finite, or a periodic cell is flat.
            RunStopped: a centre has more neighbours than the kernels hold.
        """
        search = self.mixture.neighbors
        try:
            with torch.cuda.device_of(search.reference):
                search.build(positions.to(search.reference), cell)
        except ValueError as error:
            check_geometry(positions.cpu().numpy(), cell.cpu().numpy(), self.pbc)
            raise InputError(f"{error}") from error
        except CapacityError as error:
            raise RunStopped(f"{error}; use backend torch for this system") from error
        self._cell = cell.cpu().clone()

    def _on_host(self) -> tuple[Array, Array, Array]:
        """Neighbours of every atom by any of its experts, each once, on the host."""
        # Dynamics on the device rebuilds the list without asking here.
        if self._copy is None or self._copy[0] != self.n_rebuilds:
            i, j, S = self.mixture.neighbors.candidates()
            rows = np.unique(np.column_stack([i, j, S]), axis=0)
            first = np.searchsorted(rows[:, 0], np.arange(self.mixture.neighbors.n_atoms + 1))
            self._copy = self.n_rebuilds, (first, rows[:, 1].astype(np.int32), rows[:, 2:])
        return self._copy[1]

    @property
    def first(self) -> Array:
        """(A + 1,) int64, where each atom's neighbours begin in `neighbor`; copied once."""
        return self._on_host()[0]

    @property
    def neighbor(self) -> Array:
        """(list,) int32, neighbours within cutoff and skin."""
        return self._on_host()[1]

    @property
    def shift(self) -> Array:
        """(list, 3) int64, periodic image of each neighbour, in cell vectors."""
        return self._on_host()[2]


def _centres(job: ExpertWork | None) -> tuple[Tensor, Tensor]:
    if job is None:
        return torch.arange(0), torch.zeros(0, dtype=torch.float64)
    return torch.from_numpy(job.centres), torch.from_numpy(job.weight)


def _out_of_range(mixture: Mixture) -> str:
    """Names an atom whose gradient is out of range."""
    atom = mixture.centre_out_of_range()
    return f"a force on atom {atom} or a neighbour is not finite or exceeds 1024 eV/Å"
