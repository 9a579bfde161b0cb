"""The pair file: two experts of any kind in one safetensors file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.base import Expert, max_cutoff
from duetto.experts.calculators import NO_CALCULATOR
from duetto.experts.kinds import expert_class
from duetto.files import atomic_write, content_hash, read_safetensors, require_file

if TYPE_CHECKING:
    from torch import nn

FORMAT = "duetto-pair"
FORMAT_VERSION = 2
UNITS = {"energy": "eV", "length": "angstrom"}
ROLES = ("hf", "lf")


@dataclass(frozen=True)
class ExpertPair:
    """A high-fidelity and a low-fidelity expert, or one of the two alone.

    Attributes:
        hf: high-fidelity expert, or None.
        lf: low-fidelity expert, or None.
        provenance: where the weights come from, plain JSON; `provenance["lf"]["seen_pairs"]`
            lists the (centre, neighbour) species that the expert met in training.
    """

    hf: Expert | None
    lf: Expert | None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a pair without experts."""
        if self.hf is None and self.lf is None:
            raise InputError("a pair needs at least one expert")
        for role, expert in self.experts.items():
            _require_expert(role, expert)

    @property
    def experts(self) -> dict[str, Expert]:
        """The experts there are, by role: "hf", "lf"."""
        both = {"hf": self.hf, "lf": self.lf}
        return {role: expert for role, expert in both.items() if expert is not None}

    @property
    def species(self) -> tuple[str, ...]:
        """Species that any expert knows, those of HF first."""
        names = [name for expert in self.experts.values() for name in expert.species]
        return tuple(dict.fromkeys(names))

    @classmethod
    def from_nequip(
        cls,
        hf: str | os.PathLike[str] | nn.Module | None = None,
        lf: str | os.PathLike[str] | nn.Module | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> ExpertPair:
        """Take both experts from nequip checkpoints, packages or models; needs nequip.

        Each is compared with nequip's own evaluation, and what a file tells of its training, such
        as the pairs of species it has seen, goes into the provenance, as `duetto pack` does it.

        Raises:
            InputError: a file cannot be read, or a model is not an Allegro model that Duetto
                evaluates; the unsupported part is named.
        """
        from duetto.conversion.pack import pair_from_nequip

        return pair_from_nequip({"hf": hf, "lf": lf}, provenance)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pair file, whole or not at all."""
        tensors = _tensors(self)
        header = {
            "units": UNITS,
            "species": list(self.species),
            "r_max": {role: max_cutoff(expert) for role, expert in self.experts.items()},
            "experts": _descriptions(self),
            "provenance": self.provenance,
        }
        text = json.dumps(header, sort_keys=True, allow_nan=False)
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "header": text,
            "content_hash": content_hash(text, tensors),
        }
        # Copies, because safetensors refuses two names for one tensor: an expert in both roles.
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        atomic_write(path, _in_order(to_safetensors(copies, metadata)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExpertPair:
        """Read a pair file and check all of it.

        Raises:
            InputError: the file is missing, damaged, truncated, written by a newer version, or
                not a pair file.
        """
        # Tensors made in the caller's inference mode could never take part in autograd.
        with torch.inference_mode(False):
            metadata, tensors = _read(Path(path))
        _check_format(path, metadata)
        header_text = metadata.get("header", "")
        if metadata.get("content_hash") != content_hash(header_text, tensors):
            raise InputError(f"{path}: the content does not match its hash; the file is damaged")
        try:
            header = json.loads(header_text)
            experts = _experts(header["experts"], tensors)
            return cls(
                hf=experts.get("hf"), lf=experts.get("lf"), provenance=dict(header["provenance"])
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: the header is not a pair file's: {error!r}") from error

    @property
    def content_hash(self) -> str:
        """SHA-256 over architectures and weights; equal for equal potentials."""
        return content_hash(json.dumps(_descriptions(self), sort_keys=True), _tensors(self))


def _in_order(file: bytes) -> bytes:
    """A safetensors file whose metadata are sorted: the library writes them in any order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[end:]


def _require_expert(role: str, candidate: object) -> None:
    if isinstance(candidate, Expert):
        return
    name = type(candidate).__name__
    if hasattr(candidate, "get_potential_energy"):
        raise InputError(
            f"{role}: {name}: {NO_CALCULATOR} (docs/experts.md says which kinds of experts do)"
        )
    raise InputError(f"{role}: {name} is not an expert")


def _descriptions(pair: ExpertPair) -> dict[str, dict[str, Any]]:
    """Kind and description of each expert, plain JSON."""
    return {role: {"kind": e.kind, **e.to_json()} for role, e in pair.experts.items()}


def _tensors(pair: ExpertPair) -> dict[str, Tensor]:
    return {
        f"{role}.{name}": tensor.contiguous()
        for role, expert in pair.experts.items()
        for name, tensor in expert.to_tensors().items()
    }


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    require_file(path, "pair file")
    try:
        return read_safetensors(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a pair file, or cut short or damaged: {reason}") from error


def _check_format(path: str | os.PathLike[str], metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: a safetensors file, but not one that `duetto pack` wrote")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) < 1:
        raise InputError(f"{path}: format version {version!r} is not a version; damaged")
    if int(version) > FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}, and this Duetto reads up to {FORMAT_VERSION}; "
            "update Duetto"
        )


def _experts(descriptions: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Expert]:
    unknown = set(descriptions) - set(ROLES)
    if unknown:
        raise InputError(f"experts are called hf and lf, not {', '.join(sorted(unknown))}")
    experts = {}
    for role, description in descriptions.items():
        prefix = f"{role}."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        data = dict(description)
        # Files of version 1 hold Allegro experts and do not say so.
        kind = expert_class(data.pop("kind", "allegro"))
        experts[role] = kind.from_tensors(data, weights)
    return experts
