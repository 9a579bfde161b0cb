"""What to measure, on what, and what is ready to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair

Array = NDArray
Say = Callable[[str], object]
Step = Callable[[], object]

ENGINES = ("mixture", "full_hf", "full_lf", "nequip_eager", "nequip_aoti")
INTERFACES = ("model", "ase", "torch_sim")


@dataclass(frozen=True)
class Case:
    """A structure and the partitions to measure on it.

    Attributes:
        system: its name.
        atoms: the structure.
        partitions: weights (A,) of each mixture.
    """

    system: str
    atoms: Atoms
    partitions: Sequence[Array]


@dataclass(frozen=True)
class BenchSettings:
    """What to measure and how.

    Attributes:
        pair: the experts.
        architecture, lf_architecture: what to call them.
        engines, interfaces: names out of `ENGINES` and `INTERFACES`.
        device, dtype, backend: as `duetto.potential.mixture.Potential` takes them.
        rounds: how often everything is timed, in turns.
        nequip_max_atoms: nequip is not run on larger structures; it needs 30 to 100 kB per edge.
        memory: measure the mixtures' peak memory too, in processes of their own.
        allocator: what the process does with freed memory, see `duetto.measure.bench.allocator`.
        aoti_cache: folder of nequip's compiled models; default: in the user's cache folder.
    """

    pair: ExpertPair
    architecture: str
    lf_architecture: str | None
    engines: Sequence[str] = ENGINES
    interfaces: Sequence[str] = ("model",)
    device: str = "cpu"
    dtype: str = "float32"
    backend: str = "auto"
    rounds: int = 7
    nequip_max_atoms: int = 1200
    memory: bool = False
    allocator: str = "system"
    aoti_cache: Path | None = None

    def __post_init__(self) -> None:
        """Refuse unknown names, and a pair without what everything is compared with."""
        for name, given, allowed in (
            ("engine", self.engines, ENGINES),
            ("interface", self.interfaces, INTERFACES),
        ):
            for word in given:
                if word not in allowed:
                    raise InputError(f"{name} {word!r}: use one of {', '.join(allowed)}")
        if self.rounds < 1:
            raise InputError(f"{self.rounds} rounds: use at least 1")
        if self.pair.hf is None:
            raise InputError("the pair lacks the expert hf, with which everything is compared")


@dataclass(frozen=True)
class Candidate:
    """One engine on one structure through one interface, checked and ready to be timed.

    Attributes:
        engine, interface, backend: what it is.
        n_edges: pairs that it evaluates.
        edges_by_role: the same by expert.
        step: one evaluation.
        force_error: what the check found.
        checked_against: the independent evaluation it was compared with.
        lists: ways to build its neighbour list apart from the step; the fastest counts.
        weights: (A,) of the mixture; None for nequip.
    """

    engine: str
    interface: str
    backend: str
    edges_by_role: Mapping[str, int]
    step: Step
    force_error: float
    checked_against: str
    lists: Mapping[str, Step] = field(default_factory=dict)
    weights: Array | None = None

    @property
    def n_edges(self) -> int:
        """Pairs that it evaluates."""
        return sum(self.edges_by_role.values())

    @property
    def complex_fraction(self) -> float:
        """Share of the atoms that the HF expert computes."""
        return 1.0 if self.weights is None else float((self.weights > 0.0).mean())
