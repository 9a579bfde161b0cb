"""Batches with a fixed share of agreement frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from duetto.cotrain.datasets import CoTrainingDataset
from duetto.cotrain.labelled import unlabelled_per_batch


class MixedBatches(Sampler[list[int]]):
    """Batches of labelled frames in random order, each with some unlabelled ones.

    An epoch passes once over the labelled frames. The unlabelled ones are drawn in a random order
    of their own, again and again if there are too few for an epoch.
    """

    def __init__(
        self, labelled: int, unlabelled: int, per_batch: tuple[int, int], generator: torch.Generator
    ):
        self.labelled, self.unlabelled = labelled, unlabelled
        self.per_batch = per_batch if unlabelled > 0 else (sum(per_batch), 0)
        self.generator = generator

    def __len__(self) -> int:
        return -(-self.labelled // self.per_batch[0])

    def __iter__(self) -> Iterator[list[int]]:
        """One epoch; the last batch may have fewer labelled frames."""
        first, second = self.per_batch
        order = torch.randperm(self.labelled, generator=self.generator).tolist()
        extra: list[int] = []
        while len(extra) < second * len(self):
            permutation = torch.randperm(self.unlabelled, generator=self.generator)
            extra += (permutation + self.labelled).tolist()
        for k in range(len(self)):
            yield order[k * first : (k + 1) * first] + extra[k * second : (k + 1) * second]


class ResumableLoader(DataLoader):
    """A loader whose random order goes on where a checkpoint left off.

    Lightning keeps its state in checkpoints; without it a resumed training would pass through the
    frames in the order of its first epochs again.
    """

    def state_dict(self) -> dict[str, Any]:
        """State of the generator of the random order."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state; an empty one, from a checkpoint without it, changes nothing."""
        if "generator" in state:
            self.generator.set_state(state["generator"])


def mixed_loader(
    dataset: CoTrainingDataset,
    generator: torch.Generator,
    batch_size: int,
    agreement_fraction: float = 0.25,
    **options: Any,
) -> DataLoader:
    """A training loader, to be named as `_target_` of nequip's `train_dataloader`.

    Args:
        dataset: labelled and unlabelled frames.
        generator: of the random order.
        batch_size: frames per batch.
        agreement_fraction: share of unlabelled frames in a batch, rounded to whole frames; a
            batch keeps at least one labelled frame.
        options: further arguments of `torch.utils.data.DataLoader`.
    """
    unlabelled = unlabelled_per_batch(batch_size, agreement_fraction)
    labelled = getattr(dataset, "num_labelled", len(dataset))
    sampler = MixedBatches(
        labelled, len(dataset) - labelled, (batch_size - unlabelled, unlabelled), generator
    )
    options.pop("shuffle", None)
    return ResumableLoader(dataset, batch_sampler=sampler, generator=generator, **options)
