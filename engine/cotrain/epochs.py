"""One line per epoch: errors, agreement, time left."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.callbacks import Callback

_PREFIX = "val0_epoch/"


class EpochLines(Callback):
    """Prints what the first validation set says after each epoch of a training."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._first_epoch = 0
        self._best = float("inf")

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Start the clock with the first epoch of this process."""
        if self._began is None:
            self._began = time.monotonic()
            self._first_epoch = trainer.current_epoch

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Print the line."""
        if trainer.sanity_checking or self._began is None or not trainer.is_global_zero:
            return
        numbers = {
            name.removeprefix(_PREFIX): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(_PREFIX)
        }
        done = trainer.current_epoch + 1
        spent = time.monotonic() - self._began
        left = spent / (done - self._first_epoch) * ((trainer.max_epochs or done) - done)
        best = numbers.get("loss", float("inf")) < self._best
        self._best = min(self._best, numbers.get("loss", float("inf")))
        line = epoch_line(done, trainer.max_epochs, numbers, left, best)
        bar = trainer.progress_bar_callback
        if bar is not None:
            bar.print(line)
        else:
            print(line, flush=True)


def epoch_line(
    epoch: int, epochs: int | None, numbers: dict[str, float], seconds_left: float, best: bool
) -> str:
    """Errors of both experts, how far they are apart, and the time left.

    Args:
        epoch, epochs: which one, counted from 1, of how many.
        numbers: of the validation set, in eV and eV/Å, as the training module logs them.
        seconds_left: until the last epoch.
        best: whether the loss is the lowest so far; marked by a star.
    """
    width = len(str(epochs or epoch))
    parts = [f"epoch {epoch:>{width}}/{epochs}"]
    for role, title in (("hf", "HF"), ("lf", "LF"), ("agreement", "HF − LF")):
        forces = numbers.get(f"{role}_forces_rmse")
        energy = numbers.get(
            f"{role}_energy_rmse" if role == "agreement" else f"{role}_per_atom_energy_rmse"
        )
        if forces is not None and energy is not None:
            parts.append(f"{title} {1e3 * forces:.1f} meV/Å {1e3 * energy:.2f} meV")
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3g}{'*' if best else ''}")
    parts.append("done" if seconds_left <= 0 else f"{duration(seconds_left)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
