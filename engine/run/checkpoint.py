"""Checkpoints: everything from which a run goes on, bit for bit, in one safetensors file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from safetensors.torch import save
from torch import Tensor

from duetto.errors import InputError
from duetto.files import atomic_write, content_hash, read_safetensors, require_file
from duetto.md.state import State
from duetto.run.append import OutputStopped

FORMAT = "duetto-checkpoint"
FORMAT_VERSION = 1
ARRAY = "array of this file"

TENSORS = (
    "masses",
    "cell",
    "positions",
    "velocities",
    "forces",
    "energies",
    "virial",
    "weights",
    "list_reference",
    "slow_forces",
    "fixed",
    "chain",
)
NUMBERS = (
    "energy",
    "n_rebuilds",
    "step",
    "time_fs",
    "e_repartition",
    "thermostat_work",
    "stage_conserved",
)


def save_checkpoint(path: str | os.PathLike[str], state: State, record: dict[str, Any]) -> None:
    """Write `state` and `record` (plain JSON, and arrays) to `path`, whole or not at all.

    Raises:
        OutputStopped: the disk is full or the file cannot be written; an older checkpoint at
            `path` is untouched.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name in TENSORS
        if (tensor := getattr(state, name)) is not None
    }
    tensors["species"] = torch.tensor([atomic_numbers[symbol] for symbol in state.species])
    tensors["pbc"] = torch.tensor(state.pbc)
    tensors["generator"] = state.generator.get_state()
    record = _without_arrays(record, "record", tensors)
    # JSON writes the shortest text that reads back to the same float64.
    numbers = {name: getattr(state, name) for name in NUMBERS}
    header = json.dumps({"state": numbers, "record": record, "device": state.generator.device.type})
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "header": header,
        "content_hash": content_hash(header, tensors),
    }
    try:
        atomic_write(path, save(tensors, metadata))
    except OSError as error:
        raise OutputStopped(f"cannot write {path}: {error.strerror}") from error


def load_checkpoint(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> tuple[State, dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: the file is missing, damaged, of a newer version, or from another kind of
            device, whose random numbers cannot be continued.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    version = metadata.get("format_version", "")
    if metadata.get("format") != FORMAT or not version.isdecimal():
        raise InputError(f"{path}: a safetensors file, but not a checkpoint")
    if int(version) > FORMAT_VERSION:
        raise InputError(
            f"{path}: checkpoint version {version}, and this Duetto reads up to "
            f"{FORMAT_VERSION}; update Duetto"
        )
    text = metadata.get("header", "")
    if metadata.get("content_hash") != content_hash(text, tensors):
        raise InputError(f"{path}: the content does not match its hash; the file is damaged")
    header = json.loads(text)
    device = torch.device(device)
    if header["device"] != device.type:
        raise InputError(
            f"{path}: the run was on {header['device']}, and cannot go on bit for bit on "
            f"{device.type}; set device: {header['device']}"
        )
    return _state(header["state"], tensors, device), _with_arrays(header["record"], tensors)


def _without_arrays(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same with every array named in its place, and put among the tensors by that name."""
    if isinstance(value, dict):
        return {key: _without_arrays(v, f"{name}.{key}", tensors) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.array(value))
        return {ARRAY: name}
    return value


def _with_arrays(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_without_arrays`."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {ARRAY}:
        return tensors[value[ARRAY]].numpy()
    return {key: _with_arrays(v, tensors) for key, v in value.items()}


def _state(numbers: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> State:
    generator = torch.Generator(device)
    generator.set_state(tensors["generator"])
    # Whether the list had a reference, or time is split, is the potential's business; the rest is
    # always there.
    held: dict[str, Any] = {"list_reference": None}
    held |= {name: tensors[name].to(device) for name in TENSORS if name in tensors}
    first, second, third = (bool(periodic) for periodic in tensors["pbc"])
    return State(
        species=tuple(chemical_symbols[number] for number in tensors["species"].tolist()),
        pbc=(first, second, third),
        generator=generator,
        **held,
        **{name: numbers[name] for name in NUMBERS},
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    require_file(path, "checkpoint")
    try:
        return read_safetensors(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a checkpoint, or damaged: {reason}") from error
