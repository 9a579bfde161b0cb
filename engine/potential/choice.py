"""Which backend computes, and in what precision."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import torch

from duetto.errors import InputError
from duetto.experts.base import Expert
from duetto.experts.region import strictly_local
from duetto.potential.base import Backend

DTYPES = {"float32": torch.float32, "float64": torch.float64}
BACKENDS = ("auto", "numba", "triton", "reference", "torch")
"""`torch` is the older word for what is not triton: numba on the CPU, the reference on CUDA."""
PRECISIONS = ("auto", "fp32", "bf16x3", "tf32")
_log = logging.getLogger("duetto")


def precision_of(asked: str, backend: str, device: str, dtype: str) -> str:
    """What matrix products are computed in.

    Args:
        asked: one of PRECISIONS. "bf16x3" and "fp32" are those of the triton backend; the others
            have "fp32", and the reference on CUDA "tf32". Experts in float64 multiply in float64:
            "auto".
        backend: "numba", "triton" or "reference".
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


def choose_backend(name: str, device: str, dtype: str) -> str:
    """The backend, "numba", "triton" or "reference".

    Raises:
        InputError: there is no such backend or device, or it cannot compute this.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r}: use one of {', '.join(BACKENDS[:-1])}")
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no CUDA device here; use device cpu")
    if kind not in {"cpu", "cuda"}:
        raise InputError(f"device {device!r}: use cpu or cuda")
    if name == "numba" and kind != "cpu":
        raise InputError("backend numba computes on the CPU; use backend auto, or device cpu")
    if kind == "cuda" and name in ("torch", "reference"):
        _log.warning("backend %s on %s is slow: backend auto takes triton there", name, device)
    if name in ("numba", "reference"):
        return name
    reason = _without_triton(kind, DTYPES[dtype])
    if name == "triton" and reason is not None:
        raise InputError(f"backend triton {reason}; use backend auto")
    if name != "torch" and reason is None:
        return "triton"
    if kind == "cuda" and name == "auto":
        _log.warning(
            "backend reference on %s, in plain torch and many times slower: triton %s",
            device,
            reason,
        )
    return "numba" if kind == "cpu" else "reference"


def make_backend(
    name: str, device: str, experts: Mapping[str, Expert], dtype: str, precision: str
) -> Backend:
    """The backend `name` of `choose_backend`, ready for these experts."""
    local = strictly_local(experts)
    made = _make_local(name, device, local, dtype, precision)
    if len(local) == len(experts):
        return made
    from duetto.potential.region_backend import RegionBackend

    others: dict[str, Any] = {role: e for role, e in experts.items() if role not in local}
    return RegionBackend(
        made, {role: expert.to(device, DTYPES[dtype]) for role, expert in others.items()}
    )


def _make_local(
    name: str, device: str, experts: Mapping[str, Expert], dtype: str, precision: str
) -> Backend:
    if name == "triton":
        from duetto.potential.triton import TritonBackend

        return TritonBackend(experts, device, precision)
    if name == "numba":
        from duetto.potential.cpu import CPUBackend

        return CPUBackend(experts, DTYPES[dtype])
    from duetto.potential.reference import ReferenceBackend

    return ReferenceBackend(experts, DTYPES[dtype], device, tf32=precision == "tf32")


def _without_triton(kind: str, dtype: torch.dtype) -> str | None:
    """Why the triton backend cannot be used, as the end of a sentence; None if it can."""
    if kind != "cuda":
        return "needs a CUDA device"
    if importlib.util.find_spec("triton") is None:
        return 'needs the package triton, which is not installed: pip install "duetto[gpu]"'
    if dtype != torch.float32:
        return "computes in float32 only; for speed use dtype float32"
    return None
