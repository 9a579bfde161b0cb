"""The backend of CPUs: chunks of centres that stay in cache, spread over threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from threading import local
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.experts.base import Edges, Expert
from duetto.kernels.cpu.edges import edge_virial, gather_edges, scatter_forces
from duetto.kernels.cpu.expert import Chunk, Listener, Workspace
from duetto.kernels.cpu.rows import widen
from duetto.potential.base import Evaluation, ListOfNeighbors
from duetto.potential.lowering import lower_on_cpu
from duetto.potential.neighbors import NeighborList
from duetto.potential.one_pass import OnePassKernel, OnePassPlan, OnePassPlans, worth_passes
from duetto.potential.terms import ExpertWork
from duetto.potential.turns import Turns

Array = NDArray[Any]

_CHUNK_BYTES = 4 << 20
"""Scratch memory of one chunk: small enough for a share of the last-level cache, large enough that
the calls between the stages cost little. Measured best among 0.5 to 16 MB, for both experts."""


_PLANS = 6
"""Plans that are kept: multiple time steps ask for all terms and for the fast ones in turns, a
measurement for each expert alone besides, and where one expert's centres change, the other's plan
stays."""


@dataclass
class _Plan:
    """One expert's centres cut into chunks, and the memory its edges are kept in.

    Attributes:
        job: the work at hand; its centres are those that the plan was made for.
        borders: chunk b holds centres borders[b] … borders[b + 1].
        begin: (n,) where each centre's edges may begin in `neighbor` and `gradient`.
        counts: (n,) how many edges it has now.
        starts: (n,) where they do begin.
        virials: (chunks, G, 3, 3), of each group of terms.
    """

    job: ExpertWork
    borders: Array
    begin: Array
    starts: Array
    counts: Array
    neighbor: Array
    gradient: Array
    energies: Array
    virials: Array


class CPUBackend:
    """Experts on the processor's cores; sums over atoms in double precision."""

    name = "numba"

    def __init__(
        self,
        experts: Mapping[str, Expert],
        dtype: torch.dtype,
        threads: int | None = None,
    ) -> None:
        """Compile the experts.

        Args:
            experts: by role.
            dtype: torch.float32 or torch.float64.
            threads: how many threads; by default as many as torch uses, which is what
                OMP_NUM_THREADS says.
        """
        self.dtype = dtype
        self.experts = {role: lower_on_cpu(role, expert, dtype) for role, expert in experts.items()}
        self.threads = threads or torch.get_num_threads()
        self._turns = Turns()
        self._listener = Listener()
        self._begin_anew()
        _mend_after_forks()
        _BACKENDS.add(self)

    def _begin_anew(self) -> None:
        """No threads and no plans: at the start, and in a forked child."""
        self._local = local()
        self._pool: ThreadPoolExecutor | None = None
        self._plans: list[_Plan | OnePassPlan] = []
        self._rows: Array | None = None
        self._kept: dict[tuple[Any, ...], tuple[_Plan | OnePassPlans, list[Any]]] = {}

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every chunk and stage from now on."""
        self._listener = listener
        for expert in self.experts.values():
            expert.listener = listener

    def new_list(
        self, work: Sequence[ExpertWork], ranges: Array, pbc: Array, skin: float
    ) -> NeighborList:
        """See `duetto.potential.base.Backend`."""
        return NeighborList(ranges, pbc, skin)

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: ListOfNeighbors,
        work: Sequence[ExpertWork],
    ) -> list[Evaluation]:
        """See `duetto.potential.base.Backend`."""
        with self._turns:  # plans and their memory are for one evaluation at a time
            return self._evaluate(positions, cell, neighbors, work)

    def _evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: ListOfNeighbors,
        work: Sequence[ExpertWork],
    ) -> list[Evaluation]:
        x, box = positions.detach().numpy(), cell.detach().numpy()
        self._plan(neighbors, work)
        tasks = [(plan, b) for plan in self._plans for b in range(len(plan.borders) - 1)]
        self._run_all(x, box, neighbors, tasks)
        sites = self._site_energies(len(x))
        n_groups = len(work[0].coefficients) if work else 1
        return [self._sums(len(x), group, sites) for group in range(n_groups)]

    def _sums(self, n_atoms: int, group: int, sites: dict[str, Tensor]) -> Evaluation:
        """Energies, forces and virial of one group of terms: here the coefficients come in."""
        energies, forces = np.zeros(n_atoms), np.zeros((n_atoms, 3))
        virial = np.zeros((3, 3))
        for plan in self._plans:
            job = plan.job
            self._listener.begin(job)
            if isinstance(plan, OnePassPlan):
                if plan.group <= group:
                    plan.add_to(energies, forces, virial)
            else:
                coefficient = job.coefficients[group]
                energies[job.centres] += coefficient * plan.energies
                virial += plan.virials[:, group].sum(axis=0)
                scatter_forces(
                    plan.starts,
                    plan.counts,
                    job.centres,
                    coefficient,
                    plan.neighbor,
                    plan.gradient,
                    forces,
                )
            self._listener.done("scatter/forces")
        return Evaluation(
            float(energies.sum()),
            torch.from_numpy(energies),
            torch.from_numpy(forces),
            torch.from_numpy(virial),
            sites,
        )

    def _site_energies(self, n_atoms: int) -> dict[str, Tensor]:
        """By role, energies of the centres as a column of all atoms, NaN elsewhere."""
        columns: dict[str, Array] = {}
        for plan in self._plans:
            column = columns.setdefault(plan.job.role, np.full(n_atoms, np.nan))
            column[plan.job.centres] = plan.energies
        return {role: torch.from_numpy(column) for role, column in columns.items()}

    def site_energies(self, role: str, edges: Edges) -> tuple[Tensor, Tensor]:
        """See `duetto.potential.base.Backend`."""
        kernel = self.experts[role]
        first = edges.first.numpy()
        types = edges.centre_types.numpy()
        n_types = len(kernel.cutoff_squared)
        pair = np.repeat(types * n_types, np.diff(first)) + edges.neighbor_types.numpy()
        vectors = edges.vectors.numpy().astype(kernel.numpy_dtype)
        energies = np.empty(len(types))
        gradient = np.empty((len(pair), 3), dtype=kernel.numpy_dtype)
        capacity = max(256, _CHUNK_BYTES // (kernel.floats_per_edge * self.dtype.itemsize))
        borders = _borders(first[1:], capacity)

        def run(b: int) -> None:
            part = slice(borders[b], borders[b + 1])
            span = slice(first[borders[b]], first[borders[b + 1]])
            rows = first[borders[b] : borders[b + 1] + 1] - first[borders[b]]
            chunk = Chunk(rows, pair[span], types[part], vectors[span])
            kernel.evaluate(self._workspace(), chunk, energies[part], gradient[span])

        self._in_parallel(run, list(range(len(borders) - 1)))
        return torch.from_numpy(energies), torch.from_numpy(gradient)

    def _plan(self, neighbors: ListOfNeighbors, work: Sequence[ExpertWork]) -> None:
        """Cut the centres into chunks; again only when the list or the centres are others.

        Coefficients may be others at every step.
        """
        self._plans = []
        for job in (job for job in work if len(job.centres)):
            plan = self._plan_of(neighbors, job)
            if isinstance(plan, OnePassPlans):
                self._plans += plan.plans
            else:
                plan.job = job
                self._plans.append(plan)

    def _plan_of(self, neighbors: ListOfNeighbors, job: ExpertWork) -> _Plan | OnePassPlans:
        """One expert's plan, made or kept."""
        parts = [neighbors, job.centres, job.types]
        n_groups, expert = len(job.coefficients), self.experts[job.role]
        in_passes = isinstance(expert, OnePassKernel) and worth_passes(job)
        kind = job.role, n_groups, in_passes
        key = (id(neighbors), neighbors.n_rebuilds, *kind, *(id(p) for p in parts))
        kept = self._kept.pop(key, None)
        before = kept[0] if kept is not None and isinstance(kept[0], OnePassPlans) else None
        if kept is None or (before is not None and not before.take(job)):
            # What has gone lends its id to others: a plan keeps what its key names.
            kept = self._plan_one(neighbors, job, before, in_passes), parts
            stale = [k for k in self._kept if k[0] == key[0] and k[1] != key[1]]
            for old in (*stale, *list(self._kept)[: max(len(self._kept) - _PLANS + 1, 0)]):
                self._kept.pop(old, None)
        self._kept[key] = kept
        return kept[0]

    def _plan_one(
        self,
        neighbors: ListOfNeighbors,
        job: ExpertWork,
        before: OnePassPlans | None,
        in_passes: bool,
    ) -> _Plan | OnePassPlans:
        expert = self.experts[job.role]
        if in_passes and isinstance(expert, OnePassKernel):
            passes = OnePassPlans.make(expert, job, neighbors, self.threads, before)
            if passes is not None:
                return passes
        capacity = max(256, _CHUNK_BYTES // (expert.floats_per_edge * self.dtype.itemsize))
        counts = np.diff(neighbors.first)[job.centres]
        ends = np.cumsum(counts)
        borders = _borders(ends, capacity)
        total, n_groups = int(ends[-1]), len(job.coefficients)
        return _Plan(
            job=job,
            borders=borders,
            begin=ends - counts,
            starts=np.zeros_like(ends),
            counts=np.zeros_like(ends),
            neighbor=np.empty(total, dtype=np.int32),
            gradient=np.empty((total, 3), dtype=expert.numpy_dtype),
            energies=np.empty(len(job.centres)),
            virials=np.empty((len(borders) - 1, n_groups, 3, 3)),
        )

    def _run_all(
        self,
        x: Array,
        box: Array,
        neighbors: ListOfNeighbors,
        tasks: list[tuple[_Plan | OnePassPlan, int]],
    ) -> None:
        one_pass = any(isinstance(plan, OnePassPlan) for plan, _ in tasks)
        rows = self._rows_of_four(x) if one_pass else x

        def run(task: tuple[_Plan | OnePassPlan, int]) -> None:
            plan, b = task
            if isinstance(plan, OnePassPlan):
                self._listener.begin(plan.job)
                plan.run(self._workspace(), rows, box, b)
            else:
                self._run(x, box, neighbors, plan, b)

        self._in_parallel(run, tasks)

    def _rows_of_four(self, x: Array) -> Array:
        """Positions (A, 3) as rows x, y, z and nothing, none across two lines of the cache."""
        if self._rows is None or len(self._rows) != len(x):
            # torch's memory begins where a line does.
            self._rows = torch.zeros(len(x), 4, dtype=torch.float64).numpy()
        widen(x, self._rows)
        return self._rows

    def _in_parallel(self, run: Callable[[Any], None], tasks: Sequence[Any]) -> None:
        """Run every task once, on all threads where there is more than one of each."""
        if self.threads == 1 or len(tasks) <= 1:
            for task in tasks:
                run(task)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "duetto")
        list(self._pool.map(run, tasks))

    def _run(self, x: Array, box: Array, neighbors: ListOfNeighbors, plan: _Plan, b: int) -> None:
        """Evaluate one chunk; all it writes belongs to it alone."""
        job, expert = plan.job, self.experts[plan.job.role]
        self._listener.begin(job)
        part = slice(plan.borders[b], plan.borders[b + 1])
        centres = job.centres[part]
        begin = plan.begin[part][0]
        end = begin + int((neighbors.first[centres + 1] - neighbors.first[centres]).sum())
        work = self._workspace()
        rows = np.empty(len(centres) + 1, dtype=np.int64)
        pair = np.empty(end - begin, dtype=np.int64)
        vectors = work("vectors", end - begin, 3)
        E = gather_edges(
            x,
            box,
            neighbors.first,
            neighbors.neighbor,
            neighbors.shift,
            centres,
            job.types,
            expert.cutoff_squared,
            rows,
            plan.neighbor[begin:end],
            pair,
            vectors,
        )
        self._listener.done("neighbours/gather")
        plan.starts[part] = begin + rows[:-1]
        plan.counts[part] = np.diff(rows)
        chunk = Chunk(rows, pair[:E], job.types[centres], vectors[:E])
        gradient = plan.gradient[begin : begin + E]
        expert.evaluate(work, chunk, plan.energies[part], gradient)
        for coefficient, virial in zip(job.coefficients, plan.virials[b], strict=True):
            edge_virial(rows, coefficient[part], gradient, chunk.vectors, virial)
        self._listener.done("scatter/virial")

    def _workspace(self) -> Workspace:
        if not hasattr(self._local, "work"):
            self._local.work = Workspace(self.dtype)
        work: Workspace = self._local.work
        return work


def _borders(ends: Array, capacity: int) -> Array:
    """Where to cut centres whose edges end at `ends` (n,), so that a part has about `capacity`."""
    parts = np.unique((ends - 1) // capacity, return_index=True)[1]
    return np.append(parts, len(ends))


_BACKENDS: WeakSet[CPUBackend] = WeakSet()


@cache
def _mend_after_forks() -> None:
    """Have forked children begin anew: the threads of the parent stay behind."""

    def begin_anew() -> None:
        # OpenMP's threads have stayed behind, too: the next parallel product would wait for them.
        torch.set_num_threads(1)
        for backend in _BACKENDS:
            backend._begin_anew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin_anew)
