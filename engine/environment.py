"""What computes: versions, processor, threads. Every report says it."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from duetto.errors import InputError

if TYPE_CHECKING:
    import torch

PACKAGES = ("duetto", "torch", "numpy", "numba", "vesin", "ase", "safetensors", "triton", "nequip")


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Version of each package, None where it is not installed; Python's own among them."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name as the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()


def device_name(device: str | torch.device) -> str:
    """Name of the processor or GPU behind `device`."""
    import torch

    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def describe_processor() -> dict[str, str | int]:
    """Operating system, processor and cores: what is known without torch."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": usable_cores(),
    }


def describe_machine() -> dict[str, str | int]:
    """Operating system, processor, cores and threads."""
    import torch

    return {**describe_processor(), "threads": torch.get_num_threads()}


def choose_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: there is no such device, or it is called otherwise.
    """
    import torch

    if not isinstance(name, str):  # whatever a user calls a device
        raise InputError(f"device: got {name!r}; allowed: auto, cpu, cuda, cuda:N")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda|cuda:[0-9]{1,3}", name):
        raise InputError(f"device: got {name!r}; allowed: auto, cpu, cuda, cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device: got {name}, but PyTorch sees {torch.cuda.device_count()} CUDA devices; "
            "allowed: auto, cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))
        )
    return device
