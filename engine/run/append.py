"""Text files that grow at their end and can be cut back to a checkpoint."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from duetto.errors import InputError, RunStopped


class OutputStopped(RunStopped):
    """Output could not be written: the files end where the last checkpoint says."""


class AppendedFile:
    """A file of one run. Each text is handed to the system at once, so a killed run keeps it.

    The file is locked: two runs cannot write to it together.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Open `path`, made if missing, and cut it back to `size` bytes; None leaves it whole.

        Raises:
            InputError: another run has the file open, it is shorter than `size`, or it cannot
                be opened.
        """
        self.path = path
        try:
            self._stream = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            self._lock()
            found = self._stream.seek(0, os.SEEK_END)
            if size is not None and found < size:
                raise InputError(
                    f"{path}: has {found} bytes, but the checkpoint counts {size}; the file was "
                    "changed, so the run cannot be resumed"
                )
            if size is not None:
                self._stream.truncate(size)
        except OSError as error:
            self._stream.close()
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        except InputError:
            self._stream.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{self.path}: another run is writing to it") from error
        except OSError:
            # Some network file systems have no locks; then the user has to take care.
            return

    def clear(self) -> None:
        """Cut the file back to nothing.

        Raises:
            OutputStopped: it cannot be written.
        """
        try:
            self._stream.truncate(0)
        except OSError as error:
            raise OutputStopped(f"cannot write {self.path}: {error.strerror}") from error

    def write(self, text: str) -> None:
        """Append `text`.

        Raises:
            OutputStopped: the disk is full or the file cannot be written.
        """
        data = memoryview(text.encode())
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise OutputStopped(f"cannot write {self.path}: {error.strerror}") from error

    def sync(self) -> int:
        """Wait until all is on the disk; return the size in bytes.

        Raises:
            OutputStopped: the disk is full or the file cannot be written.
        """
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise OutputStopped(f"cannot write {self.path}: {error.strerror}") from error
        return self._stream.tell()

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._stream.close()
