"""A validation from its configuration to its files."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from duetto.environment import PACKAGES, package_versions
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance
from duetto.measure.errors.crystal import read_crystal
from duetto.validate import phonons, surface
from duetto.validate.case import Case
from duetto.validate.checks import check_seam, check_vacancy, require_both
from duetto.validate.config import ValidateConfig
from duetto.validate.kept import FOLDER
from duetto.validate.page import markdown
from duetto.validate.pictures import RUNS, SEAM, STATE, draw_pictures
from duetto.validate.subject import Subject

PROPERTIES = (
    "bulk",
    "elastic",
    "vacancy",
    "seam",
    "curved",
    "phonons",
    "surface",
    "dynamics",
    "certificate",
)
"""In this order, each by `measure(case)` of the module of that name, which returns keys of the
report; a later one may read what earlier ones have found."""

REPORT, PAGE = "validate.json", "validation.md"


def validate(
    config: ValidateConfig, say: Callable[[str], None], command: str | None = None
) -> dict[str, Any]:
    """Measure the pair, and its twin where there is one; write report, page and pictures.

    Args:
        config: the validation.
        say: where lines about what is being done go.
        command: what the user wrote to get it, for the report.

    Raises:
        InputError: a file cannot be used, or the crystal is not what is asked for.
        RunStopped: dynamics or a relaxation does not hold.
    """
    folder = config.output.dir
    _check_folder(folder)
    subjects = {"pair": config.pair}
    if config.independent is not None:
        subjects["independent"] = config.independent
    name, crystal = _crystal(config)
    pairs = {key: _pair(path, crystal) for key, path in subjects.items()}
    _require_apart(pairs, config)
    cases = {key: _case(config, name, crystal, pair) for key, pair in pairs.items()}
    reporters = {key: _reporter(say, key) for key in cases}
    for key, case in cases.items():  # a crystal without a minimum is found here
        _measure(case, PROPERTIES[:1], reporters[key])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output.dir: {folder}: cannot be made: {error.strerror}") from error
    report: dict[str, Any] = {"seed": config.seed, "crystal": name, **_origin(command)}
    for key, case in cases.items():
        found = measured(case, reporters[key])
        about = {"pair": subjects[key].name, "content_hash": case.subject.pair.content_hash}
        if key == "pair":
            report |= about | found
        else:
            report[key] = about | found
    _write(folder, report)
    return report


def _origin(command: str | None) -> dict[str, Any]:
    """By what it was measured; no date, so that the same command writes the same report."""
    made_by = provenance()
    return {
        "versions": package_versions((*PACKAGES, "phonopy")),
        "provenance": {
            "command": command,
            **{key: made_by[key] for key in ("commit", "processor", "cores")},
        },
    }


def _reporter(say: Callable[[str], None], key: str) -> Callable[[str], None]:
    return lambda line: say(f"{key}: {line}")


def _require_apart(pairs: Mapping[str, ExpertPair], config: ValidateConfig) -> None:
    """Refuse a twin that is the pair itself."""
    if len({pair.content_hash for pair in pairs.values()}) < len(pairs):
        raise InputError(
            f"independent: {config.independent} holds the same experts as pair; allowed: a pair "
            "that was trained apart, or null"
        )


def _check_folder(folder: Path) -> None:
    """Before experts are compiled: what exists of it may be written into, files and folders."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"output.dir: {folder}: {there} is a file; allowed: a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"output.dir: {folder}: {there} cannot be written into")
    for name in (REPORT, PAGE, STATE, SEAM, RUNS):
        if (folder / name).is_dir():
            raise InputError(
                f"output.dir: {folder / name} is a folder where a file will be written; move it, "
                "or name another output.dir"
            )
    runs = folder / FOLDER
    if runs.exists() and not (runs.is_dir() and os.access(runs, os.W_OK | os.X_OK)):
        raise InputError(
            f"output.dir: {runs} is no folder that can be written into, as runs are; move it, or "
            "name another output.dir"
        )


def measured(case: Case, say: Callable[[str], None]) -> dict[str, Any]:
    """Every property after the first, and the reference's numbers beside them."""
    _measure(case, PROPERTIES[1:], say)
    known = case.config.reference
    for key, value in {} if known is None else known.model_dump(exclude_none=True).items():
        if key != "source":
            case.found[key]["reference"] = value
    if known is not None:
        case.found["reference_source"] = known.source
    return case.found


def _measure(case: Case, properties: Sequence[str], say: Callable[[str], None]) -> None:
    for name in properties:
        say(name)
        case.found.update(importlib.import_module(f"duetto.validate.{name}").measure(case))


def _crystal(config: ValidateConfig) -> tuple[str, Atoms]:
    name, crystal = read_crystal(config.crystal, "crystal")
    lengths, angles = crystal.cell.lengths(), crystal.cell.angles()
    # A file's digits: relaxed cells are cubic to some 1e-4.
    if max(abs(lengths / lengths[0] - 1)) > 1e-3 or max(abs(angles - 90.0)) > 0.1:
        raise InputError(
            f"crystal: {config.crystal}: its cell is not a cube ({crystal.cell.cellpar().round(3)}"
            "); allowed: the conventional cell of a cubic crystal"
        )
    crystal.set_cell([float(lengths.mean())] * 3, scale_atoms=True)
    return name, crystal


def _pair(path: Path, crystal: Atoms) -> ExpertPair:
    pair = ExpertPair.load(path)
    for role in ("hf", "lf"):
        if role not in pair.experts:
            raise InputError(f"{path}: has no expert {role}; a validation compares two")
        unknown = sorted(set(crystal.symbols) - set(pair.experts[role].species))
        if unknown:
            known = ", ".join(pair.experts[role].species)
            raise InputError(f"crystal: {unknown[0]} is unknown to {role} of {path} ({known})")
    return pair


def case_of(config: ValidateConfig, path: Path) -> Case:
    """A pair and what it is asked; all that can be refused unmeasured is refused here.

    Raises:
        InputError: the pair, the crystal or the structure cannot be used.
    """
    name, crystal = _crystal(config)
    return _case(config, name, crystal, _pair(path, crystal))


def _case(config: ValidateConfig, name: str, crystal: Atoms, pair: ExpertPair) -> Case:
    atoms = config.structure.read(pair.species)
    weights = np.asarray(config.regions.weights(atoms))
    require_both(weights, "regions", config.structure.file.name)
    subject = Subject(pair)
    case = Case(config, subject, crystal, name, atoms)
    check_seam(case)
    check_vacancy(case)
    phonons.check(case)
    for of_whom in (weights, np.ones(len(atoms))):
        subject.potential(atoms, of_whom)
    surface.check(case)
    return case


def _write(folder: Path, report: dict[str, Any]) -> None:
    try:
        atomic_write(folder / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
        atomic_write(folder / PAGE, markdown(report))
        for name, png in draw_pictures(report).items():
            atomic_write(folder / name, png)
    except OSError as error:
        raise InputError(f"output.dir: {folder}: cannot be written: {error.strerror}") from error
