"""The mixture of the same HF with another LF, shown beside: what its forces are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from duetto.demo.comparison import Comparison, compare
from duetto.demo.dynamics import Snapshot
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.md.state import DrivingPotential
from duetto.run.config import RunConfig
from duetto.run.pair_model import PairModel
from duetto.run.prepare import Prepared


@dataclass(frozen=True)
class Other:
    """The other pair and its errors.

    Attributes:
        model: the pair.
        comparison: its mixture against full HF, on the snapshots of the mixture that ran.
    """

    model: PairModel
    comparison: Comparison

    @property
    def label(self) -> str:
        """The mixture, by the kind of its LF."""
        return f"mixture, {self.model.pair.experts['lf'].kind} LF"


def open_other(config: RunConfig, model: PairModel) -> PairModel:
    """The pair of `config`, whose HF has to be that of `model`.

    Raises:
        InputError: it is another, or there is no LF.
    """
    other = PairModel(config)
    if _hash_of_hf(model.pair) != _hash_of_hf(other.pair):
        raise InputError(
            f"{Path(config.pair_name).name}: its HF is not that of "
            f"{Path(model.config.pair_name).name}; two LF experts are compared under one HF"
        )
    if "lf" not in other.pair.experts:
        raise InputError(f"{Path(config.pair_name).name}: has no LF to compare")
    return other


def _hash_of_hf(pair: ExpertPair) -> str:
    """Equal for equal HF: a correction is HF together with its LF."""
    return pair.content_hash if pair.correction else ExpertPair(pair.hf, None).content_hash


def compare_other(
    start: Prepared,
    model: PairModel,
    snapshots: Sequence[Snapshot],
    full_hf: DrivingPotential,
    cell: Tensor,
) -> Other:
    """Evaluate the other mixture on the snapshots.

    Args:
        start: atoms and weights.
        model: the other pair.
        snapshots: of the mixture that ran; only their positions matter.
        full_hf: of the same atoms.
        cell: (3, 3) Å.
    """
    mixture, others = replace(start, model=model).potential(), []
    for snapshot in snapshots:
        found = mixture.evaluate(snapshot.positions, cell)
        others.append(Snapshot(snapshot.positions, found.forces, found.energy))
    return Other(model, compare(others, full_hf, cell))
