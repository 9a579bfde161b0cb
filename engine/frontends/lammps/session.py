"""A LAMMPS with the pair style in it, on all ranks, from start to end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duetto.errors import InputError, RunStopped
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.frontends.lammps.callback import Callbacks, install
from duetto.frontends.lammps.data_file import data_file
from duetto.frontends.lammps.deck import DATA, DECK, EXPERTS, Plan, full_deck
from duetto.frontends.lammps.library import ends_all_ranks, open_lammps, require_one_world
from duetto.frontends.lammps.system import System


@dataclass(frozen=True)
class Session:
    """LAMMPS on this rank.

    Attributes:
        instance: LAMMPS's own Python object.
        callbacks: the pair style's Python half.
        rank: this one's number.
        n_ranks: how many there are.
    """

    instance: Any
    callbacks: Callbacks
    rank: int
    n_ranks: int


@contextmanager
def session(arguments: Sequence[str]) -> Iterator[Session]:
    """Start LAMMPS with its command-line `arguments`, and end it, on every rank.

    An error on one rank ends all of them: it is told once, and no rank waits for another.

    Raises:
        InputError: LAMMPS or the pair style cannot be had, or the pair style refuses its input.
        RunStopped: LAMMPS stopped with an error.
    """
    with ends_all_ranks():
        instance = open_lammps(arguments)
        callbacks = install(instance)
        rank, size = (
            int(instance.extract_setting(f"universe_{word}")) for word in ("rank", "size")
        )
        require_one_world(size)
        try:
            yield Session(instance, callbacks, rank, size)
        except Exception as error:
            if not _is_lammps_error(error):
                raise
            text = f"LAMMPS: {' '.join(str(error).strip(chr(39)).split())}"
            if isinstance(callbacks.failure, InputError):
                raise InputError(text) from error
            raise RunStopped(text) from error
        instance.close()
        instance.finalize()


def _is_lammps_error(error: Exception) -> bool:
    """LAMMPS raises its errors as plain exceptions, and as one of its own."""
    return type(error) is Exception or type(error).__name__ == "MPIAbortException"


def write_inputs(
    system: System, plan: Plan, folder: Path, title: str, pair: ExpertPair | None = None
) -> None:
    """Write the data file and the deck of a run, each whole or not at all.

    Experts that a configuration names one by one become a pair file beside them: `pair` where
    `plan` has it.

    Raises:
        InputError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / DATA, data_file(system, title))
        atomic_write(folder / DECK, full_deck(system, plan, folder, title))
        if pair is not None and plan.pair.name == EXPERTS:
            pair.save(plan.pair)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}") from error


@contextmanager
def scratch_inputs(
    lammps: Session, system: System, plan: Plan, parent: Path, pair: ExpertPair
) -> Iterator[Path]:
    """A folder with a run's inputs that all ranks see, for as long as it is needed.

    LAMMPS looks for a data file on every rank, so it lies where the run's output would.
    """
    folder, made = parent / "lammps-check", not parent.exists()
    if lammps.rank == 0:
        write_inputs(system, plan, folder, "check", pair)
    lammps.callbacks.wait_for_all()
    yield folder
    lammps.callbacks.wait_for_all()
    if lammps.rank == 0:
        shutil.rmtree(folder)
        if plan.pair.name == EXPERTS:
            plan.pair.unlink()
        if made:
            parent.rmdir()
