"""A checksum over a file's meaning, so that damage never passes for data."""

import hashlib
from collections.abc import Mapping

from torch import Tensor


def content_hash(header: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of a header and of the tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
