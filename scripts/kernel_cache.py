"""Carry compiled kernels from one machine to another, in one file.

    python scripts/kernel_cache.py pack FOLDER FILE.tar.gz
    python scripts/kernel_cache.py unpack FILE.tar.gz FOLDER

FOLDER is Triton's cache (TRITON_CACHE_DIR). Only what a launch needs is packed: machine code and
what goes with it. Triton writes whole paths into its groups of files; they are made those of the
new place. Kernels are found there if the build of Triton is the same.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

NEEDED = (".cubin", ".json")


def pack(folder: Path, file: Path) -> int:
    """Write the kernels of a cache into a file; returns how many."""
    entries = sorted(path for path in folder.glob("*/*") if path.suffix in NEEDED)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as archive:
        for path in entries:
            content = path.read_bytes()
            if path.name.startswith("__grp__"):
                content = _group(content, Path())
            entry = tarfile.TarInfo(f"{path.parent.name}/{path.name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sum(path.suffix == ".cubin" for path in entries)


def unpack(file: Path, folder: Path) -> int:
    """Put the kernels of a file into a cache; returns how many."""
    kernels = 0
    with tarfile.open(file, "r:gz") as archive:
        for entry in archive:
            key, _, name = entry.name.partition("/")
            source = archive.extractfile(entry)
            if not key.isalnum() or not name or "/" in name or source is None:
                raise ValueError(f"{file}: {entry.name!r} is no entry of a kernel cache")
            content = source.read()
            place = folder / key
            if name.startswith("__grp__"):
                content = _group(content, place.resolve())
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            kernels += name.endswith(".cubin")
    return kernels


def _group(content: bytes, place: Path) -> bytes:
    """A group of files with the paths that they have in `place`; only those that are packed."""
    group = json.loads(content)
    names = [name for name in group["child_paths"] if name.endswith(NEEDED)]
    group["child_paths"] = {name: str(place / name) for name in names}
    return json.dumps(group).encode()


def main() -> int:
    """Run the command line."""
    arguments = sys.argv[1:]
    if len(arguments) != 3 or arguments[0] not in ("pack", "unpack"):
        print(__doc__, file=sys.stderr)
        return 2
    first, second = Path(arguments[1]), Path(arguments[2])
    n = pack(first, second) if arguments[0] == "pack" else unpack(first, second)
    print(f"{n} kernels {arguments[0]}ed, {second}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
