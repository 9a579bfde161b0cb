"""Dynamics that stays on the device between the states that are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from duetto.errors import RunStopped
from duetto.md.state import BOLTZMANN_EV_PER_K, State
from duetto.potential.base import Bath, Start

if TYPE_CHECKING:
    from duetto.kernels.triton.dynamics import Rebuild, Snapshot


def on_host(state: State) -> State:
    """The same state with its tensors on the host; its generator stays where it is."""
    tensors: dict[str, Any] = {
        field.name: value.cpu()
        for field in fields(state)
        if isinstance(value := getattr(state, field.name), Tensor)
    }
    return replace(state, **tensors)


@dataclass(frozen=True)
class PendingState:
    """A state that the device has reached, while its numbers travel to the host.

    Attributes:
        snapshot: the numbers.
        at_rebuilds: positions at which the list was built since the state before, with their
            steps, in order.
        timestep_fs: fs.
    """

    snapshot: Snapshot
    at_rebuilds: tuple[Rebuild, ...]
    timestep_fs: float

    def rebuilds(self) -> Iterator[tuple[int, Tensor]]:
        """Step and positions (A, 3) on the host of each rebuild since the state before."""
        for rebuild in self.at_rebuilds:
            yield rebuild.step, rebuild.wait()

    def after(self, state: State) -> State:
        """Wait for the numbers; return the state that they make of `state`, the one before."""
        now = self.snapshot.wait()
        n_steps = now.step - state.step
        return replace(
            state,
            positions=now.positions,
            velocities=now.velocities,
            forces=now.forces,
            energy=float(now.energy),
            energies=now.energies,
            virial=-now.virial,
            list_reference=now.list_reference,
            slow_forces=now.slow_forces,
            n_rebuilds=state.n_rebuilds + len(self.at_rebuilds),
            thermostat_work=state.thermostat_work + float(now.heat),
            step=now.step,
            # A sum of decimal timesteps stays decimal, however many there are.
            time_fs=round(state.time_fs + n_steps * self.timestep_fs, 9),
        )


class DeviceStage:
    """One stage of a run, by the integrator of `duetto.kernels.triton.dynamics`.

    The states that it makes are on the host, so that what is done with them does not queue behind
    the device's next steps.

    The list is rebuilt when most of the skin is used, not when all of it is, so a run's sums are
    ordered otherwise than where the host takes every step; both repeat bit for bit. The noise of a
    thermostat is a function of the generator's seed, the step and the atom: other numbers than
    the host's, and the same when a run is resumed.
    """

    def __init__(
        self,
        state: State,
        potential: Any,
        timestep_fs: float,
        *,
        temperature_K: float | None = None,
        friction_per_fs: float = 0.0,
        every: int | None = None,
    ) -> None:
        """Continue from `state`, with the list that it was using.

        Args:
            state: where the stage goes on.
            potential: on the triton backend.
            timestep_fs: fs.
            temperature_K: of the bath, K; None for constant energy.
            friction_per_fs: of the bath, 1/fs.
            every: where time is split, steps from one evaluation of the slow forces to the next.
        """
        self.potential = potential
        self.timestep_fs = timestep_fs
        self._list = potential.neighbor_list
        bath = None
        if temperature_K is not None:
            energy = BOLTZMANN_EV_PER_K * temperature_K
            bath = Bath(energy, friction_per_fs, state.generator.initial_seed())
        start = Start(
            state.positions,
            state.velocities,
            state.forces,
            state.cell,
            state.response,
            state.step,
            state.slow_forces,
        )
        split = {} if every is None else {"every": every}
        self._dynamics = potential.propagator(start, timestep_fs, bath, **split)
        self._dynamics.on_rebuild.append(self._rebuilt)
        self._rebuilds: list[Rebuild] = []
        self._left: list[tuple[Tensor, Tensor]] = []

    def launch(self, n_steps: int) -> None:
        """Take `n_steps`; the last of them may be under way when this returns.

        Raises:
            RunStopped: a force is not finite or out of range, a centre has more neighbours than
                the kernels hold, memory ran out, or a listener stopped the run.
        """
        dynamics, mixture = self._dynamics, self._dynamics.mixture
        self._rebuilds = []
        dynamics.heat.zero_()
        with self._explained():
            dynamics.launch(n_steps)
            buffers = mixture.forces, mixture.energies, mixture.centre_virials
            self._left = [(buffer, buffer.clone()) for buffer in buffers]

    def finish(self) -> PendingState:
        """The state after the steps launched, on its way to the host.

        Raises:
            RunStopped: as `launch`.
        """
        # Who was given a state in the meantime may have evaluated the potential elsewhere.
        for buffer, left in self._left:
            buffer.copy_(left)
        with self._explained():
            self._dynamics.finish()
            snapshot = self._dynamics.snapshot()
        return PendingState(snapshot, tuple(self._rebuilds), self.timestep_fs)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What may go wrong in a step, as the end of the run."""
        from duetto.kernels.triton.dynamics import ForceRangeError
        from duetto.kernels.triton.neighbor_list import CapacityError

        dynamics = self._dynamics
        try:
            yield
        except (ForceRangeError, CapacityError) as error:
            step = dynamics.step + 1
            raise RunStopped(f"step {step}: {error}; lower timestep_fs") from error
        except torch.OutOfMemoryError as error:
            reason = " ".join(str(error).split())[:200]
            raise RunStopped(
                f"step {dynamics.step + 1}: out of memory with {len(dynamics.positions)} atoms on "
                f"{dynamics.positions.device}: {reason}"
            ) from error

    def _rebuilt(self, dynamics: Any) -> None:
        """Keep what the guard is to see, once the host has time for it."""
        self.potential.count_rebuild()
        self._rebuilds.append(dynamics.rebuild_snapshot())
        if self.potential.neighbor_list is not self._list:
            raise RunStopped("the partition changed in a run that stays on the device")
