"""What a run leaves in its folder, by name."""

from __future__ import annotations

from pathlib import Path

from duetto.errors import InputError

THERMO = "thermo.csv"
TRAJECTORY = "trajectory.xyz"
CHECKPOINT = "checkpoint.safetensors"
SUMMARY = "summary.json"


def require_unused(folder: Path) -> None:
    """Refuse a folder that holds a run. Empty files are none: a run was killed before it began.

    Raises:
        InputError: naming the first file that would be overwritten.
    """
    for name in (CHECKPOINT, THERMO, TRAJECTORY, SUMMARY):
        path = folder / name
        if path.exists() and path.stat().st_size > 0:
            raise InputError(
                f"{path}: exists; continue that run with --resume, replace it with "
                "--overwrite, or set another output.dir"
            )
