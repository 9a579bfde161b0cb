"""Dynamics that stays on the device, at constant energy or at constant temperature.

A step and a rebuild of the list are each captured in a graph. The host launches step n + 1 before
it reads the flags of step n, so it never holds the device up. A rebuild is asked for well before
the list fails; should the list fail all the same, or a buffer overflow, the step is void: the
device leaves it half done, ignores what was launched after it, and the host completes it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton.integrate import kick, kick_and_drift
from duetto.kernels.triton.mixture import Mixture
from duetto.kernels.triton.neighbor_list import ATOMS_PER_BLOCK, LAUNCH, CapacityError
from duetto.kernels.triton.thermostat import drift_thermalized, kick_and_thermalize

STEPS_IN_FLIGHT = 2
FORCE_RANGE_MESSAGE = "a force is not finite or exceeds 1024 eV/Å between two atoms"


class ForceRangeError(RuntimeError):
    """A force is not finite, or too large to be one; the state is that of the last good step."""


@dataclass(frozen=True)
class Thermostat:
    """A bath of Langevin dynamics.

    Attributes:
        thermal_energy: k_B T, eV.
        friction: γ, 1/fs.
        seed: of the noise, which is a function of seed, step and atom.
    """

    thermal_energy: float
    friction: float
    seed: int


@dataclass(frozen=True)
class Snapshot:
    """The state at one step, on its way to the host or there.

    Attributes:
        step: steps completed.
        positions, velocities, forces: (A, 3) float64, Å, Å/fs, eV/Å.
        energies: (A,) float64, eV; energy: () float64, their sum.
        virial: (3, 3) float64, dE/dε, eV.
        list_reference: (A, 3) float64, Å, where the list in use was built.
        kinetic: () float64, eV.
        heat: () float64, kinetic energy that the thermostat has given, eV.
        slow_forces: (A, 3) float64, eV/Å, the part of `forces` that acts at long intervals; None
            where time is not split.
        arrived: recorded behind the copies, None where there were none to wait for.
    """

    step: int
    positions: Tensor
    velocities: Tensor
    forces: Tensor
    energies: Tensor
    energy: Tensor
    virial: Tensor
    list_reference: Tensor
    kinetic: Tensor
    heat: Tensor
    slow_forces: Tensor | None = None
    arrived: torch.cuda.Event | None = None

    def wait(self) -> Snapshot:
        """Return once all tensors have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self


@dataclass(frozen=True)
class Rebuild:
    """Where the list was built, on its way to the host or there.

    Attributes:
        step: of the positions.
        positions: (A, 3) float64, Å.
        arrived: recorded behind the copy, None where there was none to wait for.
    """

    step: int
    positions: Tensor
    arrived: torch.cuda.Event | None = None

    def wait(self) -> Tensor:
        """The positions, once they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.positions


class Dynamics:
    """Velocity Verlet, or Langevin dynamics, of one system on the device of its tensors.

    Attributes:
        positions, velocities: (A, 3) float64, Å and Å/fs, advanced in place.
        mixture: forces at `positions`.
        step: steps completed, those before this object was made included.
        heat: (blocks,) float64, kinetic energy that the thermostat has given, eV.
        on_rebuild: called after each rebuild; may synchronise, and may change the partition.
        rebuilt_at: step of the positions at which the list was built last.
    """

    n_kinds = 1
    """How many kinds of steps there are, each with launches, and so a graph, of its own."""

    def __init__(
        self,
        mixture: Mixture,
        positions: Tensor,
        velocities: Tensor,
        cell: Tensor,
        accelerations: Tensor,
        timestep_fs: float,
        *,
        forces: Tensor | None = None,
        thermostat: Thermostat | None = None,
        first_step: int = 0,
    ) -> None:
        """Take the state, and compute its forces unless they are given.

        Args:
            mixture: the potential.
            positions, velocities: (A, 3) float64, Å and Å/fs; copied.
            cell: (3, 3) float64, Å.
            accelerations: (A,) float64, acceleration per force of each atom, Å/fs² per eV/Å.
            timestep_fs: fs.
            forces: (A, 3) float64, eV/Å, of a state to continue bit for bit. The list must then
                be the one that it was using.
        """
        self.mixture = mixture
        self.neighbors = mixture.neighbors
        self.positions = positions.to(mixture.forces, copy=True).contiguous()
        self.velocities = velocities.to(mixture.forces, copy=True).contiguous()
        self.cell = cell
        self.on_rebuild: list[Callable[[Dynamics], None]] = []
        self.step = first_step
        self._accelerations = accelerations.to(mixture.forces).contiguous()
        self._timestep = mixture.forces.new_tensor([timestep_fs])
        self._last_positions = self.positions.clone()
        self._last_velocities = self.velocities.clone()
        blocks = triton.cdiv(len(positions), ATOMS_PER_BLOCK)
        self._kinetic = mixture.forces.new_zeros(blocks)
        self._steps_done = mixture.forces.new_full((1,), first_step, dtype=torch.int64)
        self._set_thermostat(thermostat, timestep_fs, blocks)
        on_gpu = self.positions.is_cuda
        self._copies = torch.cuda.Stream(self.positions.device) if on_gpu else None
        size = (STEPS_IN_FLIGHT, flag.N_FLAGS)
        self._host_flags = torch.zeros(size, dtype=torch.int32, pin_memory=on_gpu)
        self._graphs: list[torch.cuda.CUDAGraph] | None = None
        self._captured: tuple[int, ...] = ()
        self._launched_kinds: set[int] = set()
        self._in_flight: deque[Callable[[], list[int]]] = deque()
        self._launched = self._rebuilt_after = self._end = self.rebuilt_at = first_step
        with torch.cuda.device_of(self.positions):
            if forces is None:
                self.refresh()
            else:
                mixture.forces.copy_(forces)
            self._kinetic.copy_(self._kinetic_by_block())

    def _set_thermostat(self, bath: Thermostat | None, timestep_fs: float, blocks: int) -> None:
        self._with_thermostat = bath is not None
        new = self.mixture.forces.new_zeros
        self.heat, self._last_heat, self._kinetic_before = new(blocks), new(blocks), new(blocks)
        self._momenta, self._momentum = new(3, blocks), new(3)
        self._mass = (1.0 / self._accelerations).sum().reshape(1)
        if bath is not None:
            kept = math.exp(-bath.friction * timestep_fs)
            self._bath = self._mass.new_tensor([kept, bath.thermal_energy * (1.0 - kept**2)])
            self._seed = self._steps_done.new_tensor([bath.seed])

    def _kind_of(self, step: int) -> int:
        """Which kind of step leads to the state after `step` of them, 0 … n_kinds − 1."""
        return 0

    def _evaluate(self, kind: int) -> None:
        """Forces at the present positions, of those that a step of this kind ends with."""
        self.mixture.evaluate(self.positions)

    @property
    def _driving(self) -> Tensor:
        """(A, 3) eV/Å, the forces of both halves of a kick, rewritten by `_evaluate`."""
        return self.mixture.forces

    def refresh(self, step: int | None = None) -> None:
        """Build the list and compute the forces at the present positions, on the host's watch.

        Args:
            step: of the positions; default: the present one.

        Raises:
            ForceRangeError: a force is out of range.
            CapacityError, ValueError: as `DeviceNeighborList.build`.
        """
        self.neighbors.build(self.positions, self.cell)
        self.mixture.want_virials(True)
        self._evaluate(self._kind_of(self.step if step is None else step))
        if int(self.neighbors.flags[flag.FORCE_RANGE.value]):
            raise ForceRangeError(FORCE_RANGE_MESSAGE)

    def run(self, n_steps: int) -> None:
        """Advance by `n_steps` and wait for the last.

        Raises:
            ForceRangeError: a force is out of range. Positions and velocities are then those of
                the last good step, `step` its number.
            CapacityError: as `DeviceNeighborList.build`.
        """
        self.launch(n_steps)
        self.finish()

    def launch(self, n_steps: int) -> None:
        """Advance by `n_steps`; the last of them may be under way when this returns.

        Whether those went well, and what the state is after them, is known after `finish`.

        Raises:
            ForceRangeError, CapacityError: as `run`.
        """
        assert not self._in_flight, "finish() comes first"
        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device_of(self.positions):
            # So that running on and starting anew from this state are the same to the last bit.
            # What others have raised with this list, such as an evaluation that was given up, does
            # not concern these steps; flags that tell of the list itself stay.
            self.neighbors.flags[flag.MOVING.value].zero_()
            self.neighbors.flags[flag.MOVED.value :].zero_()
            self._launched = self._rebuilt_after = self.step
            self._end = self.step + n_steps
            self._launch_steps()
            while self._launched < self._end:
                self._read_flags()
                self._launch_steps()

    def finish(self) -> None:
        """Wait for the steps that `launch` left under way, and complete them where it must be.

        Raises:
            ForceRangeError, CapacityError: as `run`.
        """
        with torch.cuda.device_of(self.positions):
            while self.step < self._end:
                self._launch_steps()
                self._read_flags()

    def _launch_steps(self) -> None:
        """Have as many steps in flight as may be."""
        while self._launched < self._end and len(self._in_flight) < STEPS_IN_FLIGHT:
            self._launch_step()
            self._launched += 1
            self._in_flight.append(self._send_flags(self._launched % STEPS_IN_FLIGHT))

    def _read_flags(self) -> None:
        """Wait for the oldest step in flight, and do what its flags ask for."""
        flags = self._in_flight.popleft()()
        if flags[flag.HALTED.value]:
            for arrive in self._in_flight:
                arrive()
            self._in_flight.clear()
            self._complete_void_step(flags)
            self._launched = self._rebuilt_after = self.step + 1
        elif flags[flag.MOVING.value] and self.step >= self._rebuilt_after:
            self._launch_rebuild()
            self._rebuilt_after = self._launched
        self.step += 1

    def snapshot(self) -> Snapshot:
        """Copy the state to the host without waiting for it; the next steps may be launched."""
        with torch.cuda.device_of(self.positions):
            return self._snapshot()

    def _snapshot(self) -> Snapshot:
        host, arrived = self._to_host(self._recorded())
        return Snapshot(step=self.step, arrived=arrived, **host)

    def _recorded(self) -> dict[str, Tensor]:
        """Copies of what a snapshot holds."""
        return {
            "positions": self.positions.clone(),
            "velocities": self.velocities.clone(),
            "forces": self.mixture.forces.clone(),
            "energies": self.mixture.energies.clone(),
            "energy": self.mixture.energies.sum(),
            "virial": self.mixture.virial(),
            "list_reference": self.neighbors.reference.clone(),
            "kinetic": self._kinetic.sum(),
            "heat": self.heat.sum(),
        }

    def rebuild_snapshot(self) -> Rebuild:
        """Copy the positions of the last rebuild to the host without waiting for them.

        The device is not held up; who asks must do so before more steps are launched.
        """
        with torch.cuda.device_of(self.positions):
            host, arrived = self._to_host({"positions": self.neighbors.reference.clone()})
        return Rebuild(self.rebuilt_at, host["positions"], arrived)

    def _to_host(
        self, tensors: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], torch.cuda.Event | None]:
        """Copies on the host, and what is recorded behind them where there is a device."""
        if self._copies is None:
            return tensors, None
        self._copies.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._copies):
            host = {}
            for name, source in tensors.items():
                host[name] = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
                host[name].copy_(source, non_blocking=True)
                source.record_stream(self._copies)
            arrived = torch.cuda.Event()
            arrived.record()
        return host, arrived

    def _step(self, kind: int = 0) -> None:
        """The launches of one step."""
        if self._with_thermostat:
            self._thermalized_half()
        else:
            kick_and_drift[(len(self._kinetic),)](
                self.positions, self.velocities, self._driving, self._accelerations,
                self._timestep, self._last_positions, self._last_velocities,
                self.neighbors.reference, self.neighbors.limits, self.neighbors.flags,
                len(self.positions), BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
            )  # fmt: skip
        self._evaluate(kind)
        self._kick()

    def _thermalized_half(self) -> None:
        grid, n_atoms = (len(self._kinetic),), len(self.positions)
        kick_and_thermalize[grid](
            self.positions, self.velocities, self._driving, self._accelerations,
            self._timestep, self._bath, self._seed, self._steps_done, self._last_positions,
            self._last_velocities, self._momenta, self._kinetic_before, self.neighbors.flags,
            n_atoms, len(self._kinetic), BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip
        torch.sum(self._momenta, 1, out=self._momentum)
        drift_thermalized[grid](
            self.positions, self.velocities, self._accelerations, self._timestep, self._momentum,
            self._mass, self._kinetic_before, self.heat, self._last_heat,
            self.neighbors.reference, self.neighbors.limits, self.neighbors.flags, n_atoms,
            BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip

    def _kick(self) -> None:
        kick[(len(self._kinetic),)](
            self.velocities, self._driving, self._accelerations, self._timestep,
            self._kinetic, self._steps_done, self.neighbors.flags, len(self.positions),
            BLOCK=ATOMS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip

    @property
    def _captures(self) -> bool:
        """Whether steps and rebuilds are replayed from graphs."""
        return self.positions.is_cuda and self.mixture.capturable

    def _launch_step(self) -> None:
        """Replay the graph of a step; the first of a kind after a change of buffers goes as it is.

        That first one also compiles what is new, which capturing cannot. Only the last step of a
        launch is recorded by anybody, and only there virials are computed.
        """
        self.mixture.want_virials(self._launched + 1 == self._end)
        kind = self._kind_of(self._launched + 1)
        if not self._captures:
            self._step(kind)
            return
        if self._captured != self.mixture.generation:
            self._graphs = None
            self._launched_kinds.clear()
        if self._ready:
            self._all_graphs()[kind].replay()
            return
        self._step(kind)
        # Only now: the step itself may have given the experts other buffers.
        self._captured = self.mixture.generation
        self._launched_kinds.add(kind)

    def _launch_rebuild(self) -> None:
        if self._captures and self._captured == self.mixture.generation and self._ready:
            self._all_graphs()[-1].replay()
            self.neighbors.n_rebuilds += 1
        else:
            self.neighbors.rebuild(self.positions)
        self.rebuilt_at = self._launched
        self._notify(self._launched)

    @property
    def _ready(self) -> bool:
        """Whether every kind of step has been launched since buffers changed."""
        return len(self._launched_kinds) == self.n_kinds

    def _all_graphs(self) -> list[torch.cuda.CUDAGraph]:
        """The captured steps, one of each kind, and the rebuild behind them."""
        if self._graphs is None:
            rebuilds = self.neighbors.n_rebuilds
            graphs = [torch.cuda.CUDAGraph() for _ in range(self.n_kinds + 1)]
            # Torch's own stream for captures is of the device that captured first. Another thread,
            # the guard's, may wait for an event of the device meanwhile; by default CUDA takes that
            # for a mistake and gives the capture up.
            stream = torch.cuda.Stream(self.positions.device)
            how: Any = {"stream": stream, "capture_error_mode": "thread_local"}
            for kind in range(self.n_kinds):
                with torch.cuda.graph(graphs[kind], **how):
                    self._step(kind)
            with torch.cuda.graph(graphs[-1], **how):
                self.neighbors.rebuild(self.positions)
            self.neighbors.n_rebuilds = rebuilds
            self._graphs = graphs
        return self._graphs

    def _notify(self, step: int) -> None:
        """Call the listeners; where one has changed the partition, take it up at this step."""
        generation = self.neighbors.generation
        for callback in list(self.on_rebuild):
            callback(self)
        if generation != self.neighbors.generation:
            self.refresh(step)

    def _send_flags(self, slot: int) -> Callable[[], list[int]]:
        """Copy the flags as they are after what was launched so far; call the result to wait."""
        target = self._host_flags[slot]
        target.copy_(self.neighbors.flags, non_blocking=True)
        if not self.positions.is_cuda:
            return target.tolist
        sent = torch.cuda.Event()
        sent.record()

        def arrive() -> list[int]:
            sent.synchronize()
            return target.tolist()

        return arrive

    def _complete_void_step(self, flags: list[int]) -> None:
        """Finish a step whose forces were void: new list, new forces, second half of the kick."""
        self.neighbors.flags.zero_()
        try:
            if flags[flag.FORCE_RANGE.value] and not flags[flag.MOVED.value]:
                raise ForceRangeError(FORCE_RANGE_MESSAGE)
            self.refresh(self.step + 1)
        except (ForceRangeError, CapacityError, ValueError) as error:
            self.positions.copy_(self._last_positions)
            self.velocities.copy_(self._last_velocities)
            self.heat.copy_(self._last_heat)
            self.refresh()
            if isinstance(error, ValueError):
                raise ForceRangeError(str(error)) from error
            raise
        self._kick()
        self.rebuilt_at = self.step + 1
        self._notify(self.step + 1)

    def _kinetic_by_block(self) -> Tensor:
        square = self.velocities.square().sum(dim=1) / self._accelerations
        padded = self.velocities.new_zeros(len(self._kinetic) * ATOMS_PER_BLOCK)
        padded[: len(square)] = 0.5 * square
        return padded.reshape(len(self._kinetic), ATOMS_PER_BLOCK).sum(dim=1)
