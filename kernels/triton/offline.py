"""Compiles kernels for a chip that need not be there, on the very path that a launch takes.

Triton keeps what it has compiled under a key of source, types, alignments, constants and options,
each spelt as the launch spells it. So launches themselves are made here, of a driver that knows the
chip and starts nothing: what they leave in Triton's cache is what a run on the chip looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.driver import driver

from duetto.kernels.triton.expert_launch import interpreted


@dataclass(frozen=True)
class Compilation:
    """One kernel that Triton was asked for.

    Attributes:
        name: of the function.
        key: under which Triton's cache holds it.
        cached: whether it was there already.
        constants: compile-time arguments by name.
        warps: of a program.
        shared_bytes: of a program.
        seconds: wall time of the compiler, near zero if it was cached.
        files: by their endings, such as "cubin" or "ptx".
    """

    name: str
    key: str
    cached: bool
    constants: dict[str, Any]
    warps: int
    shared_bytes: int
    seconds: float
    files: dict[str, Path]


class AbsentChip(DriverBase):
    """Triton's driver of a chip that is not there: it compiles, and its launches do nothing."""

    def __init__(self, capability: int) -> None:
        super().__init__()
        self.capability = capability
        self.utils = self

    @classmethod
    def is_active(cls) -> bool:
        """Never chosen by Triton itself."""
        return False

    def map_python_to_cpp_type(self, ty: str) -> str:
        """The type as Triton writes it: there is no C++."""
        return ty

    def get_current_target(self) -> GPUTarget:
        """The chip that code is made for."""
        return GPUTarget("cuda", self.capability, 32)

    def get_active_torch_device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cpu")

    def get_benchmarker(self) -> Callable[..., Sequence[float]]:
        """Nothing can be timed.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a chip that is not there cannot be timed")

    def get_current_device(self) -> str:
        """Unlike any that is there: a function keeps its kernels by device."""
        return f"compute capability {self.capability}, not there"

    def get_current_stream(self, device: str) -> int:
        """There is none."""
        return 0

    def launcher_cls(self, source: object, metadata: object) -> Callable[..., None]:
        """A launcher that launches nothing."""
        return lambda *arguments: None

    def get_device_properties(self, device: str) -> dict[str, int]:
        """Room for any kernel: whether it fits is told by what it takes."""
        return {"max_shared_mem": 1 << 30}

    def load_binary(self, *arguments: object) -> tuple[None, None, int, int, int]:
        """No module, no function, and room for any number of threads."""
        return None, None, 0, 0, 1024


@contextmanager
def compiling_for(capability: int) -> Iterator[list[Compilation]]:
    """Within, launches compile for a chip of this compute capability and start nothing.

    Tensors may be on the CPU; what launches were to write stays as it was.

    Args:
        capability: such as 90.

    Yields:
        A list that gathers what is compiled, or found in Triton's cache. A kernel that this process
        has asked for before does not come again.

    Raises:
        RuntimeError: Triton interprets in this process, so that it cannot compile.
    """
    if interpreted():
        raise RuntimeError("unset TRITON_INTERPRET to compile kernels")
    compiled: list[Compilation] = []

    before, outer = driver._active, triton.knobs.compilation.listener

    def listen(**event: Any) -> None:
        compiled.append(_compilation(**event))
        if outer is not None:
            outer(**event)

    driver.set_active(AbsentChip(capability))
    triton.knobs.compilation.listener = listen
    try:
        yield compiled
    finally:
        driver.set_active(before)
        triton.knobs.compilation.listener = outer


def _compilation(
    src: Any, metadata: dict[str, Any], metadata_group: dict[str, str], times: Any, cache_hit: bool
) -> Compilation:
    names = src.fn.arg_names
    stages = [times.ir_initialization, *(time for _, time in times.lowering_stages)]
    return Compilation(
        name=src.fn.__name__,
        key=metadata["hash"],
        cached=cache_hit,
        constants={names[path[0]]: value for path, value in src.constants.items()},
        warps=metadata["num_warps"],
        shared_bytes=metadata["shared"],
        seconds=1e-6 * sum(stages),
        files={Path(name).suffix[1:]: Path(path) for name, path in metadata_group.items()},
    )
