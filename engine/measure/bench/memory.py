"""Peak memory of an evaluation, in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from duetto.experts.pair import ExpertPair


def memory_per_atom(
    pair: ExpertPair, atoms: Atoms, weights: NDArray[np.float64], settings: dict[str, Any]
) -> float:
    """Bytes per atom by which the peak grows: potential, neighbour list and two evaluations.

    The first evaluation of a small structure, made before, has loaded libraries and compiled the
    stages. The device's own memory on CUDA.

    Args:
        pair: the experts.
        atoms: the structure.
        weights: (A,).
        settings: `device`, `dtype`, `backend`, `threads`.

    Raises:
        RuntimeError: the process ended without an answer, for want of memory for example.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(sender, pair, atoms, weights, settings))
    child.start()
    sender.close()
    try:
        peak: int = receiver.recv()
    except EOFError:
        child.join()
        raise RuntimeError(
            f"measuring the memory of {len(atoms)} atoms ended with exit code {child.exitcode}"
        ) from None
    child.join()
    return peak / len(atoms)


def _measure(
    sender: Any,
    pair: ExpertPair,
    atoms: Atoms,
    weights: NDArray[np.float64],
    settings: dict[str, Any],
) -> None:
    import torch

    torch.set_num_threads(settings.pop("threads"))
    few = atoms[:8]
    few.pbc = False
    _evaluate_twice(pair, few, np.resize([weights.max(), weights.min()], len(few)), settings)
    if settings["device"] == "cpu":
        before = _forget_peak()
        _evaluate_twice(pair, atoms, weights, settings)
        sender.send(_peak() - before)
    else:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _evaluate_twice(pair, atoms, weights, settings)
        sender.send(torch.cuda.max_memory_allocated() - before)


def _evaluate_twice(
    pair: ExpertPair, atoms: Atoms, weights: NDArray[np.float64], settings: dict[str, Any]
) -> None:
    from duetto.measure.bench.force_check import tensors
    from duetto.potential.mixture import Potential

    potential = Potential(pair, atoms.get_chemical_symbols(), weights, atoms.pbc, **settings)
    positions, cell = tensors(atoms, settings["device"])
    potential.evaluate(positions, cell)
    potential.rebuild(positions, cell)
    potential.evaluate(positions, cell)


def _forget_peak() -> int:
    """Memory in use now, bytes; the peak counts from here where the system allows it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").is_file():
        return _status("VmHWM")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
