"""Resolving a partition again while the atoms move: seeds, averages, hysteresis, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from duetto.atoms.periodic import Array
from duetto.partition.quantities import quantity
from duetto.partition.regions.combined import SEEDS
from duetto.partition.regions.moving import Update
from duetto.partition.regions.partition import Regions, followed


class Updating:
    """An updated partition at work.

    Attributes:
        words: every, average, ramp, seeds, enter, leave.
        stride: steps after which weights may change: those of an outer step where time is split.
        target: (A,) the weights that are being approached.
        inside: (A,) bool, seeds (with a quantity) or complex atoms (without) at present.
        average: (A,) the quantity averaged, or the share of the time inside the region.
        switches: (A,) int64, how often each atom has entered or left so far.
    """

    def __init__(self, regions: Regions, atoms: Atoms, stride: int = 1) -> None:
        """Prepare for `atoms`; `begin` or `load_state_dict` comes next."""
        assert regions.update is not None, "a partition that is not updated"
        self.words: Update = regions.update
        self.stride = stride
        self._regions = regions
        self._atoms = atoms.copy()
        self._atoms.calc = None
        A = len(atoms)
        self.average = np.full(A, np.nan)
        self.inside = np.zeros(A, dtype=bool)
        self.switches = np.zeros(A, dtype=np.int64)
        self.target = np.ones(A)

    @property
    def needs_potential(self) -> bool:
        """Whether the seeds can only be told by asking the experts."""
        seeds = self.words.seeds
        return seeds is not None and seeds.name in ("disagreement", "extrapolation")

    def begin(self, potential: Any = None) -> None:
        """Resolve the partition of the start at once, without ramp or hysteresis.

        Args:
            potential: for seeds that go by what the experts say; without it all atoms stay
                complex until there is one.

        Raises:
            InputError: the partition does not fit the structure.
        """
        if potential is not None or not self.needs_potential:
            self._observe(self._value(None, potential), first=True)

    def resolve(self, positions: Array, cell: Array, weights: Array, potential: Any) -> None:
        """Look at the atoms as they are, and set the target.

        Args:
            positions: (A, 3) Å.
            cell: (3, 3) Å.
            weights: (A,) at present.
            potential: for seeds that go by what the experts say.

        Raises:
            InputError: a term of the region does not fit the atoms any more.
        """
        self._atoms.positions = positions
        self._atoms.cell = cell
        self._observe(self._value(weights, potential), first=False)

    def towards(self, target: Array, weights: Array) -> Array:
        """The weights (A,), `stride` steps of the ramp nearer to the target (A,)."""
        step = self.stride / self.words.ramp
        ahead = weights + np.clip(target - weights, -step, step)
        # A ramp of n steps ends after n steps, whatever sums of 1/n are.
        return np.where(np.abs(target - ahead) < 1e-9, target, ahead)

    def state_dict(self) -> dict[str, Any]:
        """Arrays from which `load_state_dict` resumes; not to be written to."""
        return {
            "average": self.average,
            "inside": self.inside,
            "switches": self.switches,
            "target": self.target,
            "array": self._constant(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called."""
        self.average = np.asarray(state["average"], dtype=np.float64)
        self.inside = np.asarray(state["inside"], dtype=bool)
        self.switches = np.asarray(state["switches"], dtype=np.int64)
        self.target = np.asarray(state["target"], dtype=np.float64)
        if state["array"] is not None and self.words.seeds is not None:
            self._atoms.arrays[self.words.seeds.settings["name"]] = np.asarray(state["array"])

    def _constant(self) -> Array | None:
        """The structure's own array that seeds go by: its file may be gone at the next start."""
        seeds = self.words.seeds
        if seeds is None or seeds.name != "array":
            return None
        return np.asarray(self._atoms.arrays[seeds.settings["name"]], dtype=np.float64)

    def _value(self, weights: Array | None, potential: Any) -> Array:
        """What is averaged, at present, (A,); NaN where nobody knows."""
        if self.words.seeds is not None:
            return quantity(self.words.seeds, self._atoms, weights, potential)
        return self._regions.complex.select(self._atoms).astype(np.float64)

    def _observe(self, value: Array, *, first: bool) -> None:
        self._mix(value)
        words = self.words
        with np.errstate(invalid="ignore"):
            held = words.leave if not first else words.enter
            now = words.enter.hold(self.average) | (self.inside & held.hold(self.average))
        if not first:
            self.switches = self.switches + (now != self.inside)
        self.inside = now
        self.target = self._weights()

    def _mix(self, value: Array) -> None:
        """Average in time; where nothing was known before, or is known now, there is no mixing."""
        words = self.words
        share = min(words.every / words.average, 1.0) if words.average else 1.0
        with np.errstate(invalid="ignore"):  # ∞ less ∞, as good as not known
            mixed = self.average + share * (value - self.average)
        self.average = np.where(np.isfinite(mixed), mixed, value)

    def _weights(self) -> Array:
        if self.words.seeds is None:
            inside = self.inside
        else:
            self._atoms.arrays[SEEDS] = self.inside
            inside = self._regions.complex.select(self._atoms)
        if self._regions.blend is None:
            return inside.astype(np.float64)
        return self._regions.blend.weights(inside, self._atoms)


def start_weights(regions: Regions, atoms: Atoms) -> Array:
    """The weights (A,) that a run starts with, whether they move or not.

    Where seeds go by what the experts say, which only a run knows, all are 1.

    Raises:
        InputError: the partition does not fit the structure.
    """
    if regions.update is not None:
        updating = Updating(regions, atoms)
        updating.begin()
        return updating.target
    weights = regions.static_weights(atoms)
    if regions.follow is None:
        return weights
    seeds = regions.follow.select(atoms)
    weights[seeds] = 1.0
    return followed(weights, atoms.positions[seeds], regions.follow, atoms)
