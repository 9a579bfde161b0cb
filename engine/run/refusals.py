"""What can be refused of a run before torch is imported, which takes seconds.

A run makes all of these checks itself; here they come before the wait.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from duetto.errors import InputError
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
    if not config.pair.is_file():
        raise InputError(f"{config.pair}: no such pair file")
    refuse_atoms(config)


def refuse_atoms(config: RunConfig) -> None:
    """Refuse atoms that the pair does not know or that the regions do not fit.

    Raises:
        InputError: as reading and resolving them would.
    """
    from duetto.atoms.structure import read_structure
    from duetto.files import read_header

    structure = config.structure
    if structure.file.is_file() and structure.file.stat().st_size > MOST_BYTES:
        return
    atoms = read_structure(
        structure.file,
        frame=structure.frame,
        repeat=structure.repeat,
        species=read_header(config.pair).get("species"),
    )
    config.regions.weights(atoms)
