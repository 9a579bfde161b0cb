"""The pair that a run's configuration names, ready to become the potential of its atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duetto.environment import choose_device
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitPotential
from duetto.run.config import RunConfig
from duetto.run.multiple_timestep import (
    inner_steps,
    require_low_fidelity_everywhere,
    warn_beyond_measured,
)


class PairModel:
    """A pair file on the device and in the precision that a configuration asks for."""

    def __init__(self, config: RunConfig) -> None:
        """Load the pair.

        Raises:
            InputError: the pair file cannot be used, or there is no such device.
        """
        self.config = config
        self.device = choose_device(config.device)
        self.pair = ExpertPair.load(config.pair)
        self.backend: str = config.backend
        self.precision: str = config.precision

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that the pair knows."""
        return self.pair.species

    @property
    def content_hash(self) -> str:
        """Equal for equal potentials."""
        return self.pair.content_hash

    def potential(self, species: Sequence[str], weights: Any, pbc: Sequence[bool]) -> Potential:
        """The potential of atoms of `species` with `weights` (A,) and periodicity (3,)."""
        kind = Potential
        if inner_steps(self.config) > 1:
            require_low_fidelity_everywhere(self.pair, species, str(self.config.pair))
            warn_beyond_measured(self.pair, self.config)
            kind = SplitPotential
        potential = kind(
            self.pair,
            species,
            weights,
            pbc,
            device=str(self.device),
            dtype=self.config.dtype,
            backend=self.config.backend,
            precision=self.config.precision,
            skin=self.config.skin_A,
        )
        self.backend, self.precision = potential.backend.name, potential.precision
        return potential

    def describe(self) -> dict[str, str]:
        """Device, dtype, backend and the precision of matrix products."""
        return {
            "device": str(self.device),
            "dtype": self.config.dtype,
            "precision": self.precision,
            "backend": self.backend,
        }
