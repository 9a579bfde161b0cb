"""A callback that ends a training as Ctrl-C does."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import LearningRateMonitor


class InterruptAfter(LearningRateMonitor):
    """Takes the place of the configuration's monitor; KeyboardInterrupt after some steps."""

    def __init__(self, steps: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step >= self.steps:
            raise KeyboardInterrupt
