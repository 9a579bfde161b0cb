"""The configuration of a validation: every key, its unit, its range and its default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    model_validator,
)

from duetto.errors import InputError
from duetto.files import require_file
from duetto.partition.regions import Regions
from duetto.run.config import RegionsInWords, Structure, write_structure_out
from duetto.settings.fields import FilePath, Real, Section, Whole
from duetto.settings.read import read_file

Temperature = Annotated[Real, Field(ge=0, le=1e5)]
MOST_LAGS = 50
"""Samples that a block has at least: with fewer its curves say nothing."""

Cells = Annotated[Whole, Field(ge=1, le=40)]


def _crystal(value: Any, info: ValidationInfo) -> str:
    """`fcc:Pt:3.98` as it is; a file's path from the configuration's folder."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("fcc:Pt:3.98 (structure, element, lattice constant in Å) or a file")
    if value.count(":") == 2:
        return value
    return str(Path((info.context or {}).get("folder", "."), Path(value).expanduser()))


def _on_surface(value: Any, info: ValidationInfo) -> Regions | None:
    """The surface's own regions; messages call them so."""
    if value is None:
        return None
    folder, key = (info.context or {}).get("folder", "."), "surface.regions"
    regions = Regions.from_dict(value, folder=folder, key=key)
    for moving in ("follow", "update"):
        if getattr(regions, moving) is not None:
            raise InputError(f"{key}.{moving}: a slab at rest has no moving regions; leave it out")
    return regions


SurfaceRegions = Annotated[
    Regions | None,
    PlainValidator(_on_surface),
    PlainSerializer(lambda regions: None if regions is None else regions.to_dict()),
]


def _ascending(values: list[float]) -> list[float]:
    if sorted(set(values)) != values:
        raise ValueError("ascending numbers, each once")
    return values


class ReferenceConfig(Section):
    """What labelled the pair's data says of the crystal."""

    source: str = Field(description="Where these numbers come from.")
    lattice_constant_angstrom: Real | None = Field(None, gt=0, description="Å.")
    bulk_modulus_gpa: Real | None = Field(None, gt=0, description="GPa.")
    c11_gpa: Real | None = Field(None, description="GPa.")
    c12_gpa: Real | None = Field(None, description="GPa.")
    c44_gpa: Real | None = Field(None, description="GPa.")
    vacancy_formation_ev: Real | None = Field(None, description="eV.")


class SeamConfig(Section):
    """A planar seam in the crystal, and what is asked of it."""

    repeat: tuple[Cells, Cells, Annotated[Whole, Field(ge=2, le=80)]] = Field(
        (2, 2, 8), description="Cells of the crystal; the seam's normal is the third axis."
    )
    temperatures_K: Annotated[list[Temperature], AfterValidator(_ascending)] = Field(
        [0.0, 300.0, 900.0], min_length=1, max_length=20, description="K; 0: lattice sites."
    )
    warm_up_steps: Whole = Field(400, ge=1, le=10**7, description="Before the first snapshot.")
    snapshots: Whole = Field(20, ge=1, le=10**4, description="At each temperature above 0.")
    steps_between: Whole = Field(100, ge=1, le=10**6, description="From snapshot to snapshot.")
    timestep_fs: Real = Field(2.0, ge=1e-4, le=100, description="fs.")
    blends_A: Annotated[list[Annotated[Real, Field(ge=0, le=20)]], AfterValidator(_ascending)] = (
        Field([0.0, 3.0, 5.0], min_length=1, max_length=10, description="Widths to try, Å.")
    )
    tolerance_mev_per_angstrom: Real = Field(
        10.0, gt=0, le=1e4, description="Root mean square of a force component, meV/Å."
    )
    radius_A: Real = Field(8.0, ge=2, le=40, description="Of a sphere and a cylinder, Å.")


class SurfaceConfig(Section):
    """A molecule on a surface of the crystal, and its way from one site to another."""

    facet: Literal["fcc111", "fcc100", "fcc110", "bcc100", "bcc110", "bcc111"] = Field(
        "fcc111", description="By ASE's builder of that name."
    )
    repeat: tuple[Cells, Cells, Annotated[Whole, Field(ge=2, le=80)]] = Field(
        (3, 3, 8), description="Cells of the surface, and layers."
    )
    vacuum_A: Real = Field(10.0, ge=5, le=100, description="On either side, Å.")
    molecule: str = Field("CO", description="By its name in ASE's G2 set.")
    binding: str = Field("C", description="Its atom that points to the surface.")
    sites: dict[str, Annotated[Real, Field(gt=0, le=5)]] = Field(
        {"ontop": 1.85, "bridge": 1.5, "fcc": 1.35, "hcp": 1.35},
        min_length=1,
        description="Sites in ASE's words, and the height at which to begin, Å.",
    )
    path: tuple[str, str] | None = Field(
        ("fcc", "hcp"), description="From which site to which; null: no barrier."
    )
    images: Whole = Field(5, ge=3, le=40, description="Between the two, of the elastic band.")
    regions: SurfaceRegions = Field(None, description="null: those of the structure.")

    @model_validator(mode="after")
    def _known_path(self) -> SurfaceConfig:
        for site in self.path or ():
            if site not in self.sites:
                raise ValueError(f"path: {site} is not among its sites: {', '.join(self.sites)}")
        if self.path is not None and self.path[0] == self.path[1]:
            raise ValueError(f"path: from {self.path[0]} to itself; two sites, or null: no barrier")
        return self


class DynamicsConfig(Section):
    """The run of mixture and full HF from one start."""

    timestep_fs: Real = Field(1.0, ge=1e-4, le=100, description="fs.")
    temperature_K: Real = Field(300.0, ge=0, le=1e5, description="Of the bath, K.")
    warm_up_steps: Whole = Field(200, ge=0, le=10**9, description="Langevin, by the mixture.")
    steps: Whole = Field(800, ge=10, le=10**9, description="At constant energy, each.")
    snapshots: Whole = Field(10, ge=1, le=10**4, description="Compared with full HF.")
    seeds: Whole = Field(
        1, ge=1, le=100, description="Starts; from two on, statistics with error bars."
    )
    blocks: Whole = Field(4, ge=2, le=1000, description="Pieces of a run, for its error bars.")
    sample_every: Whole = Field(4, ge=1, le=10**6, description="Steps between what is kept.")

    @model_validator(mode="after")
    def _long_enough(self) -> DynamicsConfig:
        if self.snapshots > self.steps:
            raise ValueError(f"snapshots: {self.snapshots} are more than the steps, {self.steps}")
        if self.seeds > 1 and self.steps < MOST_LAGS * self.blocks * self.sample_every:
            least = MOST_LAGS * self.blocks * self.sample_every
            raise ValueError(
                f"steps: {self.steps} are too few for {self.blocks} blocks; allowed: {least} on"
            )
        return self


class OutputFolder(Section):
    """Where the results go."""

    dir: FilePath = Field(
        "validation", validate_default=True, description="Folder of all output; made if missing."
    )


class ValidateConfig(Section):
    """A validation. Paths are relative to the folder of the configuration."""

    structure: Structure = Field(description="The atoms of dynamics and force errors, as in a run.")
    pair: FilePath = Field(description="Pair file (*.duetto) with both experts.")
    independent: FilePath | None = Field(None, description="Its twin, trained apart; null: none.")
    regions: RegionsInWords = Field(description="Which atoms of the structure are complex.")
    crystal: Annotated[str, PlainValidator(_crystal)] = Field(
        description="fcc:Pt:3.98, or a structure file; cubic, its cell the conventional one."
    )
    reference: ReferenceConfig | None = Field(None, description="What the experts learnt from.")
    device: Literal["cpu"] = Field("cpu", description="Where it is computed.")
    dtype: Literal["float64"] = Field("float64", description="Differences of energies need it.")
    seed: Whole = Field(0, ge=0, lt=2**32, description="Of velocities and thermostats.")
    vacancy_repeat: tuple[Cells, Cells, Cells] = Field(
        (3, 3, 3), description="Cells of the crystal that lacks an atom."
    )
    phonon_repeat: tuple[Cells, Cells, Cells] | None = Field(
        None, description="Cells in which phonons are computed (phonopy); null: none."
    )
    seam: SeamConfig = Field({}, validate_default=True, description="Seams in the crystal.")
    surface: SurfaceConfig | None = Field(None, description="Adsorption; null: none.")
    dynamics: DynamicsConfig = Field({}, validate_default=True, description="The run.")
    output: OutputFolder = Field({}, validate_default=True, description="What is written.")


def load_validation(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> ValidateConfig:
    """Read the configuration and check all of it.

    Raises:
        InputError: one line naming the file, the key, what was given and what is allowed.
    """
    config = read_file(ValidateConfig, path, overrides, key="pair", shorthand=write_structure_out)
    for key, file in (("pair", config.pair), ("independent", config.independent)):
        if file is not None:
            require_file(file, "pair file", f"{path}: {key}: ")
    return config
