"""Trained nequip models to a pair file: which model from which file, checked, with provenance.

Imports nequip.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from duetto.conversion.check import check_against_nequip
from duetto.conversion.expert import expert_from_nequip, nequip_models
from duetto.environment import package_versions
from duetto.errors import InputError
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ROLES, ExpertPair

_VERSIONS = ("duetto", "nequip", "nequip-allegro", "torch")
_OF_TRAINING = (
    "energy_agreement",
    "force_agreement",
    "agreement_warmup_steps",
    "freeze",
    "hf_form",
    "ema_decay",
    "loss",
    "optimizer",
    "lr_scheduler",
)
"""What a pair file remembers of `training_module`; the architecture it holds anyway."""

CORRECTED_LF = "duetto_corrected_lf"
"""Key of a checkpoint: content hash of a pair of the LF alone to which HF is a correction."""


@dataclass(frozen=True)
class Source:
    """A nequip checkpoint or package, read.

    Attributes:
        path: the file.
        models: its models by name: one, or the experts of a co-training run.
        training: settings and state of the training, plain JSON; empty for a package.
        seen_pairs: by name of the model, the [centre, neighbour] species that it was trained on,
            as far as the file knows.
        corrected_lf: hash of an LF that is not in the file and that its HF is a correction to.
    """

    path: Path
    models: dict[str, nn.Module]
    training: dict[str, Any]
    seen_pairs: dict[str, list[list[str]]]
    corrected_lf: str | None = None

    @property
    def holds_correction(self) -> bool:
        """Whether its model hf is a correction to an LF."""
        return self.training.get("hf_form") == "correction"

    def model(self, role: str) -> tuple[str, nn.Module]:
        """Name and model of the expert for a role: that of its name, or the only one."""
        if role in self.models:
            return role, self.models[role]
        if len(self.models) == 1 and not self.holds_correction:
            return next(iter(self.models.items()))
        raise InputError(f"{self.path}: holds {', '.join(self.models)}, and none is called {role}")


@dataclass(frozen=True)
class Packed:
    """Experts from nequip's files.

    Attributes:
        experts: by role.
        provenance: where they come from.
        deviations: by role, the largest relative deviation from nequip's own evaluation, by
            quantity; see `duetto.conversion.check.check_against_nequip`.
        correction: whether HF's file says that it is a correction to an LF.
        corrected_lf: hash of that LF alone, where the file knows it.
    """

    experts: dict[str, AllegroExpert]
    provenance: dict[str, Any]
    deviations: dict[str, dict[str, float]]
    correction: bool
    corrected_lf: str | None


def pack(
    files: Sequence[str] = (),
    hf: str | None = None,
    lf: str | None = None,
    *,
    correction: bool = False,
) -> tuple[ExpertPair, dict[str, dict[str, float]]]:
    """Build a pair from nequip's files and compare it with nequip.

    Args:
        files: one file with the models hf and lf; or one file for HF alone; or two, HF and LF.
        hf: file of the HF expert; instead of `files`.
        lf: file of the LF expert; instead of `files`.
        correction: whether HF is a correction to LF; checkpoints of such a training say so.

    Returns:
        The pair, and the `deviations` of `Packed`.

    Raises:
        InputError: a file cannot be read or used, the experts do not go together, or the packed
            expert does not evaluate to what nequip finds.
    """
    found = packed(files, hf, lf)
    return made_pair(found.experts, found, correction=correction), found.deviations


def made_pair(
    experts: Mapping[str, Any],
    found: Packed,
    provenance: Mapping[str, Any] | None = None,
    *,
    correction: bool = False,
) -> ExpertPair:
    """The pair of these experts, HF in the form that its file or the caller says.

    Args:
        experts: by role, those of nequip's files and others.
        found: what nequip's files gave.
        provenance: of all; None: what nequip's files tell.
        correction: whether HF is a correction whatever its file says.

    Raises:
        InputError: a correction to an LF that is not there, or to another one.
    """
    correction = correction or (found.correction and "hf" in found.experts)
    if correction and "lf" not in experts:
        raise InputError(
            "hf is a correction to an LF that the file does not hold: give the two as --hf FILE "
            "and --lf PAIR.duetto"
        )
    told = found.provenance if provenance is None else provenance
    pair = ExpertPair(experts.get("hf"), experts.get("lf"), dict(told), correction)
    known = found.corrected_lf
    if known is not None and ExpertPair(None, pair.lf).content_hash != known:
        raise InputError("hf was trained as a correction to another LF than this one")
    return pair


def packed(files: Sequence[str] = (), hf: str | None = None, lf: str | None = None) -> Packed:
    """The experts of nequip's files, each compared with nequip; arguments as those of `pack`.

    Raises:
        InputError: as `pack`.
    """
    sources = _sources(files, hf, lf)
    experts: dict[str, AllegroExpert] = {}
    provenance: dict[str, Any] = {
        "packed": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(_VERSIONS),
    }
    deviations = {}
    for role, source in sources.items():
        name, model = source.model(role)
        try:
            experts[role] = AllegroExpert(*expert_from_nequip(model))
            deviations[role] = check_against_nequip(experts[role], model)
        except InputError as error:
            raise InputError(f"{source.path}: {role}: {error}") from error
        provenance[role] = _provenance(source, name)
    _check_species(experts)
    of_hf = sources.get("hf")
    return Packed(
        experts,
        provenance,
        deviations,
        of_hf is not None and of_hf.holds_correction,
        None if of_hf is None else of_hf.corrected_lf,
    )


def pair_from_nequip(
    given: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    *,
    correction: bool = False,
) -> ExpertPair:
    """Build a pair from files or nequip models by role, each compared with nequip.

    Args:
        given: by role a path, a nequip model, or None. A model is left as it is.
        provenance: what else the pair is to tell of itself; wins over what is found here.
        correction: whether HF is a correction to LF; checkpoints of such a training say so.

    Raises:
        InputError: as for `pack`.
    """
    experts: dict[str, AllegroExpert] = {}
    told: dict[str, Any] = {}
    for role, source in given.items():
        if source is None:
            continue
        if isinstance(source, nn.Module):
            model = copy.deepcopy(source)  # the comparison turns it into float64
        else:
            read = read_source(str(source))
            name, model = read.model(role)
            told[role] = _provenance(read, name)
            correction |= role == "hf" and read.holds_correction
        experts[role] = AllegroExpert(*expert_from_nequip(model))
        check_against_nequip(experts[role], model)
    _check_species(experts)
    for key, value in (provenance or {}).items():
        both = isinstance(value, Mapping) and key in told
        told[key] = told[key] | dict(value) if both else value
    return ExpertPair(experts.get("hf"), experts.get("lf"), told, correction)


def _sources(files: Sequence[str], hf: str | None, lf: str | None) -> dict[str, Source]:
    """The source of each role; a file that serves both is read once."""
    named = {role: path for role, path in (("hf", hf), ("lf", lf)) if path is not None}
    if files and named:
        raise InputError("give the files either in order or as --hf and --lf, not both")
    if len(files) > 2 or not (files or named):
        raise InputError("pack takes one co-trained checkpoint, or a file for HF and one for LF")
    if len(files) == 1:
        source = read_source(files[0])
        roles = [role for role in ROLES if role in source.models]
        return dict.fromkeys(roles or ["hf"], source)
    paths = dict(zip(ROLES, files, strict=True)) if files else named
    read = {path: read_source(path) for path in dict.fromkeys(paths.values())}
    return {role: read[path] for role, path in paths.items()}


def read_source(path: str) -> Source:
    """Read a nequip checkpoint or package.

    Raises:
        InputError: the file is missing, or nequip cannot read it.
    """
    models = nequip_models(path)
    training, seen, corrected = {}, {}, None
    if not path.endswith(".nequip.zip"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        training = _training(checkpoint)
        seen = _seen_pairs(checkpoint["state_dict"], models)
        corrected = checkpoint.get(CORRECTED_LF)
    return Source(Path(path), models, training, seen, corrected)


def _training(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    info = checkpoint["hyper_parameters"]["info_dict"]
    module = info["training_module"]
    return {
        "epoch": checkpoint["epoch"],
        "global_step": checkpoint["global_step"],
        "versions": dict(info["versions"]),
        "training_module": module["_target_"],
        **{key: module[key] for key in _OF_TRAINING if key in module},
    }


def _seen_pairs(state: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Pairs that a co-training run has noted; none for any other, or for a frozen expert."""
    noted = {}
    for name, model in models.items():
        seen = state.get(f"{name}_seen_pairs")
        if seen is not None and bool(seen.any()):
            types = model.type_names
            noted[name] = [[types[i], types[j]] for i, j in seen.nonzero().tolist()]
    return noted


def _provenance(source: Source, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": source.path.name,
        "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
        "model": name,
    }
    if source.training:
        told["training"] = source.training
    if name in source.seen_pairs:
        told["seen_pairs"] = source.seen_pairs[name]
    return told


def _check_species(experts: Mapping[str, AllegroExpert]) -> None:
    if len(experts) < 2:
        return
    unknown = set(experts["lf"].species) - set(experts["hf"].species)
    if unknown:
        listed = ", ".join(sorted(unknown))
        raise InputError(f"the LF expert knows {listed}, and the HF expert does not")
