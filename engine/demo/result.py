"""What a demonstration has computed: what its report and pictures are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from duetto.demo.comparison import Comparison
from duetto.demo.dynamics import NVERecord
from duetto.demo.other import Other
from duetto.demo.timing import Speed
from duetto.md.state import State
from duetto.partition.regions import RegionCounts
from duetto.run.config import RunConfig
from duetto.run.pair_model import PairModel


@dataclass(frozen=True)
class Demonstration:
    """All that was computed: what the report and the pictures are made of."""

    config: RunConfig
    model: PairModel
    atoms: Atoms  # as read
    counts: RegionCounts
    final: State  # of the mixture's run
    mixture: NVERecord
    full_hf: NVERecord
    comparison: Comparison
    other: Other | None  # another LF under the same HF
    speed: Speed
    self_checks: dict[str, float]
    seconds: float

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Weights of the HF expert at the end of the mixture's run, (A,)."""
        return np.asarray(self.final.weights.cpu())
