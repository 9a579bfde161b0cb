"""The pair that a run's configuration names, ready to become the potential of its atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duetto.environment import choose_device
from duetto.errors import InputError
from duetto.experts.pair import ROLES, ExpertPair
from duetto.md.state import State
from duetto.potential.choice import choose_backend
from duetto.potential.following import Following
from duetto.potential.kinds import following_kind, standing_kind
from duetto.potential.mixture import Potential
from duetto.potential.region_backend import RegionBackend
from duetto.run.config import ExpertConfig, RunConfig
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
        self.pair = open_pair(config)
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

    def potential(
        self,
        species: Sequence[str],
        weights: Any,
        pbc: Sequence[bool],
        following: Following | None = None,
    ) -> Potential:
        """The potential of atoms of `species` with `weights` (A,) and periodicity (3,).

        Args:
            species: (A,) chemical symbols.
            weights: (A,); where the partition follows atoms, those that do not move.
            pbc: (3,).
            following: what the weights follow.
        """
        settings: dict[str, Any] = {
            "device": str(self.device),
            "dtype": self.config.dtype,
            "backend": self.config.backend,
            "precision": self.config.precision,
            "skin": self.config.skin_A,
        }
        split = inner_steps(self.config) > 1
        if split:
            require_low_fidelity_everywhere(self.pair, species, self.config.pair_name)
            warn_beyond_measured(self.pair, self.config)
        kind: type[Potential] = standing_kind(split=split)
        if following is not None:
            name = choose_backend(self.config.backend, settings["device"], self.config.dtype)
            kind = following_kind(name, split=split)
            settings |= {"following": following, "backend": name}
        potential = kind(self.pair, species, weights, pbc, **settings)
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


def open_pair(config: RunConfig) -> ExpertPair:
    """The experts that a configuration names: those of its pair file, and those named alone.

    Raises:
        InputError: a file cannot be used, or a package is not there.
    """
    known = ExpertPair.load(config.pair) if config.pair is not None else None
    experts: dict[str, Any] = dict(known.experts) if known is not None else {}
    provenance = dict(known.provenance) if known is not None else {}
    for role in ROLES:
        named: ExpertConfig | None = getattr(config.experts, role)
        if named is not None:
            experts[role] = _open_expert(named)
            provenance[role] = named.model_dump(mode="json", exclude_none=True)
    correction = known is not None and known.correction and config.experts.hf is None
    if correction and config.experts.lf is not None:
        raise InputError(
            f"experts.lf: the hf of {config.pair_name} is a correction to the lf beside it, and to "
            "no other; name another pair, or experts.hf, too"
        )
    return ExpertPair(experts.get("hf"), experts.get("lf"), provenance, correction)


def _open_expert(named: ExpertConfig) -> Any:
    if named.eam is not None:
        from duetto.experts.eam.setfl import read_setfl

        return read_setfl(named.eam)
    from duetto.experts.torch_model import open_torch_expert

    file = named.version if named.file is None else str(named.file)
    return open_torch_expert(str(named.torch), file)


def cost_of_regions(potential: Any, state: State, steps: int) -> list[str]:
    """What experts that see beyond their neighbours evaluate and what that costs, in words."""
    backend = getattr(potential, "backend", None)
    if not isinstance(backend, RegionBackend):
        return []
    lines = []
    for role, share in backend.shares():
        expert: Any = backend.experts[role]
        seconds = share["seconds"]
        lines.append(
            f"expert {role}, {expert.name} {Path(expert.source).name}: its "
            f"{share['centres']} centres and all within {expert.receptive_field:g} Å of them are "
            f"{share['atoms']} of {state.n_atoms} atoms, in "
            + ("1 chunk; " if share["chunks"] == 1 else f"{share['chunks']} chunks; ")
            + f"{seconds:.2g} s a step, about {_duration(seconds * steps)} for {steps} steps"
        )
    return lines


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
