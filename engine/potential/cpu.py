"""The torch backend on CPUs: chunks of centres that stay in cache, spread over threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duetto.kernels.cpu.edges import edge_virial, gather_edges, scatter_forces
from duetto.kernels.cpu.expert import Chunk, CPUExpert, Listener, Workspace
from duetto.kernels.folded import FoldedExpert
from duetto.potential.base import Evaluation, ExpertWork
from duetto.potential.neighbors import NeighborList

Array = NDArray[Any]

_CHUNK_BYTES = 4 << 20
"""Scratch memory of one chunk: small enough for a share of the last-level cache, large enough that
the calls between the stages cost little. Measured best among 0.5 to 16 MB, for both experts."""


@dataclass
class _Plan:
    """One expert's centres cut into chunks, and the memory its edges are kept in.

    Attributes:
        borders: chunk b holds centres borders[b] … borders[b + 1].
        begin: (n,) where each centre's edges may begin in `neighbour` and `gradient`.
        counts: (n,) how many edges it has now.
        starts: (n,) where they do begin.
    """

    job: ExpertWork
    borders: Array
    begin: Array
    starts: Array
    counts: Array
    neighbour: Array
    gradient: Array
    energies: Array
    virials: Array


class CPUBackend:
    """Both experts on the processor's cores; sums over atoms in double precision."""

    name = "torch"

    def __init__(
        self,
        experts: Mapping[str, FoldedExpert],
        dtype: torch.dtype,
        threads: int | None = None,
    ) -> None:
        """Compile the experts.

        Args:
            experts: folded weights by role.
            dtype: torch.float32 or torch.float64.
            threads: how many threads; by default as many as torch uses, which is what
                OMP_NUM_THREADS says.
        """
        self.dtype = dtype
        self.experts = {role: CPUExpert(expert, dtype) for role, expert in experts.items()}
        self.threads = threads or torch.get_num_threads()
        self._local = local()
        self._pool: ThreadPoolExecutor | None = None
        self._plans: list[_Plan] = []
        self._planned_for: tuple[Any, ...] = ()
        self._listener = Listener()

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every chunk and stage from now on."""
        self._listener = listener
        for expert in self.experts.values():
            expert.listener = listener

    def evaluate(
        self,
        positions: Tensor,
        cell: Tensor,
        neighbors: NeighborList,
        work: Sequence[ExpertWork],
    ) -> Evaluation:
        """See `duetto.potential.base.Backend`."""
        x, box = positions.detach().numpy(), cell.detach().numpy()
        self._plan(neighbors, work)
        tasks = [(plan, b) for plan in self._plans for b in range(len(plan.borders) - 1)]
        self._run_all(x, box, neighbors, tasks)
        energies = np.zeros(len(x))
        forces = np.zeros((len(x), 3))
        virial = np.zeros((3, 3))
        for plan in self._plans:
            self._listener.begin(plan.job)
            energies[plan.job.centres] += plan.job.weight * plan.energies
            virial += plan.virials.sum(axis=0)
            scatter_forces(
                plan.starts, plan.counts, plan.job.centres, plan.neighbour, plan.gradient, forces
            )
            self._listener.done("scatter/forces")
        return Evaluation(
            float(energies.sum()),
            torch.from_numpy(energies),
            torch.from_numpy(forces),
            torch.from_numpy(virial),
        )

    def _plan(self, neighbors: NeighborList, work: Sequence[ExpertWork]) -> None:
        """Cut the centres into chunks; again only when the list or the work has changed."""
        key = (id(neighbors), neighbors.n_rebuilds, *(id(job) for job in work))
        if key == self._planned_for:
            return
        self._plans = [self._plan_one(neighbors, job) for job in work if len(job.centres)]
        self._work = list(work)  # keeps the identities in the key from being used again
        self._planned_for = key

    def _plan_one(self, neighbors: NeighborList, job: ExpertWork) -> _Plan:
        expert = self.experts[job.role]
        capacity = max(256, _CHUNK_BYTES // (expert.floats_per_edge * self.dtype.itemsize))
        counts = np.diff(neighbors.first)[job.centres]
        ends = np.cumsum(counts)
        parts = np.unique((ends - 1) // capacity, return_index=True)[1]
        total = int(ends[-1])
        return _Plan(
            job=job,
            borders=np.append(parts, len(job.centres)),
            begin=ends - counts,
            starts=np.zeros_like(ends),
            counts=np.zeros_like(ends),
            neighbour=np.empty(total, dtype=np.int32),
            gradient=np.empty((total, 3), dtype=expert.numpy_dtype),
            energies=np.empty(len(job.centres)),
            virials=np.empty((len(parts), 3, 3)),
        )

    def _run_all(
        self, x: Array, box: Array, neighbors: NeighborList, tasks: list[tuple[_Plan, int]]
    ) -> None:
        if self.threads == 1 or len(tasks) == 1:
            for plan, b in tasks:
                self._run(x, box, neighbors, plan, b)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "duetto")
        list(self._pool.map(lambda task: self._run(x, box, neighbors, *task), tasks))

    def _run(self, x: Array, box: Array, neighbors: NeighborList, plan: _Plan, b: int) -> None:
        """Evaluate one chunk; all it writes belongs to it alone."""
        job, expert = plan.job, self.experts[plan.job.role]
        self._listener.begin(job)
        part = slice(plan.borders[b], plan.borders[b + 1])
        centres = job.centres[part]
        begin = plan.begin[part][0]
        end = begin + int(np.diff(neighbors.first)[centres].sum())
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
            plan.neighbour[begin:end],
            pair,
            vectors,
        )
        self._listener.done("neighbours/gather")
        plan.starts[part] = begin + rows[:-1]
        plan.counts[part] = np.diff(rows)
        chunk = Chunk(rows, pair[:E], job.types[centres], vectors[:E], job.weight[part])
        gradient = plan.gradient[begin : begin + E]
        expert.evaluate(work, chunk, plan.energies[part], gradient)
        edge_virial(gradient, chunk.vectors, plan.virials[b])
        self._listener.done("scatter/virial")

    def _workspace(self) -> Workspace:
        if not hasattr(self._local, "work"):
            self._local.work = Workspace(self.dtype)
        work: Workspace = self._local.work
        return work
