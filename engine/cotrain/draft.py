"""Writes a co-training in a page, and a run to go with it, for a user's files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

import numpy as np
import yaml

from duetto.atoms.labels import LabelKeys, has_labels, read_frames
from duetto.cotrain.config import load_train_config
from duetto.cotrain.expansion import data_section
from duetto.cotrain.look import SetCounts, look_at
from duetto.cotrain.sizing import Sizes, sizes
from duetto.cotrain.survey import Survey, shell_gaps, survey
from duetto.errors import InputError
from duetto.files import atomic_write

COTRAIN, RUN = "cotrain.yaml", "run.yaml"
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Files:
    """The user's files.

    Attributes:
        labelled: with energies and forces.
        bulk: of bulk, with labels or without.
        validation, test: labelled, kept apart.
    """

    labelled: tuple[Path, ...]
    bulk: tuple[Path, ...] = ()
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Draft:
    """What was found, decided and written.

    Attributes:
        survey: what the files hold.
        sizes: what the configuration is sized to.
        counts: frames of every set.
        written: the files.
    """

    survey: Survey
    sizes: Sizes
    counts: tuple[SetCounts, ...]
    written: tuple[Path, ...]


def draft(
    species: Sequence[str],
    files: Files,
    folder: Path,
    keys: LabelKeys | None = None,
    *,
    overwrite: bool = False,
) -> Draft:
    """Write cotrain.yaml and run.yaml into a folder, sized to the files, and check both.

    Raises:
        InputError: a file, a frame or a label cannot be used, or a file is there already.
    """
    targets = (folder / COTRAIN, folder / RUN)
    for target in targets:
        if target.exists() and not overwrite:
            raise InputError(f"{target}: exists; replace it with --overwrite, or set another -o")
    found = survey(files.labelled, files.bulk, species, keys)
    labelled = found.labelled
    kept = labelled if files.validation else labelled - round(VALIDATION_SHARE * labelled)
    chosen = sizes(kept, shell_gaps(found.calmest))
    run = _run_text(species, files, folder, found, chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(targets[0], _cotrain_text(species, files, folder, found, chosen))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    counts = look_at(data_section(load_train_config(targets[0])))
    atomic_write(targets[1], run)
    return Draft(found, chosen, tuple(counts), targets)


def _cotrain_text(
    species: Sequence[str], files: Files, folder: Path, found: Survey, chosen: Sizes
) -> str:
    labelled_bulk = [k.name for k in found.kinds if k.name in found.bulk and k.labelled]
    if not labelled_bulk:
        raise InputError(
            "none of the bulk frames has labels, and the low-fidelity expert learns from those; "
            "label some of them"
        )
    with_labels = [*files.labelled, *(path for path in files.bulk if _labelled(path, found))]
    without = [path for path in files.bulk if path not in with_labels]
    patterns = _patterns(labelled_bulk, [k.name for k in found.kinds if k.name not in found.bulk])
    data = {"labelled": _listed(dict.fromkeys(with_labels), folder)}
    if without:
        data["unlabelled"] = _listed(without, folder)
    data["validation"] = (
        _listed(files.validation, folder)
        if files.validation
        else f"{VALIDATION_SHARE}         # of the labelled frames: the last of each config_type"
    )
    if files.test:
        data["test"] = _listed(files.test, folder)
    if found.keys.to_dict():
        data["keys"] = _flow(found.keys.to_dict())
    hf, lf = chosen.hf_features, chosen.lf_features
    lines = [
        f"# Co-training of a pair for {' and '.join(species)} on {found.labelled} labelled frames.",
        "#",
        f"#     duetto train {folder / COTRAIN}",
        f"#     duetto pack {folder / 'training' / 'best.ckpt'} -o {folder / 'pair.duetto'}",
        "",
        f"species: {_flow(list(species))}",
        "output: training           # folder of checkpoints and logs",
        "",
        "data:",
        *(f"  {key}: {value}" for key, value in data.items()),
        "",
        "# Which frames, by config_type, train which expert: LF learns the bulk alone.",
        "fits:",
        "  hf: all",
        f"  lf: {_flow(patterns)}",
        "",
        "# Where the experts are to agree; strengths as in the shipped pair.",
        "agreement:",
        f"  frames: {_flow(patterns)}",
        "  energy: 2.0              # λ_E, 1/eV²",
        "  forces: 0.03             # λ_F, Å²/eV²",
        f"  warmup_epochs: {chosen.warmup_epochs}",
        "",
        "# Cutoffs in Å, between shells of the bulk.",
        f"hf: {{cutoff: {chosen.hf_cutoff}, l_max: 2, layers: {chosen.hf_layers}, "
        f"scalars: {hf[0]}, tensors: {hf[1]}}}",
        f"lf: {{cutoff: {chosen.lf_cutoff}, l_max: 1, layers: 1, "
        f"scalars: {lf[0]}, tensors: {lf[1]}}}",
        "",
        f"epochs: {chosen.epochs}",
        f"batch_size: {chosen.batch_size}",
        "learning_rate: 0.004       # falls to a four-hundredth along a cosine",
        "seed: 1",
    ]
    return "\n".join(lines) + "\n"


def _run_text(
    species: Sequence[str], files: Files, folder: Path, found: Survey, chosen: Sizes
) -> str:
    path, frame = _start(files, found)
    guests = [symbol for symbol in species if symbol not in found.host]
    if guests:
        reach = round(chosen.hf_cutoff + 0.5, 1)
        what = _flow(guests)
        regions = [
            "  complex:                  # everything else is simple",
            f"    within: {{distance: {reach}, of: {{species: {what}}}}}",
        ]
    else:
        regions = [
            "  complex: all              # say which atoms; see the page on regions",
        ]
    light = "H" in species
    return (
        "\n".join(
            [
                f"# Molecular dynamics with the pair of {COTRAIN}:",
                "#",
                f"#     duetto run {folder / RUN}",
                "",
                "structure:                  # one of the labelled frames: put your own here",
                f"  file: {_relative(path, folder)}",
                f"  frame: {frame}",
                "pair: pair.duetto",
                "regions:",
                *regions,
                f"timestep_fs: {0.5 if light else 1.0}"
                + ("            # hydrogen is light" if light else ""),
                "initial_temperature_K: 300",
                "stages:",
                "  - {ensemble: langevin, steps: 1000, temperature_K: 300}",
                "  - {ensemble: nve, steps: 1000}",
                "output: {dir: run}",
            ]
        )
        + "\n"
    )


def _start(files: Files, found: Survey) -> tuple[Path, int]:
    """The frame to start dynamics from: of those with the most species, the one least disturbed."""
    best: tuple[float, float] | None = None
    chosen = (files.labelled[0], 0)
    for path in files.labelled:
        for number, atoms in enumerate(read_frames(path)):
            forces = getattr(atoms.calc, "results", {}).get(found.keys.forces)
            forces = atoms.arrays.get(found.keys.forces) if forces is None else forces
            strength = np.inf if forces is None else float(np.abs(forces).max())
            score = (-len(set(atoms.symbols)), strength)
            if best is None or score < best:
                best, chosen = score, (path, number)
    return chosen


def _labelled(path: Path, found: Survey) -> bool:
    return has_labels(read_frames(path)[0], found.keys)


def _patterns(wanted: Sequence[str], others: Sequence[str]) -> list[str]:
    """One pattern for all the names where it fits none of the others, else the names."""
    start = "".join(
        letters[0] for letters in takewhile(lambda s: len(set(s)) == 1, zip(*wanted, strict=False))
    )
    pattern = f"{start}*"
    if len(wanted) > 1 and start and not any(fnmatchcase(name, pattern) for name in others):
        return [pattern]
    return list(wanted)


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.absolute(), folder.absolute())


def _listed(paths: Iterable[Path], folder: Path) -> str:
    return _flow([_relative(path, folder) for path in paths])


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).strip()
