"""`duetto doctor`: versions, device, backend and a self-check."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="versions, device, backend and a self-check",
        description=(
            "Say what is installed and what would compute, and compare every backend with the "
            "reference in float32 and float64. Exit code 0 if all that is here works."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Examine; return the exit code."""
    logging.getLogger("duetto").setLevel(logging.WARNING)  # the table says it all
    if not args.json:  # torch takes seconds to import, and may fail to
        print("\n".join(first_lines()), flush=True)
    findings = examine()
    print(json.dumps(findings, indent=2) if args.json else "\n".join(later_lines(findings)))
    return 0 if findings["works"] else 1


def examine() -> dict[str, Any]:
    """Everything as plain data; `works` tells whether each self-check passed."""
    import torch

    from duetto.environment import describe_machine, device_name, package_versions

    checks = [
        _check(device, dtype)
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
        for dtype in ("float32", "float64")
    ]
    cuda = torch.cuda.is_available()
    return {
        "works": all("error" not in check for check in checks),
        "versions": package_versions(),
        "machine": describe_machine(),
        "cuda": device_name("cuda") if cuda else None,
        "default_device": "cuda" if cuda else "cpu",
        "triton": _triton(cuda),
        "nequip": _nequip(),
        "compiler_cache": _compiler_cache(),
        "self_check": checks,
    }


def _check(device: str, dtype: str) -> dict[str, Any]:
    from duetto.potential.self_check import check_backend

    if sys.stderr.isatty():
        print(f"checking {device} in {dtype} …", file=sys.stderr)
    check: dict[str, Any] = {"device": device, "dtype": dtype}
    try:
        backend, error = check_backend(device, dtype)
    except Exception as error:  # whatever is broken, the doctor names it and goes on
        return {**check, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {**check, "backend": backend, "force_error_over_largest_force": error}


def _triton(cuda: bool) -> str:
    from importlib.util import find_spec

    if find_spec("triton") is None:
        return "not installed" + ("" if cuda else ", and not needed without a CUDA device")
    return "available" if cuda else "installed, not used without a CUDA device"


def _nequip() -> str:
    from importlib.util import find_spec

    missing = [
        package
        for package, module in (("nequip", "nequip"), ("nequip-allegro", "allegro"))
        if find_spec(module) is None
    ]
    if missing:
        return f"{', '.join(missing)} not installed; only `train` and `pack` need it: duetto[train]"
    return "available"


def _compiler_cache() -> dict[str, Any]:
    """Where the processor's machine code is kept between runs, and how much this run took from it.

    Without a folder that can be written, every start compiles anew.
    """
    import os

    from duetto.kernels.cpu.edges import gather_edges

    statistics = gather_edges.stats  # type: ignore[attr-defined]  # of Numba's dispatcher
    if statistics.cache_path is None:
        return {"path": "none", "writable": False, "was_filled": False}
    folder = Path(statistics.cache_path)
    while not folder.exists():
        folder = folder.parent
    return {
        "path": statistics.cache_path,
        "writable": os.access(folder, os.W_OK),
        "was_filled": sum(statistics.cache_misses.values()) == 0,
    }


def first_lines() -> list[str]:
    """What is installed and where, one subject per line; imports nothing slow."""
    from duetto.environment import describe_processor, package_versions

    machine = describe_processor()
    return _aligned(
        [
            ("versions", ", ".join(f"{k} {v}" for k, v in package_versions().items() if v)),
            ("system", str(machine["system"])),
            ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ]
    )


def later_lines(findings: dict[str, Any]) -> list[str]:
    """The rest of the findings for a person, one subject per line."""
    cache = findings["compiler_cache"]
    state = "can be written" if cache["writable"] else "CANNOT BE WRITTEN: every start compiles"
    table = [
        ("threads", f"{findings['machine']['threads']} (OMP_NUM_THREADS sets them)"),
        ("CUDA device", findings["cuda"] or "none"),
        ("triton", findings["triton"]),
        ("nequip", findings["nequip"]),
        ("compiler cache", f"{cache['path']}, {state}"),
    ]
    for check in findings["self_check"]:
        name = f"check {check['device']} {check['dtype']}"
        if "error" in check:
            table.append((name, f"FAILED: {check['error']}"))
            continue
        error = check["force_error_over_largest_force"]
        text = f"backend {check['backend']}, {error:.1e} of the largest force from the reference"
        table.append((name, text))
    table.append(("verdict", "works" if findings["works"] else "does not work"))
    return _aligned(table)


def _aligned(table: list[tuple[str, str]]) -> list[str]:
    return [f"{name:18s} {text}" for name, text in table]
