"""The configuration of a run: every key, its unit, its range and its default."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ase import Atoms
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)

from duetto.atoms.structure import read_structure
from duetto.errors import InputError
from duetto.experts.calculators import NO_CALCULATOR
from duetto.partition.regions import Regions
from duetto.partition.regions.region import Region
from duetto.partition.regions.terms import parse_region
from duetto.settings.fields import FilePath, Real, Section, Whole
from duetto.settings.read import read_file
from duetto.settings.values import Place


def _regions(value: Any, info: ValidationInfo) -> Regions:
    return Regions.from_dict(value, folder=(info.context or {}).get("folder", "."))


def _fixed(value: Any, info: ValidationInfo) -> Region | None:
    if value is None:
        return None
    folder = Path((info.context or {}).get("folder", "."))
    return parse_region(value, Place("fixed", folder=folder))


def _temperatures(value: Any) -> Any:
    ends = value if isinstance(value, list | tuple) else [value]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) != len(ends) or not all(0.0 <= end <= 1e5 for end in numbers):
        raise ValueError("a number from 0 to 1e5, or two: [from, to]")
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError("a number from 0 to 1e5, or two: [from, to]")
        return float(value[0]), float(value[1])
    return float(value)


def _guard(value: Any) -> Any:
    from duetto.partition.guard import Guard

    Guard.from_config(value)
    return value


def _device(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda|cuda:[0-9]{1,3}", value):
        raise ValueError("auto, cpu, cuda, cuda:N")
    return value


def _each_once(fields: list[str]) -> list[str]:
    if len(set(fields)) < len(fields):
        raise ValueError("each field once")
    return fields


Temperatures = Annotated[
    Any,
    PlainValidator(_temperatures),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value),
]
Copies = Annotated[Whole, Field(ge=1, le=1000)]
RegionsInWords = Annotated[
    Regions,
    PlainValidator(_regions),
    PlainSerializer(lambda regions: regions.to_dict()),
]


FixedAtoms = Annotated[
    Region | None,
    PlainValidator(_fixed),
    PlainSerializer(lambda region: None if region is None else region.to_dict()),
]


class StructureConfig(Section):
    """The atoms to start from."""

    file: FilePath = Field(description="Structure file in any format that ASE reads.")
    frame: Whole = Field(
        -1, ge=-(10**9), le=10**9, description="Which frame; negative counts from the end."
    )
    repeat: tuple[Copies, Copies, Copies] = Field(
        (1, 1, 1),
        description="Copies along each of the three cell vectors.",
    )

    def read(self, species: Collection[str] | None) -> Atoms:
        """The atoms, all of `species` if given.

        Raises:
            InputError: see `duetto.atoms.structure.read_structure`.
        """
        return read_structure(self.file, frame=self.frame, repeat=self.repeat, species=species)


class NVEStage(Section):
    """Steps at constant energy, by velocity Verlet."""

    ensemble: Literal["nve"] = Field(description="Constant number, volume and energy.")
    steps: Whole = Field(ge=1, le=10**12, description="Number of steps.")


class RelaxStage(Section):
    """Forces brought down before dynamics begins, by ASE's FIRE; no time passes."""

    ensemble: Literal["relax"] = Field(description="No dynamics: downhill on the energy.")
    fmax_eV_per_angstrom: Real = Field(
        0.05, gt=0, le=100, description="Largest force on an atom at which it ends, eV/Å."
    )
    max_steps: Whole = Field(
        1000, ge=1, le=10**6, description="Steps after which it is given up, and the run with it."
    )

    @property
    def steps(self) -> int:
        """Steps of dynamics: none."""
        return 0


class BathStage(Section):
    """What stages at constant temperature share."""

    steps: Whole = Field(ge=1, le=10**12, description="Number of steps.")
    temperature_K: Temperatures = Field(
        description="Temperature of the bath, K; two for a straight line from one to the other."
    )

    @property
    def temperatures_K(self) -> tuple[float, float | None]:
        """At the start, and at the end if it is another."""
        if isinstance(self.temperature_K, tuple):
            return self.temperature_K
        return self.temperature_K, None

    @property
    def highest_temperature_K(self) -> float:
        """K."""
        return max(temperature or 0.0 for temperature in self.temperatures_K)


class NoseHooverStage(BathStage):
    """Steps at constant temperature, deterministic, by a Nosé–Hoover chain."""

    ensemble: Literal["nose_hoover"] = Field(description="Constant number, volume, temperature.")
    period_fs: Real = Field(
        100.0, gt=0, le=1e6, description="Time in which the thermostat responds, fs."
    )

    @field_validator("temperature_K")
    @classmethod
    def _warm(cls, value: Any) -> Any:
        if min(value if isinstance(value, tuple) else (value,)) <= 0.0:
            raise ValueError("above 0 K")
        return value


class LangevinStage(BathStage):
    """Steps at constant temperature, by Langevin dynamics (BAOAB)."""

    ensemble: Literal["langevin"] = Field(description="Constant number, volume and temperature.")
    friction_per_fs: Real = Field(
        0.01, gt=0, le=10, description="Friction γ, 1/fs; 1/γ is the time to forget velocities."
    )


Stage = Annotated[
    NVEStage | LangevinStage | NoseHooverStage | RelaxStage, Field(discriminator="ensemble")
]
TrajectoryField = Literal["velocities", "momenta", "forces", "energies", "weights"]


class OutputConfig(Section):
    """What a run writes, where and how often."""

    dir: FilePath = Field(
        "output", validate_default=True, description="Folder of all output; made if missing."
    )
    thermo_every: Whole = Field(
        10, ge=1, le=10**9, description="Steps between two rows of thermo.csv."
    )
    trajectory_every: Whole = Field(
        100, ge=0, le=10**9, description="Steps between two frames of trajectory.xyz; 0: none."
    )
    checkpoint_every: Whole = Field(
        1000,
        ge=0,
        le=10**9,
        description="Steps between two checkpoints; 0: only at the start, the end and signals.",
    )
    trajectory_fields: Annotated[list[TrajectoryField], AfterValidator(_each_once)] = Field(
        ["velocities", "momenta", "energies", "weights"],
        description=(
            "Columns beside species and positions: velocities (Å/fs, column velo, which OVITO "
            "reads), momenta (ASE's units, from which ASE restores velocities), forces (eV/Å), "
            "energies (eV), weights (column w)."
        ),
    )


class LimitsConfig(Section):
    """When a run stops itself."""

    temperature_K: Real | None = Field(
        None,
        gt=0,
        le=1e9,
        description=(
            "Highest temperature, K. Default: 10 × the highest temperature that the "
            "configuration names but at least 3,000 K; 20,000 K where it names none."
        ),
    )
    energy_drift_meV_per_atom: Real | None = Field(
        50.0,
        gt=0,
        le=1e9,
        description=(
            "Largest change of the conserved energy since the start of an NVE stage, "
            "meV/atom; null: no limit."
        ),
    )


class MultipleTimestepConfig(Section):
    """The difference of the experts acts once in several steps; LF computes every atom."""

    every: Whole = Field(
        ge=1,
        le=1000,
        description=(
            "Steps of timestep_fs between two evaluations of HF. Stages and output intervals are "
            "multiples of it."
        ),
    )


def _structure_shorthand(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Structure = Annotated[StructureConfig, BeforeValidator(_structure_shorthand)]


_FROM_FILES = ("mace", "metatomic", "nequip")
"""Torch models that are files, unlike chgnet, whose package has its weights."""


class ExpertConfig(Section):
    """One expert by its name or its file: a torch model, or an embedded-atom potential."""

    torch: str | None = Field(
        None,
        description="Package of a torch model with site energies: chgnet, mace, metatomic, nequip.",
    )
    file: FilePath | None = Field(
        None, description="The torch model's file; chgnet has its weights in its package."
    )
    version: str | None = Field(None, description="Of chgnet's weights: 0.3.0, r2scan, 0.2.0.")
    eam: FilePath | None = Field(
        None, description="LAMMPS setfl file, *.eam.alloy or *.eam.fs; instead of torch."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_calculator(cls, given: Any) -> Any:
        for key in given if isinstance(given, dict) else ():
            if str(key).lower() in ("ase", "calculator"):
                raise InputError(f"experts: {key}: {NO_CALCULATOR}; use torch or eam")
        return given

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.torch is None) == (self.eam is None):
            raise InputError("experts: name one of torch and eam for each role")
        if self.eam is not None and (self.file or self.version):
            raise InputError("experts: file and version belong to torch; eam is itself a file")
        if self.torch == "chgnet" and self.file is not None:
            raise InputError("experts: chgnet has its weights in its package; say version, no file")
        if self.torch in _FROM_FILES and (self.file is None or self.version):
            raise InputError(f"experts: torch {self.torch} needs the model's file, and no version")
        return self


class ExpertsConfig(Section):
    """Experts that are in no pair file."""

    hf: ExpertConfig | None = Field(None, description="The high-fidelity expert.")
    lf: ExpertConfig | None = Field(None, description="The low-fidelity expert.")


class RunConfig(Section):
    """A molecular dynamics run. Paths are relative to the folder of the configuration."""

    structure: Structure = Field(
        description="The atoms: a file name, or a mapping of file, frame and repeat."
    )
    pair: FilePath | None = Field(
        None, description="Pair file (*.duetto) of the two experts, or of those not named below."
    )
    experts: ExpertsConfig = Field(
        {},
        validate_default=True,
        description="Experts that are in no pair file, by role; they go before those of the pair.",
    )
    regions: RegionsInWords = Field(description="Which atoms are complex; see the page on regions.")
    guard: Annotated[Any, AfterValidator(_guard)] = Field(
        "error",
        description=(
            "What to do when the partition no longer holds: error, warn or promote; or a mapping "
            "of policy, watched, shell (Å) and lost_distance (Å)."
        ),
    )
    device: Annotated[str, PlainValidator(_device)] = Field(
        "auto", description="auto (cuda where there is one), cpu, cuda or cuda:N."
    )
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="Precision of the model; the dynamics is always in float64."
    )
    backend: Literal["auto", "numba", "triton", "reference", "torch"] = Field(
        "auto",
        description=(
            "auto takes numba on cpu and triton on cuda; reference is plain torch; torch is the "
            "older word for numba on cpu and for reference on cuda."
        ),
    )
    precision: Literal["auto", "fp32", "bf16x3", "tf32"] = Field(
        "auto",
        description=(
            "Of the matrix products of float32 experts. On triton: bf16x3 (what auto takes; three "
            "products of bfloat16 parts, good to 2⁻¹⁶) or fp32 (six, as good as float32). On "
            "others: fp32, and on cuda tf32 (good to 2⁻¹¹). Experts in float64 multiply in float64."
        ),
    )
    skin_A: Real = Field(
        0.5,
        ge=0,
        le=5,
        description="Å by which the neighbour list reaches beyond the cutoff, to be used longer.",
    )
    timestep_fs: Real = Field(ge=1e-4, le=100, description="Timestep, fs.")
    multiple_timestep: MultipleTimestepConfig | None = Field(
        None, description="Steps at which LF alone is evaluated; null: none. See docs/time.md."
    )
    fixed: FixedAtoms = Field(
        None,
        description=(
            "Atoms that stay where they are: a term of the region language, such as "
            "{layers: {axis: z, bottom: 2}}; the structure's own FixAtoms are kept in any case."
        ),
    )
    seed: Whole = Field(0, ge=0, lt=2**32, description="Of initial velocities and thermostat.")
    initial_temperature_K: Real | None = Field(
        None,
        ge=0,
        le=1e5,
        description=(
            "Draw Maxwell–Boltzmann velocities at this temperature, K, without drift; null: "
            "those of the structure file."
        ),
    )
    exact_initial_temperature: StrictBool = Field(
        True, description="Rescale the drawn velocities to exactly that temperature."
    )
    stages: list[Stage] = Field(
        min_length=1, max_length=1000, description="What to do, one after the other."
    )
    output: OutputConfig = Field({}, validate_default=True, description="What to write.")
    limits: LimitsConfig = Field({}, validate_default=True, description="When to stop.")

    @field_validator("stages")
    @classmethod
    def _relaxation_comes_first(cls, stages: list[Any]) -> list[Any]:
        late = [
            i
            for i, stage in enumerate(stages)
            if isinstance(stage, RelaxStage)
            and not all(isinstance(earlier, RelaxStage) for earlier in stages[:i])
        ]
        if late:
            raise ValueError("relaxation before all dynamics, in a run of its own otherwise")
        if not any(stage.steps for stage in stages):
            raise ValueError("at least one stage of dynamics")
        return stages

    @property
    def pair_name(self) -> str:
        """The pair file's name, or `experts` where there is none."""
        return "experts" if self.pair is None else self.pair.name

    @model_validator(mode="after")
    def _some_expert(self) -> Self:
        if self.pair is None and self.experts.hf is None and self.experts.lf is None:
            raise InputError("pair: missing; it is required, unless experts names them")
        return self

    @property
    def temperature_limit_K(self) -> float:
        """Temperature above which the run has gone wrong, K."""
        if self.limits.temperature_K is not None:
            return self.limits.temperature_K
        targets = [s.highest_temperature_K for s in self.stages if isinstance(s, BathStage)]
        if self.initial_temperature_K is not None:
            targets.append(self.initial_temperature_K)
        return max(10.0 * max(targets), 3000.0) if any(targets) else 20000.0


def write_structure_out(data: dict[str, Any]) -> None:
    """A structure given by its file alone as the mapping whose keys can be overridden."""
    if "structure" in data:
        data["structure"] = _structure_shorthand(data["structure"])


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read the configuration of a run and check all of it.

    Args:
        path: the YAML file.
        overrides: `key.sub=value`, applied on top; the values are YAML.

    Raises:
        InputError: one line naming the file, the key, what was given and what is allowed.
    """
    config = read_file(RunConfig, path, overrides, key="structure", shorthand=write_structure_out)
    require_whole_outer_steps(config, str(path))
    return config


def require_whole_outer_steps(config: RunConfig, where: str) -> None:
    """Refuse stages, output and updates that do not end on a whole outer step.

    Raises:
        InputError: naming the key, its value and the nearest that fit.
    """
    if config.multiple_timestep is None:
        return
    every, output = config.multiple_timestep.every, config.output
    lengths = {f"stages[{n}].steps": stage.steps for n, stage in enumerate(config.stages)}
    for name in ("thermo_every", "trajectory_every", "checkpoint_every"):
        lengths[f"output.{name}"] = getattr(output, name)
    if config.regions.update is not None:
        lengths["regions.update.every"] = config.regions.update.every
    for key, steps in lengths.items():
        if steps % every:
            below, above = steps // every * every, -(-steps // every) * every
            fitting = f"{below} or {above}" if below else str(above)
            raise InputError(
                f"{where}: {key}: got {steps}; allowed: a multiple of multiple_timestep.every, "
                f"{every}, such as {fitting}"
            )
