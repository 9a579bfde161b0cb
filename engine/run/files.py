"""The files of a run: thermo table, trajectory and checkpoint, always in step with each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duetto.errors import InputError
from duetto.files import atomic_write
from duetto.md.state import State
from duetto.run.append import AppendedFile, OutputStopped
from duetto.run.checkpoint import save_checkpoint
from duetto.run.folder import CHECKPOINT, SUMMARY, THERMO, TRAJECTORY
from duetto.run.thermo import HEADER, thermo_row
from duetto.run.trajectory import DEFAULT_FIELDS, Field, format_frame


class RunFiles:
    """Writes what a run leaves behind.

    A checkpoint holds the sizes of the other two files. Resuming cuts them back to those sizes,
    so that nothing is missing and nothing is there twice.
    """

    def __init__(
        self,
        folder: Path,
        *,
        thermo_every: int = 10,
        trajectory_every: int = 100,
        checkpoint_every: int = 1000,
        trajectory_fields: Sequence[Field] = DEFAULT_FIELDS,
        sizes: dict[str, int] | None = None,
    ) -> None:
        """Open the files in `folder`, made if missing.

        Args:
            folder: where the files are.
            thermo_every: steps between two rows of the table.
            trajectory_every: steps between two frames; 0: none.
            checkpoint_every: steps between two checkpoints; 0: none on its own.
            trajectory_fields: columns of the trajectory.
            sizes: bytes of thermo table and trajectory by a checkpoint, to which they are cut
                back; None leaves them as they are until `begin`.

        Raises:
            InputError: a file cannot be opened, or does not fit the checkpoint.
        """
        self.folder = folder
        self.thermo_every = thermo_every
        self.trajectory_every = trajectory_every
        self.checkpoint_every = checkpoint_every
        self.trajectory_fields = tuple(trajectory_fields)
        self.last_checkpoint: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
        self._thermo = AppendedFile(folder / THERMO, (sizes or {}).get(THERMO))
        try:
            self._trajectory = AppendedFile(folder / TRAJECTORY, (sizes or {}).get(TRAJECTORY))
        except InputError:
            self._thermo.close()
            raise

    def begin(self, state: State, record: dict[str, Any] | None = None) -> None:
        """Replace what an earlier run has left by the start of this one, and record `state`.

        Its checkpoint is safe before anything of the earlier run is touched, and counts no byte
        of the other files: a run killed at any instant leaves the earlier run or can be resumed.

        Args:
            state: the first.
            record: of the checkpoint; None writes none.

        Raises:
            OutputStopped: a file cannot be written.
        """
        if record is None:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        else:
            self._save(state, record, {THERMO: 0, TRAJECTORY: 0})
        (self.folder / SUMMARY).unlink(missing_ok=True)
        try:
            self._trajectory.clear()
            self._thermo.clear()
            self._thermo.write(HEADER)
        except OutputStopped as error:
            raise self._explained(error) from error
        self.record(state)

    def record(self, state: State) -> None:
        """Append what is due at this step.

        Raises:
            OutputStopped: a file cannot be written.
        """
        try:
            if state.step % self.thermo_every == 0:
                self._thermo.write(thermo_row(state))
            if self.trajectory_every and state.step % self.trajectory_every == 0:
                self._trajectory.write(format_frame(state, self.trajectory_fields))
        except OutputStopped as error:
            raise self._explained(error) from error

    def end(self, state: State) -> None:
        """Append the frame of the last step, where it is not due anyway.

        It comes after the last checkpoint, which does not count it: a run that is made longer
        goes on without it.

        Raises:
            OutputStopped: the file cannot be written.
        """
        if self.trajectory_every and state.step % self.trajectory_every:
            try:
                self._trajectory.write(format_frame(state, self.trajectory_fields))
            except OutputStopped as error:
                raise self._explained(error) from error

    def checkpoint_due(self, state: State) -> bool:
        """Whether a checkpoint is to be written at this step."""
        return self.checkpoint_every > 0 and state.step % self.checkpoint_every == 0

    def checkpoint(self, state: State, record: dict[str, Any]) -> None:
        """Write a checkpoint of `state`, whose output has been recorded, with plain JSON `record`.

        Raises:
            OutputStopped: a file cannot be written; the checkpoint before is whole.
        """
        try:
            sizes = {THERMO: self._thermo.sync(), TRAJECTORY: self._trajectory.sync()}
        except OutputStopped as error:
            raise self._explained(error) from error
        self._save(state, record, sizes)

    def summary(self, text: str) -> None:
        """Write the summary.

        Raises:
            OutputStopped: the file cannot be written.
        """
        try:
            atomic_write(self.folder / SUMMARY, text)
        except OSError as error:
            path = self.folder / SUMMARY
            raise self._explained(
                OutputStopped(f"cannot write {path}: {error.strerror}")
            ) from error

    def close(self) -> None:
        """Close the files."""
        self._thermo.close()
        self._trajectory.close()

    def _save(self, state: State, record: dict[str, Any], sizes: dict[str, int]) -> None:
        try:
            save_checkpoint(self.folder / CHECKPOINT, state, {**record, "sizes": sizes})
        except OutputStopped as error:
            raise self._explained(error) from error
        self.last_checkpoint = state.step

    def _explained(self, error: OutputStopped) -> OutputStopped:
        if self.last_checkpoint is None:
            return OutputStopped(f"{error}; there is no checkpoint yet")
        return OutputStopped(
            f"{error}; the checkpoint of step {self.last_checkpoint} is whole: make room, then "
            "continue with --resume"
        )
