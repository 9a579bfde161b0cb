"""A co-training in a page: every key, its unit, its range and its default.

`duetto.cotrain.expansion` makes nequip's configuration of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictStr,
    model_validator,
)

from duetto.atoms.labels import LabelKeys
from duetto.distil.settings import DistilSettings
from duetto.errors import InputError
from duetto.settings.fields import FilePath, Real, Section, Whole
from duetto.settings.read import read_file
from duetto.settings.values import suggestion


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (str, dict)) else value


def _known(symbols: list[str]) -> list[str]:
    from ase.data import atomic_numbers

    for symbol in symbols:
        if symbol not in atomic_numbers or symbol == "X":
            near = suggestion(symbol, atomic_numbers)
            raise ValueError(f"chemical symbols, and {symbol!r} is none{near}")
    if len(set(symbols)) < len(symbols):
        raise ValueError("each species once")
    return symbols


def _keys(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("a mapping such as {energy: REF_energy, forces: REF_forces}")
    LabelKeys.from_dict(value, "data.keys")
    return value


def _everything_or_list(value: Any) -> Any:
    return value if value == "all" else _listed(value)


Patterns = Annotated[Literal["all"] | list[StrictStr], BeforeValidator(_everything_or_list)]
Files = Annotated[list[FilePath], BeforeValidator(_listed)]
Species = Annotated[list[StrictStr], Field(min_length=1), AfterValidator(_known)]
Share = Annotated[Real, Field(gt=0, le=0.5)]
Triple = tuple[Whole, Whole, Whole]


class CrystalFrames(Section):
    """Agreement frames made from a crystal: see `duetto.cotrain.BulkFrames`."""

    crystal: StrictStr = Field(description="A chemical symbol with a cubic crystal.")
    number: Whole = Field(ge=1, le=10**6, description="How many frames.")
    lattice_constant: Real | None = Field(None, gt=0, description="Å, of the symbol's crystal.")
    repeat: Triple = Field((3, 3, 3), description="Copies of the cubic cell.")
    strain: Real = Field(0.03, ge=0, le=0.5, description="Largest component of the strain.")
    rattle: Real = Field(0.15, ge=0, le=2, description="Largest standard deviation, Å.")
    vacancies: Real = Field(0.2, ge=0, le=1, description="Share of frames with an atom less.")


class DataConfig(Section):
    """Where the frames are, and what their labels are called."""

    labelled: Files = Field(min_length=1, description="Files with energies and forces.")
    validation: Share | Files = Field(
        0.1,
        description="Files, or the share of the labelled frames that is held out: the last ones "
        "of each config_type in each file.",
    )
    test: Files = Field([], description="Files that training never sees; tested at the end.")
    unlabelled: Annotated[list[FilePath | CrystalFrames], BeforeValidator(_listed)] = Field(
        [], description="Agreement frames: files, or {crystal: Ni, number: 100}."
    )
    keys: Annotated[dict[StrictStr, StrictStr], BeforeValidator(_keys)] = Field(
        {}, description="What the files call the labels: {energy: REF_energy, virial: virial}."
    )
    stress: StrictBool = Field(False, description="Train on stresses, too; all must be there.")


class FitsConfig(Section):
    """Whose labels train which expert: config_types with * and ?, or all."""

    hf: Patterns = "all"
    lf: Patterns = Field([], description="The kinds of frames that the cheap expert must know.")


class AgreementConfig(Section):
    """Where and how strongly the experts are asked to agree."""

    frames: Patterns = Field([], description="Labelled frames whose atoms are shared bulk.")
    array: StrictStr | None = Field(None, description="Per-atom array that marks shared bulk.")
    energy: Real = Field(2.0, ge=0, description="λ_E, 1/eV².")
    forces: Real = Field(0.03, ge=0, description="λ_F, Å²/eV².")
    warmup_epochs: Whole = Field(0, ge=0, description="Epochs in which both rise from zero.")


class ExpertConfig(Section):
    """The size of an expert."""

    cutoff: Real = Field(gt=0, le=20, description="Å.")
    l_max: Whole = Field(ge=1, le=3, description="Largest degree of its spherical harmonics.")
    layers: Whole = Field(ge=1, le=3, description="Allegro layers.")
    scalars: Whole = Field(ge=1, le=1024, description="Scalar features and hidden width.")
    tensors: Whole = Field(ge=1, le=512, description="Tensor features.")


class LossConfig(Section):
    """Weights of the errors squared: energy per atom (eV), forces (eV/Å), stress (eV/Å³)."""

    energy: Real = Field(20.0, ge=0)
    forces: Real = Field(1.0, ge=0)
    stress: Real = Field(1000.0, ge=0)


class TrainConfig(Section):
    """A co-training. Paths are relative to the folder of the configuration."""

    species: Species = Field(description="Chemical symbols, in the order of the types.")
    output: FilePath = Field(description="Folder of checkpoints and logs.")
    data: DataConfig
    fits: FitsConfig
    agreement: AgreementConfig = Field({}, validate_default=True)
    hf: ExpertConfig
    lf: ExpertConfig | None = Field(
        None, description="Or linear: fitted to HF at the end, as `duetto distil` does."
    )
    lf_linear: DistilSettings | None = Field(
        None, description="Settings of that fit, written as lf: {linear: {…}}."
    )
    lf_pair: FilePath | None = Field(
        None, description="A pair file whose LF is kept as it is, written as lf: {pair: FILE}."
    )
    hf_form: Literal["whole", "correction"] = Field(
        "whole", description="Whether hf is an expert of its own, or a correction Δ to LF."
    )
    epochs: Whole = Field(ge=1, le=10**6, description="Passes over the labelled frames.")
    batch_size: Whole = Field(ge=1, le=10**4, description="Frames in a batch.")
    agreement_fraction: Real = Field(
        0.3334, ge=0, lt=1, description="Share of unlabelled frames in a batch, if there are any."
    )
    learning_rate: Real = Field(0.004, gt=0, le=1, description="At the start; SOAP's.")
    loss: LossConfig = Field({}, validate_default=True)
    dtype: Literal["float32", "float64"] = "float32"
    device: Literal["cpu", "gpu"] = "cpu"
    seed: Whole = Field(1, ge=0, lt=2**32)
    nequip: dict[StrictStr, Any] = Field(
        {}, description="Laid over nequip's configuration: {trainer: {max_time: 00:02:00:00}}."
    )

    @model_validator(mode="before")
    @classmethod
    def _linear_lf(cls, data: Any) -> Any:
        """`lf: linear`, `{linear: {…}}` and `{pair: FILE}` are not experts to train."""
        given = data.get("lf") if isinstance(data, dict) else None
        if given == "linear":
            given = {"linear": {}}
        for other in ("linear", "pair"):
            if isinstance(given, dict) and set(given) == {other}:
                rest = {k: v for k, v in data.items() if k != "lf"}
                return rest | {f"lf_{other}": given[other]}
        return data

    @model_validator(mode="after")
    def _one_lf(self) -> TrainConfig:
        if self.lf is None and self.lf_linear is None and self.lf_pair is None:
            raise InputError("lf: missing; allowed: an expert like hf's, linear, or {pair: FILE}")
        if not self.fits.lf and self.lf_pair is None:
            raise InputError("fits.lf: missing; allowed: config_types, or all")
        fit = self.lf_linear
        if fit is not None and (fit.data or fit.test or fit.families != ("*",)):
            raise InputError(
                "lf.linear: takes no data, test or families; the fit is to the frames of fits.lf "
                "and the unlabelled ones, and tested on data.test"
            )
        return self

    @model_validator(mode="after")
    def _form_of_hf(self) -> TrainConfig:
        if self.lf_pair is not None and self.hf_form == "whole":
            raise InputError("lf.pair: an LF that is given needs hf_form: correction")
        if self.lf_linear is not None and self.hf_form == "correction":
            raise InputError(
                "hf_form: a correction needs its LF before it, and a linear one is fitted at the "
                "end; give lf: {pair: FILE} of `duetto distil`, or an expert to train"
            )
        return self

    @model_validator(mode="after")
    def _order_of_cutoffs(self) -> TrainConfig:
        if self.hf_form == "correction":  # which may see less far than what it corrects
            return self
        lf = self.lf or self.lf_linear
        cutoff = 0.0 if lf is None else lf.cutoff
        longest = max(cutoff.values()) if isinstance(cutoff, dict) else cutoff
        if longest > self.hf.cutoff:
            raise InputError(
                f"lf.cutoff: got {longest:g} Å, beyond hf.cutoff ({self.hf.cutoff:g} Å): "
                "the cheap expert is the short-sighted one"
            )
        return self


def load_train_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the short configuration of a co-training and check its keys.

    Args:
        path: the YAML file.
        overrides: `key.sub=value`, applied on top; the values are YAML.

    Raises:
        InputError: one line naming the file, the key, what was given and what is allowed.
    """
    folder = Path(os.path.relpath(Path(path).absolute().parent))
    try:
        return read_file(TrainConfig, path, overrides, key="species", folder=folder)
    except InputError as error:
        # As it is written in the file.
        told = str(error).replace("lf_linear", "lf.linear").replace("lf_pair", "lf.pair")
        raise InputError(told) from error
