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
FORMAT_VERSION = 3
"""The newest that is read. Version 3 is written for a pair whose HF is a correction to its LF, and
version 2 for all others: what they hold has not changed."""

UNITS = {"energy": "eV", "length": "angstrom"}
ROLES = ("hf", "lf")
CORRECTION = "correction"


@dataclass(frozen=True)
class ExpertPair:
    """A high-fidelity and a low-fidelity expert, or one of the two alone.

    Attributes:
        hf: high-fidelity expert, or None.
        lf: low-fidelity expert, or None.
        provenance: where the weights come from, plain JSON; `provenance["lf"]["seen_pairs"]`
            lists the (centre, neighbour) species that the expert met in training.
        correction: whether `hf` is no energy of its own but a correction Δ to `lf`:
            E_i^HF = E_i^LF + Δ_i.
    """

    hf: Expert | None
    lf: Expert | None
    provenance: dict[str, Any] = field(default_factory=dict)
    correction: bool = False

    def __post_init__(self) -> None:
        """Refuse a pair without experts, and a correction to nothing."""
        if self.hf is None and self.lf is None:
            raise InputError("a pair needs at least one expert")
        for role, expert in self.experts.items():
            _require_expert(role, expert)
        if self.correction:
            _require_corrected(self.hf, self.lf)

    @property
    def experts(self) -> dict[str, Expert]:
        """The experts there are, by role: "hf", "lf"."""
        both = {"hf": self.hf, "lf": self.lf}
        return {role: expert for role, expert in both.items() if expert is not None}

    def whole_hf(self) -> Expert:
        """The high-fidelity expert where it is an energy of its own.

        Raises:
            InputError: there is none, or it is a correction to the low-fidelity one.
        """
        if self.hf is None:
            raise InputError("the pair has no HF expert")
        if self.correction:
            raise InputError("its HF is a correction to its LF and says nothing without it")
        return self.hf

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
        *,
        correction: bool = False,
    ) -> ExpertPair:
        """Take both experts from nequip checkpoints, packages or models; needs nequip.

        Each is compared with nequip's own evaluation, and what a file tells of its training, such
        as the pairs of species it has seen, goes into the provenance, as `duetto pack` does it.
        `correction` says that `hf` is a correction to `lf`, which checkpoints of such a training
        say themselves.

        Raises:
            InputError: a file cannot be read, or a model is not an Allegro model that Duetto
                evaluates; the unsupported part is named.
        """
        from duetto.conversion.pack import pair_from_nequip

        return pair_from_nequip({"hf": hf, "lf": lf}, provenance, correction=correction)

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
        if self.correction:
            header["hf_form"] = CORRECTION
        text = json.dumps(header, sort_keys=True, allow_nan=False)
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION if self.correction else FORMAT_VERSION - 1),
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
            form = header.get("hf_form")
            if form not in (None, CORRECTION):
                raise InputError(f"hf_form is {form!r}, not {CORRECTION}; damaged")
            return cls(
                hf=experts.get("hf"),
                lf=experts.get("lf"),
                provenance=dict(header["provenance"]),
                correction=form == CORRECTION,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: the header is not a pair file's: {error!r}") from error

    @property
    def content_hash(self) -> str:
        """SHA-256 over architectures and weights; equal for equal potentials."""
        described: dict[str, Any] = _descriptions(self)
        if self.correction:
            described = {"experts": described, "hf_form": CORRECTION}
        return content_hash(json.dumps(described, sort_keys=True), _tensors(self))


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


def _require_corrected(hf: Expert | None, lf: Expert | None) -> None:
    """Refuse a correction without what it corrects."""
    if hf is None or lf is None:
        missing = "hf" if hf is None else "lf"
        raise InputError(f"hf is a correction to lf, and the pair lacks {missing}")
    unknown = [name for name in hf.species if name not in lf.species]
    if unknown:
        raise InputError(
            f"hf is a correction to lf, which does not know {', '.join(unknown)} "
            f"({', '.join(lf.species)})"
        )


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
