"""Files whole or not at all, and a checksum over their meaning: damage never passes for data."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duetto.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def require_file(path: str | os.PathLike[str], what: str, where: str = "") -> None:
    """Refuse what is no file.

    Args:
        path: of the file.
        what: it should be: "pair file".
        where: it is named, before the path in the message: "run.yaml: pair: ".

    Raises:
        InputError: there is nothing, or a folder.
    """
    if Path(path).is_dir():
        raise InputError(f"{where}{path}: is a folder; name the {what} in it")
    if not Path(path).is_file():
        raise InputError(f"{where}{path}: no such {what}")


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never half.

    The bytes go to a temporary file in the same folder, are flushed to disk, and the file is
    renamed over `path`. On any error the temporary file is removed and `path` is untouched.

    Raises:
        OSError: if the folder does not exist, is not writable, or the disk is full.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _umask() -> int:
    # There is no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; not every platform can open a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, in memory of their own.

    The library maps the file instead: then whoever writes to it, or cuts it short, changes or
    kills the process that has read it.

    Raises:
        ValueError: the file is not one, is damaged or cut short.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = Path(path).read_bytes()
    try:
        tensors = load(data)
    except (SafetensorError, RuntimeError, AttributeError, KeyError, AssertionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    # What load has accepted begins with the length of a JSON header.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {}), tensors


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The `header` of a safetensors file's metadata, without its tensors; nothing is verified.

    What is not such a file has an empty header: who reads all of it says what is wrong.
    """
    try:
        with open(path, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > os.fstat(stream.fileno()).st_size:
                return {}
            header = json.loads(json.loads(stream.read(size))["__metadata__"]["header"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def content_hash(header: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of a header and of the tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
