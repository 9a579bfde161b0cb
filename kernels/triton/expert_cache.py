"""Generated sources on disk: Triton compiles functions of real files only."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from duetto.kernels.triton.expert_source import kernel_source
from duetto.kernels.triton.expert_spec import KernelSpec


def source_directory() -> Path:
    """Where generated sources are kept: $XDG_CACHE_HOME/duetto, ~/.cache/duetto if unset."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that relative paths are to be ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "duetto" / "kernels"


@functools.lru_cache(maxsize=64)
def kernel_module(spec: KernelSpec) -> ModuleType:
    """The imported module of an expert's kernels, written to the cache if it is not there.

    Raises:
        OSError: the cache directory cannot be written.
    """
    return _import(write_source(spec, source_directory()))


def write_source(spec: KernelSpec, directory: Path) -> Path:
    """Write the kernels of an expert unless they are there; the name is a hash of the text."""
    text = kernel_source(spec)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = directory / f"expert_{digest}.py"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        directory.mkdir(parents=True, exist_ok=True)
        # Several ranks may do this at once: each writes a file of its own and renames it.
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return path


def _import(path: Path) -> ModuleType:
    name = f"duetto_generated_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module
