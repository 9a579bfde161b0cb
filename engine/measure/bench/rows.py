"""Rows of measurements: as a table for people, as JSON, and appended to a CSV file."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from duetto.environment import package_versions, processor_name, usable_cores
from duetto.errors import InputError
from duetto.files import atomic_write


@dataclass(frozen=True)
class Row:
    """One engine on one structure. Empty (None) is what was not measured or has no meaning.

    Attributes:
        system: name of the structure.
        architecture, lf_architecture: names or files of the experts.
        r_max, lf_r_max: their cutoffs, Å.
        n_atoms: atoms.
        n_edges: pairs within the cutoff that this engine evaluates, both directions counted.
        complex_fraction: share of the atoms that the HF expert computes.
        engine: mixture, full_hf, full_lf, nequip_eager or nequip_aoti.
        interface: `model` is the potential itself with a neighbour list that is still valid, on a
            device that takes whole steps one of those; `ase` and `torch_sim` are whole calls of the
            calculators, with whatever they do about lists.
        backend, device, dtype, threads: what computed it.
        step_ms_median, step_ms_min: one evaluation of energy, forces and virial.
        cpu_ms_min: processor time of the fastest round, all threads together: what is left of the
            wall time where the machine is busy; CPU only.
        us_per_edge: median time over edges.
        neighbor_list_ms: building the neighbour list, apart; of nequip's, the faster search.
        speedup_vs_nequip_best: nequip's best full-HF time per edge, through the same interface,
            times this structure's HF edges, over this row's median time.
        nequip_n_atoms: size of the structure on which nequip was timed for that.
        speedup_vs_full_hf: this engine's full-HF time over this row's.
        speedup_ideal: the same if every atom cost what it costs in the full runs of its experts.
        share_of_ideal: reached over ideal speed-up; of mixtures.
        memory_bytes_per_atom: growth of the process's peak memory, in a process of its own.
        force_error: largest error of a force over the largest force, against the independent
            evaluation named in `checked_against`.
        rounds: how many times it was timed, in turn with the others.
        allocator: `keep` or `system`, see `duetto.measure.bench.allocator`.
    """

    system: str
    architecture: str
    lf_architecture: str | None
    r_max: float
    lf_r_max: float | None
    n_atoms: int
    n_edges: int
    complex_fraction: float
    engine: str
    interface: str
    backend: str
    device: str
    dtype: str
    threads: int
    step_ms_median: float
    step_ms_min: float
    cpu_ms_min: float | None
    us_per_edge: float
    neighbor_list_ms: float | None
    speedup_vs_nequip_best: float | None
    nequip_n_atoms: int | None
    speedup_vs_full_hf: float | None
    speedup_ideal: float | None
    share_of_ideal: float | None
    memory_bytes_per_atom: float | None
    force_error: float
    checked_against: str
    rounds: int
    allocator: str = "system"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


_SHOWN = {
    "system": ("system", "s"),
    "n_atoms": ("atoms", "d"),
    "n_edges": ("edges", "d"),
    "complex_fraction": ("complex", ".3f"),
    "engine": ("engine", "s"),
    "interface": ("through", "s"),
    "step_ms_median": ("step ms", ".3f"),
    "step_ms_min": ("min ms", ".3f"),
    "cpu_ms_min": ("cpu ms", ".3f"),
    "us_per_edge": ("µs/edge", ".3f"),
    "neighbor_list_ms": ("list ms", ".2f"),
    "speedup_vs_nequip_best": ("× nequip", ".1f"),
    "speedup_vs_full_hf": ("× full HF", ".2f"),
    "share_of_ideal": ("of ideal", ".1%"),
    "memory_bytes_per_atom": ("B/atom", ".0f"),
    "force_error": ("ΔF/F", ".0e"),
}


def table(rows: Sequence[Row]) -> str:
    """The rows' main columns as text."""
    lines = [[title for title, _ in _SHOWN.values()]]
    for row in rows:
        values = {name: getattr(row, name) for name in _SHOWN}
        lines.append(
            [
                "-" if values[name] is None else format(values[name], form)
                for name, (_, form) in _SHOWN.items()
            ]
        )
    return aligned(lines)


def to_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list."""
    return json.dumps([row.to_dict() for row in rows], indent=1)


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of equal width; the first `left` to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def provenance() -> dict[str, str | int | None]:
    """Commit, versions, processor and date, as every recorded row carries them."""
    names = ("duetto", "torch", "numpy", "numba", "triton", "nequip", "nequip-allegro")
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "processor": processor_name(),
        "cores": usable_cores(),
        **package_versions(names),
    }


def _commit() -> str | None:
    """The commit this package was checked out at, `+` after it if files have changed since."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def append_csv(path: Path, rows: Sequence[Row]) -> None:
    """Add the rows with their provenance to a CSV file, which is made if it is missing.

    Raises:
        InputError: the file has other columns.
    """
    extra = provenance()
    columns = [field.name for field in fields(Row)] + list(extra)
    append_records(path, columns, [{**row.to_dict(), **extra} for row in rows])


def append_records(
    path: Path, columns: Sequence[str], records: Sequence[Mapping[str, object]]
) -> None:
    """Add records with these columns to a CSV file, which is made if it is missing.

    Raises:
        InputError: the file has other columns.
    """
    old = path.read_text() if path.is_file() else ""
    header = old.partition("\n")[0].strip()
    if header and header.split(",") != list(columns):
        raise InputError(f"{path}: has other columns than this version writes; use another file")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    if not header:
        writer.writeheader()
    writer.writerows(records)
    atomic_write(path, old + stream.getvalue())
