"""The mixture as an ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from pydantic import PlainValidator
from torch import Tensor

from duetto.atoms.describe import name_in
from duetto.atoms.structure import check_atoms
from duetto.environment import choose_device
from duetto.errors import InputError, RunStopped
from duetto.experts.pair import ExpertPair
from duetto.partition.regions import Partition, Regions
from duetto.partition.sentry import Sentry, read_guard
from duetto.potential.base import Evaluation
from duetto.potential.choice import (
    BACKENDS,
    DTYPES,
    PRECISIONS,
    choose_backend,
    precision_of,
)
from duetto.potential.mixture import Potential
from duetto.potential.turns import Turns
from duetto.settings.fields import Section, number, one_of
from duetto.settings.read import read
from duetto.settings.values import Place, suggestion

_ARGUMENTS = (
    "pair",
    "regions",
    "partition",
    "guard",
    "device",
    "dtype",
    "backend",
    "precision",
    "skin",
    "self_check",
    "label",
    "atoms",
    "directory",
)


class DuettoCalculator(Calculator):
    """ASE calculator of an expert pair.

    The partition stays as it is while positions and cell change: that is what makes the forces a
    gradient and energies comparable. Give `partition`, made once from all the structures that are
    to be compared, or `regions`, which are resolved on the first structure that the calculator
    meets with these atoms (number, species in order, periodicity), until `repartition`.

    Each time the neighbour list is new the structure is checked as at the start of a run, and the
    guard looks whether the partition still holds for it. Threads may share a calculator; copies
    and pickles of one compute what it computes, to the last bit.

    Attributes:
        potential: of the last structure; None before.
    """

    name = "duetto"
    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        pair: ExpertPair | str | os.PathLike[str],
        regions: Regions | Mapping[str, Any] | str | None = None,
        *,
        partition: Partition | None = None,
        guard: str | Mapping[str, Any] = "error",
        device: str = "auto",
        dtype: str = "float32",
        backend: str = "auto",
        precision: str = "auto",
        skin: float = 0.5,
        self_check: bool = True,
        label: str | None = None,
        atoms: Atoms | None = None,
        directory: str | os.PathLike[str] = ".",
        **unknown: Any,
    ) -> None:
        """Read the arguments; nothing is computed yet.

        Args:
            pair: the experts, or the path of a pair file.
            regions: which atoms are high fidelity: `Regions`, the same as a mapping, or a word,
                `all` or `none`. Without regions and partition all of them are (the low-fidelity
                expert computes all if the pair has no other).
            partition: the weights themselves, with the structures they are for; instead of
                `regions`.
            guard: what to do where the partition does not hold for a structure: `error`, `warn`
                (each atom once) or `off`; or a mapping with `policy`, `watched`, `shell` and
                `lost_distance`, as in a run's YAML.
            device: `auto` (CUDA if there is a device), `cpu`, `cuda` or `cuda:N`.
            dtype: of the network's arithmetic, `float32` or `float64`. Relaxations, NEB and MD
                need no more than float32; finite differences of forces do.
            backend: `auto`, or a backend by name.
            precision: of matrix products, see `Potential`.
            skin: Verlet skin, Å.
            self_check: compare the backend with the reference on the first structure.
            label: ASE's.
            atoms: gets this calculator.
            directory: ASE's.
            unknown: refused.

        Raises:
            InputError: an argument is unknown or out of range, the pair file cannot be used, or
                there is no such device.
        """
        if unknown:
            word = next(iter(unknown))
            raise InputError(
                f"DuettoCalculator: unknown argument {word!r}{suggestion(word, _ARGUMENTS)}; "
                f"allowed: {', '.join(_ARGUMENTS)}"
            )
        if regions is not None and partition is not None:
            raise InputError("DuettoCalculator: got regions and partition; allowed: one of them")
        self._pair = _read_pair(pair)
        self._regions = _read_regions(regions)
        self._partition = _read_partition(partition)
        self._guard = read_guard(guard)
        self._self_check = self_check
        self._settings = _settings(device, dtype, backend, precision, skin)
        self._systems: dict[Any, _System] = {}
        self._key: Any = None
        self.potential: Potential | None = None
        self._lock = Turns()
        super().__init__(label=label, atoms=atoms, directory=directory)
        self.parameters.update(self._settings)

    @property
    def pair(self) -> ExpertPair:
        """The experts."""
        return self._pair

    @property
    def regions(self) -> Regions | None:
        """The regions that were given."""
        return self._regions

    @property
    def partition(self) -> Partition | None:
        """The partition in use: the one given, or that of the last structure; None before it."""
        system = self._systems.get(self._key)
        return self._partition if system is None else system.partition

    def set(self, **changes: Any) -> dict[str, Any]:
        """Refuse: a changed setting would change the energy between two structures.

        Raises:
            InputError: there is a change.
        """
        if changes:
            raise InputError(
                f"DuettoCalculator: {', '.join(changes)} cannot be set afterwards; make another "
                "calculator"
            )
        return {}

    def repartition(self) -> None:
        """Resolve the regions anew on the next structure.

        Raises:
            InputError: the calculator was given a partition, which stays.
        """
        if self._partition is not None:
            raise InputError("repartition: the calculator was given a partition, which stays")
        with self._lock:
            self._systems.clear()
            self._key, self.potential = None, None
            self.reset()

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """See ASE. Whole or not at all: threads that share the calculator take turns."""
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all properties; stress only where the cell has a volume.

        Raises:
            InputError: the structure cannot be computed, or is not the partition's.
            RunStopped: the guard or the self-check stops, or the energy is not finite.
        """
        with self._lock:
            super().calculate(atoms, properties or ["energy"], system_changes)
            self.results = {}
            structure = self.atoms
            system = self._checked_system(structure)
            potential = self._ready_potential(system, structure)
            evaluation = potential.evaluate(*self._tensors(structure.positions, structure.cell))
            self.results = _results(evaluation, structure)

    def __getstate__(self) -> dict[str, Any]:
        """What makes an equal calculator elsewhere: all but compiled code, memory and locks."""
        with self._lock:
            state = self.__dict__ | {"potential": None}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Turns()

    def _checked_system(self, structure: Atoms) -> _System:
        """What is known of the structure's atoms, after a look at it if its list will be new."""
        key = None
        if self._partition is None:
            key = (structure.numbers.tobytes(), tuple(structure.pbc))
        system = self._systems.get(key)
        if key != self._key or system is None:
            self._key, self.potential = key, None
        elif system.holds_for(structure, self._settings["skin"]):
            return system
        check_atoms(structure, species=self._pair.species, constraints=True)
        if self._partition is not None:
            self._partition.require(structure)
        if system is None:
            system = self._systems[key] = self._new_system(structure)
        system.looked_at = None
        if system.sentry is not None:
            system.sentry.look(structure)
        system.looked_at = structure.positions.copy(), structure.cell.array.copy()
        return system

    def _new_system(self, structure: Atoms) -> _System:
        partition = self._partition
        if partition is None and self._regions is not None:
            partition = self._regions.partition(structure)
        elif partition is None:
            weight = 1.0 if self._pair.hf is not None else 0.0
            partition = Partition(np.full(len(structure), weight), (structure,))
        if self._guard is None or (partition.weights == 1).all():
            return _System(partition, None)
        first_met = self._partition is None
        return _System(partition, Sentry(self._guard, self._pair, partition, first_met=first_met))

    def _ready_potential(self, system: _System, structure: Atoms) -> Potential:
        """The potential of the atoms in use, made and checked at their first structure."""
        if self.potential is None:
            partition = system.partition
            potential = Potential(
                self._pair, partition.species, partition.weights, partition.pbc, **self._settings
            )
            # A copy goes on with the list of its original, so that no sum changes its order.
            if system.looked_at is not None:
                potential.rebuild(*self._tensors(*system.looked_at))
            if self._self_check and not system.self_checked:
                potential.self_check(*self._tensors(structure.positions, structure.cell))
                system.self_checked = True
            self.potential = potential
        return self.potential

    def _tensors(self, positions: Any, cell: Any) -> tuple[Tensor, Tensor]:
        """Positions (A, 3) and cell (3, 3), float64, on the device."""
        device = self._settings["device"]
        return (
            torch.tensor(np.asarray(positions), dtype=torch.float64, device=device),
            torch.tensor(np.asarray(cell), dtype=torch.float64, device=device),
        )


@dataclass
class _System:
    """One set of atoms that the calculator has met.

    Attributes:
        partition: its weights.
        sentry: looks whether they hold for a structure; None if there is nothing to look for.
        looked_at: positions and cell at the last look, which the neighbour list is built around;
            None where the last look found something.
        self_checked: whether the backend has been compared with the reference on these atoms.
    """

    partition: Partition
    sentry: Sentry | None
    looked_at: tuple[NDArray[Any], NDArray[Any]] | None = None
    self_checked: bool = False

    def holds_for(self, structure: Atoms, skin: float) -> bool:
        """Whether no atom has moved half the skin since the last look, in the same cell."""
        if self.looked_at is None or not np.array_equal(self.looked_at[1], structure.cell.array):
            return False
        steps = structure.positions - self.looked_at[0]
        return bool(np.einsum("ax,ax->a", steps, steps).max() < (skin / 2) ** 2)


def _results(evaluation: Evaluation, structure: Atoms) -> dict[str, Any]:
    """ASE's properties; RunStopped if one is not finite."""
    results: dict[str, Any] = {
        "energy": evaluation.energy,
        "free_energy": evaluation.energy,
        "energies": evaluation.energies.cpu().numpy(),
        "forces": evaluation.forces.cpu().numpy(),
    }
    for name in ("energies", "forces"):
        bad = np.flatnonzero(~np.isfinite(results[name].reshape(len(structure), -1)).all(axis=1))
        if len(bad):
            raise RunStopped(
                f"the {name} of {len(bad)} atoms are not finite, the first is "
                f"{name_in(structure, int(bad[0]))}; look for atoms too close together"
            )
    if structure.cell.rank == 3:
        stress = -evaluation.virial.cpu().numpy() / structure.get_volume()
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results


def _read_pair(pair: object) -> ExpertPair:
    if isinstance(pair, ExpertPair):
        return pair
    if isinstance(pair, (str, os.PathLike)):
        return ExpertPair.load(pair)
    raise Place("pair").refuse(pair, "an ExpertPair or the path of a pair file")


def _read_regions(regions: object) -> Regions | None:
    if regions is None or isinstance(regions, Regions):
        return regions
    if isinstance(regions, Partition):
        raise InputError("regions: got a Partition; give it as partition=")
    return Regions.from_dict({"complex": regions} if isinstance(regions, str) else regions)


def _settings(
    device: str, dtype: str, backend: str, precision: str, skin: object
) -> dict[str, Any]:
    """The potential's settings: what was left to choose chosen, and what cannot be had refused."""
    device = str(choose_device(device))
    given = {"dtype": dtype, "backend": backend, "precision": precision, "skin": skin}
    asked = read(_Settings, given)
    backend = choose_backend(asked.backend, device, asked.dtype)
    precision_of(asked.precision, backend, device, asked.dtype)
    return {**asked.model_dump(), "device": device, "backend": backend}


def _skin(value: Any) -> float:
    skin = number(value, limit=100.0)
    if skin < 0.0:
        raise ValueError("a number Å of 0 <= x <= 100")
    return skin


class _Settings(Section):
    dtype: Annotated[str, one_of(DTYPES)]
    backend: Annotated[str, one_of(BACKENDS)]
    precision: Annotated[str, one_of(PRECISIONS)]
    skin: Annotated[float, PlainValidator(_skin)]


def _read_partition(partition: object) -> Partition | None:
    if partition is None or isinstance(partition, Partition):
        return partition
    if isinstance(partition, Regions):
        raise InputError("partition: got Regions; give them as regions=")
    raise Place("partition").refuse(
        partition, "a Partition, such as regions.partition([first, second])"
    )
