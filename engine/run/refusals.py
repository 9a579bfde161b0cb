"""What can be refused of a run before torch is imported, which takes seconds.

A run makes all of these checks itself; here they come before the wait.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from duetto.errors import InputError
from duetto.files import require_file
from duetto.run.config import RunConfig, load_config
from duetto.run.folder import CHECKPOINT, require_unused

MOST_BYTES = 4_000_000
"""A larger structure file is read only once, by the run: parsing takes longer than an import."""


def refuse_early(
    config_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse a configuration that cannot be run.

    Raises:
        InputError: the configuration, its folder, its pair file, its atoms or its regions cannot
            be used.
    """
    config = load_config(config_path, overrides)
    if resume:
        checkpoint = config.output.dir / CHECKPOINT
        if not checkpoint.is_file():
            raise InputError(
                f"{checkpoint}: there is no checkpoint to resume; run without --resume"
            )
        return
    if not overwrite:
        require_unused(config.output.dir)
    refuse_experts(config)
    refuse_atoms(config)


def refuse_experts(config: RunConfig) -> None:
    """Refuse experts whose files are not there.

    Raises:
        InputError: naming the file.
    """
    if config.pair is not None:
        require_file(config.pair, "pair file")
    for named in (config.experts.hf, config.experts.lf):
        for file in () if named is None else (named.file, named.eam):
            if file is not None:
                require_file(file, "file of an expert")


def refuse_atoms(config: RunConfig) -> None:
    """Refuse atoms that the pair does not know or that the regions do not fit.

    Raises:
        InputError: as reading and resolving them would.
    """
    from duetto.partition.update import start_weights

    structure = config.structure
    if structure.file.is_file() and structure.file.stat().st_size > MOST_BYTES:
        return
    atoms = structure.read(_species_of_pair(config))
    start_weights(config.regions, atoms)


def _species_of_pair(config: RunConfig) -> Any:
    """What the pair file knows; None where other experts are named, which are slow to ask."""
    from duetto.files import read_header

    if config.pair is None or config.experts.hf is not None or config.experts.lf is not None:
        return None
    return read_header(config.pair).get("species")
