"""How experts become kernels: for every backend, one line a kind.

An expert without a line here runs through its own torch evaluation, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from duetto.experts.base import Edges, Expert, cutoff_matrix, max_cutoff
from duetto.kernels.cpu.expert import Chunk, Listener, Workspace

Array = NDArray[Any]
_log = logging.getLogger("duetto")


class ChunkKernel(Protocol):
    """An expert made ready for chunks of centres on the CPU.

    Attributes:
        cutoff_squared: (T, T) float64, Å².
        listener: is told of every stage.
    """

    cutoff_squared: Array
    listener: Listener

    @property
    def numpy_dtype(self) -> Any:
        """Of vectors and gradients."""

    @property
    def floats_per_edge(self) -> int:
        """Numbers that a chunk keeps per edge, about."""

    def evaluate(self, work: Workspace, chunk: Chunk, energy: Array, gradient: Array) -> None:
        """Energies and edge gradients of a chunk, not weighted.

        Args:
            work: scratch memory of this thread.
            chunk: the edges.
            energy: (n,) float64 OUTPUT, eV, of each centre.
            gradient: (E, 3) OUTPUT, eV/Å, of its centre's energy.
        """


def _allegro(expert: Any, dtype: torch.dtype) -> ChunkKernel:
    from duetto.kernels.cpu.expert import CPUExpert

    return CPUExpert(expert.fold(), dtype)


def _linear(expert: Any, dtype: torch.dtype) -> ChunkKernel:
    from duetto.kernels.cpu.linear import CPULinear

    return CPULinear(expert.form(), dtype)


def _eam(expert: Any, dtype: torch.dtype) -> ChunkKernel:
    from duetto.kernels.cpu.eam import CPUEam

    return CPUEam(expert.tables, max_cutoff(expert), dtype)


ON_CPU: dict[str, Callable[[Any, torch.dtype], ChunkKernel]] = {
    "allegro": _allegro,
    "linear": _linear,
    "eam": _eam,
}
"""What makes the CPU's kernel of each kind."""


def lower_on_cpu(role: str, expert: Expert, dtype: torch.dtype) -> ChunkKernel:
    """The expert's kernel on the CPU, or its own evaluation in that shape."""
    make = ON_CPU.get(expert.kind)
    if make is not None:
        return make(expert, dtype)
    _log.info(
        "expert %s (%s) has no kernel on the CPU and runs through its torch evaluation",
        role,
        expert.kind,
    )
    return OwnEvaluation(expert, dtype)


def _allegro_on_triton(expert: Any, device: str, precision: str) -> Any:
    from duetto.kernels.triton.expert_launch import ExpertKernels
    from duetto.kernels.triton.expert_packing import pack
    from duetto.kernels.triton.expert_spec import unsupported_reason

    folded = expert.fold()
    reason = unsupported_reason(folded)
    return reason or ExpertKernels(pack(folded).to(device), precision)


def _linear_on_triton(expert: Any, device: str, precision: str) -> Any:
    from duetto.kernels.triton.linear_launch import LinearKernels

    return LinearKernels(expert.form(), device)


ON_TRITON: dict[str, Callable[[Any, str, str], Any]] = {
    "allegro": _allegro_on_triton,
    "linear": _linear_on_triton,
}
"""What makes the GPU's kernels of each kind: f(expert, device, precision) → kernels, or in words
why there are none for this expert."""


def lower_on_triton(role: str, expert: Expert, device: str, precision: str) -> tuple[Any, bool]:
    """The expert's kernels on a GPU, or its own evaluation in that shape.

    Returns:
        What evaluates, and whether graphs can capture it.
    """
    from duetto.kernels.triton.torch_expert import DeviceTorchExpert

    make = ON_TRITON.get(expert.kind)
    kernels = f"its kind, {expert.kind}, has no kernel" if make is None else None
    if make is not None:
        kernels = make(expert, device, precision)
    if not isinstance(kernels, str):
        return kernels, True
    _log.warning("expert %s runs in plain torch on %s: %s", role, device, kernels)

    def site_energies(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return expert.site_energies(Edges(*parts))

    return DeviceTorchExpert(site_energies), False


class OwnEvaluation:
    """An expert's own evaluation behind the interface of the CPU's kernels."""

    def __init__(self, expert: Expert, dtype: torch.dtype) -> None:
        """Take an expert; `dtype` is that of its arithmetic."""
        self.expert = expert
        self.dtype = dtype
        self.listener = Listener()
        self.cutoff_squared = (cutoff_matrix(expert) ** 2).numpy()

    @property
    def numpy_dtype(self) -> Any:
        """The NumPy type of `dtype`."""
        return np.float32 if self.dtype == torch.float32 else np.float64

    @property
    def floats_per_edge(self) -> int:
        """A guess: torch keeps what autograd asks for."""
        return 256

    def evaluate(self, work: Workspace, chunk: Chunk, energy: Array, gradient: Array) -> None:
        """See `ChunkKernel.evaluate`."""
        num_types = len(self.cutoff_squared)
        edges = Edges(
            first=torch.from_numpy(chunk.rows),
            centre_types=torch.from_numpy(np.ascontiguousarray(chunk.types)),
            neighbor_types=torch.from_numpy(chunk.pair % num_types),
            vectors=torch.from_numpy(np.ascontiguousarray(chunk.vectors)),
        )
        energies, gradients = self.expert.site_energies(edges)
        energy[:] = energies.numpy()
        gradient[:] = gradients.numpy()
        self.listener.done("evaluation/torch")
