"""How large experts, batches and schedules should be for so many frames.

The numbers are those of the shipped Pt+CO pair (1,167 labelled frames, 29,200 steps, a fifth of
them warm-up, cutoffs between shells), carried over to fewer frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEPS_PER_FRAME = 25
"""Of the shipped pair: 29,200 steps for 1,167 frames."""

FEWEST_STEPS, MOST_STEPS = 4000, 30000
WARMUP = 0.2

HF_RANGE, LF_RANGE = (4.6, 5.8), (3.4, 4.6)
"""Å in which a gap between shells is looked for."""


@dataclass(frozen=True)
class Sizes:
    """What a configuration is sized to.

    Attributes:
        hf_cutoff, lf_cutoff: Å.
        hf_layers: Allegro layers of HF.
        hf_features, lf_features: scalars and tensors.
        batch_size: frames.
        epochs, warmup_epochs: passes over the labelled frames.
    """

    hf_cutoff: float
    lf_cutoff: float
    hf_layers: int
    hf_features: tuple[int, int]
    lf_features: tuple[int, int]
    batch_size: int
    epochs: int
    warmup_epochs: int


def sizes(training_frames: int, gaps: Sequence[float]) -> Sizes:
    """Sizes for a number of labelled training frames and the gaps between the bulk's shells, Å."""
    batch = 2 if training_frames < 60 else 4 if training_frames < 600 else 6
    steps = min(max(STEPS_PER_FRAME * training_frames, FEWEST_STEPS), MOST_STEPS)
    epochs = max(1, round(steps * batch / training_frames))
    small = training_frames < 300
    return Sizes(
        hf_cutoff=cutoff(gaps, HF_RANGE),
        lf_cutoff=cutoff(gaps, LF_RANGE),
        hf_layers=1 if small else 2,
        hf_features=(16, 8) if small else (32, 16),
        lf_features=(16, 8) if small else (32, 16),
        batch_size=batch,
        epochs=epochs,
        warmup_epochs=round(WARMUP * epochs),
    )


def cutoff(gaps: Sequence[float], span: tuple[float, float]) -> float:
    """The gap nearest to the middle of a span, Å, else the middle itself."""
    middle = sum(span) / 2
    inside = [gap for gap in gaps if span[0] <= gap <= span[1]]
    nearest = min(inside, key=lambda gap: abs(gap - middle)) if inside else middle
    return round(nearest, 1)
