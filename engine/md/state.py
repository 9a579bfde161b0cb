"""The state of a molecular dynamics run, whole and explicit, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from duetto.errors import InputError, RunStopped
from duetto.md.velocities import maxwell_boltzmann
from duetto.potential.base import Evaluation

BOLTZMANN_EV_PER_K: float = units.kB
# A force of 1 eV/Å on 1 amu accelerates by this many Å/fs²; amu Å²/fs² over it is an energy in eV.
ACCELERATION: float = units.fs**2
GPA_PER_EV_PER_A3: float = 1.0 / units.GPa


class DrivingPotential(Protocol):
    """What molecular dynamics asks of a potential.

    Attributes:
        weights: (A,) weight of the high-fidelity expert per atom.
        n_rebuilds: how often the neighbour list has been built.
    """

    weights: Any
    n_rebuilds: int

    @property
    def takes_steps_on_device(self) -> bool:
        """Whether `duetto.md.device.DeviceStage` can advance its states."""

    def evaluate(self, positions: Tensor, cell: Tensor) -> Evaluation:
        """Energy, forces and virial at `positions` (A, 3) in `cell` (3, 3), Å.

        The tensors returned are not written to again: a state keeps them.
        """

    def list_reference(self) -> Tensor | None:
        """Positions (A, 3) at which the neighbour list was last built, None before."""

    def rebuild(self, positions: Tensor, cell: Tensor) -> None:
        """Build the neighbour list at `positions` (A, 3) in `cell` (3, 3), Å.

        A resumed run does so at the positions of the run that was stopped, and then sums in the
        same order.
        """

    def set_weights(self, weights: Any) -> None:
        """Change the partition to `weights` (A,); the neighbour list is built anew."""

    def self_check(self, positions: Tensor, cell: Tensor) -> float:
        """Compare with a reference on some of the atoms; raises RunStopped if they differ."""


@dataclass(frozen=True)
class State:
    """One instant of a run. Nothing that the next step depends on lives anywhere else.

    A step makes a new state and leaves the old one as it was, the random generator included, so
    the last good state is always whole. Tensors are float64 on the potential's device, or on the
    host if it comes from a run that stays on the device between its records.
    """

    species: tuple[str, ...]  # (A,) chemical symbols
    masses: Tensor  # (A,) amu
    cell: Tensor  # (3, 3) Å, rows are the cell vectors
    pbc: tuple[bool, bool, bool]
    positions: Tensor  # (A, 3) Å, never wrapped into the cell
    velocities: Tensor  # (A, 3) Å/fs
    forces: Tensor  # (A, 3) eV/Å
    energy: float  # potential energy, eV
    energies: Tensor  # (A,) per-atom potential energies, eV
    virial: Tensor  # (3, 3) −dE/dstrain, eV
    weights: Tensor  # (A,) weight of the high-fidelity expert
    list_reference: Tensor | None  # (A, 3) Å, where the neighbour list was built
    generator: torch.Generator  # of the thermostat's noise
    fixed: Tensor | None = None  # (A,) bool, atoms that stay where they are; None for none
    chain: Tensor | None = None  # (2, M), a Nosé–Hoover chain's η and dη/dt in 1/fs
    slow_forces: Tensor | None = None  # (A, 3) eV/Å, part of `forces`, where time is split
    n_rebuilds: int = 0
    step: int = 0
    time_fs: float = 0.0
    e_repartition: float = 0.0  # eV booked when weights changed, less what velocities have paid
    thermostat_work: float = 0.0  # eV given to the atoms by the thermostat
    stage_conserved: float = 0.0  # conserved energy at the start of the present stage, eV

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.species)

    @property
    def accelerations(self) -> Tensor:
        """Accelerations F/m, (A, 3), Å/fs²."""
        return self.accelerations_by(self.forces)

    def accelerations_by(self, forces: Tensor) -> Tensor:
        """Accelerations (A, 3), Å/fs², by `forces` (A, 3), eV/Å; none of fixed atoms."""
        return forces * self.response[:, None]

    @property
    def response(self) -> Tensor:
        """(A,) acceleration in Å/fs² by a force of 1 eV/Å: 1/m, and 0 of fixed atoms."""
        response = ACCELERATION / self.masses
        return response if self.fixed is None else torch.where(self.fixed, 0.0, response)

    @property
    def kinetic_energy(self) -> float:
        """Kinetic energy Σ m v²/2, eV."""
        return float((self.masses[:, None] * self.velocities.square()).sum()) / (2.0 * ACCELERATION)

    @property
    def degrees_of_freedom(self) -> int:
        """3A − 3: the total momentum is conserved, so three do not take part (1 atom: 3).

        Fixed atoms have none, and beside them the momentum of the others is not conserved: three
        for each of those.
        """
        if self.fixed is not None:
            return max(3 * int((~self.fixed).sum()), 1)
        return 3 * self.n_atoms - 3 if self.n_atoms > 1 else 3

    @property
    def volume(self) -> float | None:
        """Cell volume in Å³, None where nothing is periodic or a cell vector is missing."""
        volume = abs(float(torch.linalg.det(self.cell)))
        return volume if any(self.pbc) and volume > 0.0 else None

    def temperature(self, kinetic_energy: float) -> float:
        """Instantaneous temperature 2 K / (k_B · degrees of freedom) in K of an energy in eV."""
        return 2.0 * kinetic_energy / (BOLTZMANN_EV_PER_K * self.degrees_of_freedom)

    def conserved(self, kinetic_energy: float) -> float:
        """What the dynamics keeps constant, eV: total energy less what was given from outside."""
        return self.energy + kinetic_energy - self.e_repartition - self.thermostat_work

    def pressure_GPa(self, kinetic_energy: float) -> float | None:
        """Pressure (2 K + tr virial) / 3V in GPa, None where there is no volume."""
        if self.volume is None:
            return None
        pressure = (2.0 * kinetic_energy + float(torch.trace(self.virial))) / (3.0 * self.volume)
        return pressure * GPA_PER_EV_PER_A3


def with_forces(state: State, potential: DrivingPotential) -> State:
    """The same state with energy, forces and virial of its present positions.

    Raises:
        RunStopped: out of memory.
    """
    before = potential.n_rebuilds
    state = with_evaluation(state, evaluated(potential.evaluate, state))
    rebuilds = potential.n_rebuilds - before
    return with_list(state, potential, rebuilds) if rebuilds else state


def evaluated(evaluate: Callable[[Tensor, Tensor], Evaluation], state: State) -> Evaluation:
    """What `evaluate` finds at the positions of `state`.

    Raises:
        RunStopped: out of memory.
    """
    try:
        return evaluate(state.positions, state.cell)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunStopped(
            f"step {state.step}: out of memory with {state.n_atoms} atoms on "
            f"{state.positions.device}: {' '.join(str(error).split())[:200]}"
        ) from error


def with_evaluation(state: State, evaluation: Evaluation) -> State:
    """The same state with the energy, forces and virial of an evaluation at its positions."""
    return replace(
        state,
        energy=float(evaluation.energy),
        energies=evaluation.energies,
        forces=evaluation.forces,
        virial=evaluation.virial,
        slow_forces=evaluation.slow_forces,
        weights=state.weights if evaluation.weights is None else evaluation.weights,
    )


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has an exception of its own for a device's memory, and only a text for the CPU's.
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def with_list(state: State, potential: DrivingPotential, rebuilds: int) -> State:
    """The same state knowing the list that `potential` now uses, `rebuilds` rebuilds later."""
    reference = potential.list_reference()
    return replace(
        state,
        n_rebuilds=state.n_rebuilds + rebuilds,
        list_reference=None if reference is None else reference.clone(),
        weights=torch.from_numpy(np.array(potential.weights)).to(state.positions),
    )


def initial_state(
    atoms: Atoms,
    potential: DrivingPotential,
    *,
    temperature_K: float | None = None,
    exact_temperature: bool = True,
    seed: int = 0,
    device: str | torch.device = "cpu",
    fixed: np.ndarray | None = None,
) -> State:
    """State at step 0 of `atoms`, with forces.

    Args:
        atoms: positions in Å, cell, pbc, masses in amu; its velocities where `temperature_K` is
            None.
        potential: what computes the forces.
        temperature_K: draw Maxwell–Boltzmann velocities at this temperature, without drift. The
            draw is the same on every device.
        exact_temperature: rescale the drawn velocities so that the start is at `temperature_K`.
        seed: of the velocities and of the thermostat's noise.
        device: where the tensors live; that of the potential.
        fixed: (A,) bool, atoms that stay where they are; None for none.

    Raises:
        InputError: if `temperature_K` is None and `atoms` has no velocities.
    """
    if temperature_K is None and not atoms.has("momenta"):
        raise InputError(
            "the structure has no velocities to start from: give initial_temperature_K "
            "(0 starts at rest)"
        )
    masses = torch.as_tensor(atoms.get_masses(), dtype=torch.float64)
    held = torch.as_tensor(fixed) if fixed is not None and fixed.any() else None
    if temperature_K is None:
        velocities = torch.as_tensor(atoms.get_velocities() * units.fs, dtype=torch.float64)
    else:
        velocities = maxwell_boltzmann(
            masses, temperature_K, seed, exact=exact_temperature, fixed=held
        )
    if held is not None:
        velocities[held] = 0.0
    positions = torch.as_tensor(atoms.get_positions(), dtype=torch.float64, device=device)
    n_atoms = len(atoms)
    pbc = tuple(bool(periodic) for periodic in atoms.pbc)
    unevaluated = State(
        species=tuple(atoms.get_chemical_symbols()),
        masses=masses.to(device),
        cell=torch.as_tensor(np.asarray(atoms.cell), dtype=torch.float64, device=device),
        pbc=(pbc[0], pbc[1], pbc[2]),
        positions=positions,
        velocities=velocities.to(device),
        forces=torch.zeros_like(positions),
        energy=0.0,
        energies=positions.new_zeros(n_atoms),
        virial=positions.new_zeros(3, 3),
        weights=positions.new_zeros(n_atoms),
        list_reference=None,
        fixed=None if held is None else held.to(device),
        # A stream of its own, so that the noise does not repeat the numbers of the velocities;
        # a seed has 32 bits, PyTorch's CPU generator ignores more.
        generator=torch.Generator(device).manual_seed(seed ^ 0x9E3779B9),
    )
    # A potential that has been used before may keep its list: ask for it in any case.
    return with_list(with_forces(unevaluated, potential), potential, 0)
