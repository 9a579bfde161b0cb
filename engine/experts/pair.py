"""The pair file: two experts' architectures and weights in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.allegro.architecture import AllegroArchitecture
from duetto.experts.allegro.folding import fold, weight_shapes
from duetto.files import atomic_write, content_hash, read_safetensors
from duetto.kernels.folded import FoldedExpert

if TYPE_CHECKING:
    from torch import nn

FORMAT = "duetto-pair"
FORMAT_VERSION = 1
UNITS = {"energy": "eV", "length": "angstrom"}
ROLES = ("hf", "lf")


@dataclass(frozen=True)
class Expert:
    """One Allegro expert: its architecture and its original weights (float64)."""

    architecture: AllegroArchitecture
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Check every weight against the architecture."""
        _check_weights(self.architecture, self.weights)

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the expert's types."""
        return self.architecture.type_names

    def fold(self) -> FoldedExpert:
        """The folded form, float64."""
        return fold(self.architecture, self.weights)


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

        Raises:
            InputError: a file cannot be read, or a model is not an Allegro model that Duetto
                evaluates; the unsupported part is named.
        """
        from duetto.conversion.expert import expert_from_nequip, load_nequip

        experts = {
            role: None if source is None else Expert(*expert_from_nequip(load_nequip(source, role)))
            for role, source in (("hf", hf), ("lf", lf))
        }
        return cls(hf=experts["hf"], lf=experts["lf"], provenance=provenance or {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pair file, whole or not at all."""
        tensors = _tensors(self)
        header = {
            "units": UNITS,
            "species": list(self.species),
            "r_max": {role: expert.architecture.r_max for role, expert in self.experts.items()},
            "experts": {
                role: expert.architecture.to_json() for role, expert in self.experts.items()
            },
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
        atomic_write(path, to_safetensors(copies, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExpertPair:
        """Read a pair file and check all of it.

        Raises:
            InputError: the file is missing, damaged, truncated, written by a newer version, or
                not a pair file.
        """
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
        architectures = {
            role: expert.architecture.to_json() for role, expert in self.experts.items()
        }
        return content_hash(json.dumps(architectures, sort_keys=True), _tensors(self))


def _tensors(pair: ExpertPair) -> dict[str, Tensor]:
    return {
        f"{role}.{name}": tensor.contiguous()
        for role, expert in pair.experts.items()
        for name, tensor in expert.weights.items()
    }


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such pair file")
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


def _experts(architectures: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Expert]:
    unknown = set(architectures) - set(ROLES)
    if unknown:
        raise InputError(f"experts are called hf and lf, not {', '.join(sorted(unknown))}")
    experts = {}
    for role, data in architectures.items():
        prefix = f"{role}."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        experts[role] = Expert(AllegroArchitecture.from_json(data), weights)
    return experts


def _check_weights(architecture: AllegroArchitecture, weights: Mapping[str, Tensor]) -> None:
    expected = weight_shapes(architecture)
    if set(expected) != set(weights):
        odd = ", ".join(sorted(set(expected) ^ set(weights)))
        raise InputError(f"the weights do not fit the architecture: {odd}")
    for name, shape in expected.items():
        tensor = weights[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float64:
            given = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise InputError(f"weight {name} is {given}, expected {shape} torch.float64")
        if not torch.isfinite(tensor).all():
            raise InputError(f"weight {name} holds NaN or infinity")
