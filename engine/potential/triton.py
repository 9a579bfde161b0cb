"""The triton backend: the list, both experts and the forces in kernels on an NVIDIA GPU.

Positions stay on the device; the host reads a few flags per evaluation. Dynamics that does without
even that is `duetto.kernels.triton.dynamics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from duetto.atoms.geometry import check_geometry
from duetto.errors import InputError, RunStopped
from duetto.experts.base import Edges, Expert, cutoff_matrix
from duetto.kernels.triton import flags as flag
from duetto.kernels.triton.dynamics import FORCE_RANGE_MESSAGE, Dynamics, Thermostat
from duetto.kernels.triton.expert_launch import PRECISIONS
from duetto.kernels.triton.mixture import Mixture, whole_virial
from duetto.kernels.triton.multiple_timestep import SplitDynamics
from duetto.kernels.triton.neighbor_list import CapacityError, DeviceNeighborList
from duetto.kernels.triton.rows import edge_rows
from duetto.potential.base import Bath, Evaluation, Start
from duetto.potential.lowering import lower_on_triton
from duetto.potential.over_list import OverList
from duetto.potential.terms import ExpertWork

Array = NDArray[Any]
ROLES = ("hf", "lf")


class TritonBackend:
    """Both experts on one GPU. Network arithmetic is float32; sums over atoms are exact."""

    name = "triton"

    def __init__(
        self,
        experts: Mapping[str, Expert],
        device: str = "cuda",
        precision: str = "bf16x3",
    ) -> None:
        """Pack the weights and choose how each expert is evaluated.

        Args:
            experts: by role.
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
        self.cutoffs = {role: cutoff_matrix(expert) for role, expert in experts.items()}
        self.experts: dict[str, Any] = {}
        self.capturable = True
        for role, expert in experts.items():
            self.experts[role], capturable = lower_on_triton(role, expert, device, precision)
            self.capturable &= capturable
        cutoffs = {role: values.to(device) for role, values in self.cutoffs.items()}
        self._over_list = OverList(self.site_energies, cutoffs, torch.float32, device)

    def new_list(
        self, work: Sequence[ExpertWork], ranges: Array, pbc: ArrayLike, skin: float
    ) -> DeviceList:
        """An empty list for the centres of `work`, periodic along `pbc`, with `skin` in Å."""
        return DeviceList(self, work, np.asarray(pbc, dtype=bool), skin)

    def evaluate(
        self, positions: Tensor, cell: Tensor, neighbors: Any, work: Sequence[ExpertWork]
    ) -> list[Evaluation]:
        """See `duetto.potential.base.Backend`.

        A list made by `new_list` for these centres is used, one for others is replaced for this
        call. Of anybody else's list the edges go to the kernels as they are, and torch sums.

        Raises:
            RunStopped: a force is not finite or exceeds 1024 eV/Å between two atoms, or a centre
                has more neighbours than the kernels hold.
        """
        x = positions.detach().to(self.device)
        home = positions.device
        # Triton launches on the current device, which need not be this one.
        with torch.cuda.device_of(x):
            if not isinstance(neighbors, DeviceList):
                return self._over_list.evaluate(positions, cell, neighbors, work)
            if not neighbors.serves(work, None):
                neighbors = self.new_list(work, np.zeros(0), neighbors.pbc, 0.0)
                neighbors.rebuild(x, cell.detach())
            n_groups = len(work[0].coefficients) if work else 1
            if neighbors.is_second(work):
                return self._evaluate_second(x, cell.detach(), neighbors, work[0], home)
            neighbors.use_coefficients(work, 0)
            mixture = self._evaluate(x, cell.detach(), neighbors)
            sites = {role: e.to(home) for role, e in neighbors.site_energies().items()}
            evaluations = []
            for group in range(n_groups):
                if group:
                    neighbors.use_coefficients(work, group)
                    mixture.gather()
                evaluations.append(_result(mixture, sites, home))
            # As a run on the device that shares the list has them.
            neighbors.use_coefficients(work, 0)
        return evaluations

    def _evaluate_second(
        self, x: Tensor, cell: Tensor, neighbors: DeviceList, job: ExpertWork, home: torch.device
    ) -> list[Evaluation]:
        """Sums over the low-fidelity expert alone, over a list that serves both."""
        mixture: Mixture = neighbors.mixture
        forces = torch.full_like(mixture.forces, torch.nan)
        energies = torch.full_like(mixture.energies, torch.nan)

        def launch(x: Tensor) -> None:
            mixture.evaluate_second(x, neighbors.second_weights(job, 0), forces, energies)

        self._evaluate(x, cell, neighbors, launch, lambda: FORCE_RANGE_MESSAGE)
        sites = {"lf": neighbors.site_energies()["lf"].to(home)}
        evaluations = []
        for group in range(len(job.coefficients)):
            weights = neighbors.second_weights(job, group)
            virials = mixture.gather_second(weights, forces, energies, virials=True)
            evaluations.append(
                Evaluation(
                    energy=float(energies.sum()),
                    energies=energies.clone().to(home),
                    forces=forces.clone().to(home),
                    virial=-whole_virial(virials).to(home),
                    site_energies=sites,
                )
            )
        return evaluations

    def evaluate_weighted(
        self, positions: Tensor, cell: Tensor, neighbors: DeviceList, hf: Tensor, lf: Tensor
    ) -> Evaluation:
        """The energy of a list's own centres by weights that are on the device.

        Args:
            positions: (A, 3) float64, Å.
            cell: (3, 3) float64, Å.
            neighbors: valid for them.
            hf, lf: (A,) float64, of each atom's energy by either expert.

        Raises:
            RunStopped: as `evaluate`.
        """
        home = positions.device
        neighbors.weigh({"hf": hf, "lf": lf})
        mixture = self._evaluate(positions.detach().to(self.device), cell.detach(), neighbors)
        sites = {role: e.to(home) for role, e in neighbors.site_energies().items()}
        return _result(mixture, sites, home)

    def require_in_range(self, neighbors: DeviceList) -> None:
        """Stop where a kernel has found a force that is none.

        Raises:
            RunStopped: as `evaluate`.
        """
        if int(neighbors.flags[flag.FORCE_RANGE.value]):
            raise RunStopped(_out_of_range(neighbors.mixture))

    def propagator(
        self,
        neighbors: DeviceList,
        work: Sequence[ExpertWork],
        start: Start,
        timestep_fs: float,
        bath: Bath | None,
        every: int | None = None,
    ) -> Dynamics:
        """See `duetto.potential.base.Propagating`."""
        neighbors.use_coefficients(work, 0)
        thermostat = None
        if bath is not None:
            thermostat = Thermostat(bath.thermal_energy, bath.friction_per_fs, bath.seed)
        state = (
            neighbors.mixture,
            start.positions,
            start.velocities,
            start.cell.to(neighbors.mixture.forces),
            start.accelerations,
            timestep_fs,
        )
        options: dict[str, Any] = {
            "forces": start.forces,
            "thermostat": thermostat,
            "first_step": start.step,
        }
        if every is None:
            return Dynamics(*state, **options)
        fast = neighbors.coefficients(work, -1)
        options |= {"slow_forces": start.slow_forces, "fast_weights": fast, "every": every}
        return SplitDynamics(*state, **options)

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.potential.base.Backend`.

        Raises:
            RunStopped: a centre has more neighbours than the kernels hold.
        """
        try:
            rows = edge_rows(edges.first, edges.centre_types, edges.neighbor_types, edges.vectors)
        except CapacityError as error:
            raise RunStopped(f"{error}; use backend reference for this system") from error
        energies = rows.vectors.new_zeros(edges.n_centres, dtype=torch.float64)
        gradients = torch.zeros_like(rows.vectors)
        with torch.cuda.device_of(energies):
            self.experts[role].evaluate(rows, 0, energies, gradients)
        return energies, gradients.T.contiguous()

    def _evaluate(
        self,
        x: Tensor,
        cell: Tensor,
        neighbors: DeviceList,
        launch: Callable[[Tensor], object] | None = None,
        out_of_range: Callable[[], str] | None = None,
    ) -> Mixture:
        """The mixture after evaluating it, or what `launch` does of it, with no flag raised."""
        mixture: Mixture = neighbors.mixture
        launch = launch or mixture.evaluate
        x = x.contiguous()  # the kernels read rows of three numbers one behind the other
        # What an evaluation that was given up has raised does not concern this one.
        mixture.neighbors.flags[flag.TILE_FULL.value : flag.HALTED.value].zero_()
        mixture.want_virials(True)
        launch(x)
        raised = mixture.neighbors.flags.tolist()
        too_small = (flag.CELL_FULL, flag.LIST_FULL, flag.TILE_FULL, flag.WORK_FULL)
        if any(raised[full.value] for full in too_small):
            neighbors.rebuild(x, cell)
            launch(x)
            raised = mixture.neighbors.flags.tolist()
        if raised[flag.FORCE_RANGE.value]:
            mixture.neighbors.flags[flag.FORCE_RANGE.value].zero_()
            raise RunStopped(_out_of_range(mixture) if out_of_range is None else out_of_range())
        return mixture


class DeviceList:
    """The neighbour list of some centres on the device, in the shape of the host's.

    Attributes:
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
        self.pbc = pbc
        self.skin = skin
        self._cell: Tensor | None = None
        self._copy: tuple[int, tuple[Array, Array, Array]] | None = None
        self._jobs = {job.role: job for job in work}
        self._used: tuple[Sequence[ExpertWork], int] | None = None
        self._second: tuple[ExpertWork, int, Tensor] | None = None
        n_atoms = len(work[0].types) if work else 0
        n_types = max((len(backend.cutoffs[role]) for role in self._jobs), default=1)
        # One type more, with cutoff 0: species that an expert does not know.
        types = np.full((2, n_atoms), n_types, dtype=np.int32)
        cutoffs = torch.zeros(2, n_types + 1, n_types + 1, dtype=torch.float64)
        for index, role in enumerate(ROLES):
            if role in self._jobs:
                T = len(backend.cutoffs[role])
                known = self._jobs[role].types
                types[index] = np.where(known < 0, n_types, known)
                cutoffs[index, :T, :T] = backend.cutoffs[role]
        search = DeviceNeighborList(
            torch.from_numpy(types).to(backend.device),
            cutoffs,
            (bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
            skin=skin,
        )
        experts = [backend.experts.get(role) for role in ROLES]
        self.mixture = Mixture(search, experts, capturable=backend.capturable)
        first, second = (_centres(self._jobs.get(role)) for role in ROLES)
        self._centres = {"hf": first[0].to(backend.device), "lf": second[0].to(backend.device)}
        self.mixture.set_centres((first[0], second[0]), (first[1], second[1]))

    def serves(self, work: Sequence[ExpertWork], ranges: object) -> bool:
        """Whether these are the centres that the list was made for, of LF if not of both."""
        same = all(
            job.role in self._jobs and np.array_equal(job.centres, self._jobs[job.role].centres)
            for job in work
        )
        return same and (len(work) == len(self._jobs) or self.is_second(work))

    def is_second(self, work: Sequence[ExpertWork]) -> bool:
        """Whether LF alone is asked, and the list is for both."""
        return len(self._jobs) == len(ROLES) and [job.role for job in work] == ["lf"]

    def use_coefficients(self, work: Sequence[ExpertWork], group: int) -> None:
        """Weigh the centres as a group of terms does."""
        if self._used is not None and self._used[0] is work and self._used[1] == group:
            return
        self.mixture.weights.copy_(self.coefficients(work, group))
        self._used = work, group

    def coefficients(self, work: Sequence[ExpertWork], group: int) -> Tensor:
        """(C,) float64 on the device, what the centres count for in a group of terms."""
        by_role = {job.role: job.coefficients[group] for job in work}
        weights = np.concatenate([by_role.get(role, np.zeros(0)) for role in ROLES])
        return torch.from_numpy(weights).to(self.mixture.forces)

    def second_weights(self, job: ExpertWork, group: int) -> Tensor:
        """(C,) float64 on the device, the same for LF alone, with none for HF."""
        if self._second is None or self._second[0] is not job or self._second[1] != group:
            weights = np.concatenate([np.zeros(len(self._centres["hf"])), job.coefficients[group]])
            self._second = job, group, torch.from_numpy(weights).to(self.mixture.forces)
        return self._second[2]

    @property
    def flags(self) -> Tensor:
        """(N_FLAGS,) int32, see `duetto.kernels.triton.flags`."""
        flags: Tensor = self.mixture.neighbors.flags
        return flags

    def weigh(self, weights: Mapping[str, Tensor]) -> None:
        """Weigh the centres by role as (A,) numbers on the device say."""
        by_centre = [weights[role][centres] for role, centres in self._centres.items()]
        self.mixture.weights.copy_(torch.cat(by_centre))
        self._used = None

    def site_energies(self) -> dict[str, Tensor]:
        """By role (A,) float64, eV, of the last evaluation, not weighted; NaN elsewhere."""
        sites = {}
        energies, begin = self.mixture.centre_energies(), 0
        for role, centres in self._centres.items():
            if role in self._jobs:
                sites[role] = energies.new_full((len(self.mixture.energies),), torch.nan)
                sites[role][centres] = energies[begin : begin + len(centres)]
                begin += len(centres)
        return sites

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
            search.check_displacements(positions.to(search.reference).contiguous())
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
                search.build(positions.to(search.reference).contiguous(), cell)
        except ValueError as error:
            check_geometry(positions.cpu().numpy(), cell.cpu().numpy(), self.pbc)
            raise InputError(f"{error}") from error
        except CapacityError as error:
            raise RunStopped(f"{error}; use backend reference for this system") from error
        self._cell = cell.cpu().clone()

    def _on_host(self) -> tuple[Array, Array, Array]:
        """Neighbours of every atom by any of its experts, each once, on the host.

        For a look at small systems: sorting takes minutes where there are a million atoms.
        """
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
    return torch.from_numpy(job.centres), torch.from_numpy(job.coefficients[0])


def _result(mixture: Mixture, sites: dict[str, Tensor], home: torch.device) -> Evaluation:
    """A copy of what the last gathering left."""
    return Evaluation(
        energy=float(mixture.energies.sum()),
        energies=mixture.energies.clone().to(home),
        forces=mixture.forces.clone().to(home),
        virial=-mixture.virial().to(home),
        site_energies=sites,
    )


def _out_of_range(mixture: Mixture) -> str:
    """Names an atom whose gradient is out of range."""
    atom = mixture.centre_out_of_range()
    return f"a force on atom {atom} or a neighbour is not finite or exceeds 1024 eV/Å"
