"""Dynamics that stays on the device between the states that are recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from duetto.backends.base import DeviceBackend
from duetto.errors import RunStopped
from duetto.md.state import ACCELERATION, BOLTZMANN_EV_PER_K, State


def stays_on_device(potential: Any) -> bool:
    """Whether `DeviceStage` can advance states of this potential."""
    return isinstance(getattr(potential, "backend", None), DeviceBackend)


class DeviceStage:
    """One stage of a run, by the integrator of `duetto.kernels.triton.dynamics`.

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
    ) -> None:
        """Continue from `state`, with the list that it was using.

        Args:
            state: where the stage goes on.
            potential: on the triton backend.
            timestep_fs: fs.
            temperature_K: of the bath, K; None for constant energy.
            friction_per_fs: of the bath, 1/fs.
        """
        from duetto.kernels.triton.dynamics import Dynamics, Thermostat

        self.potential = potential
        self.timestep_fs = timestep_fs
        self._list = potential.neighbor_list
        bath = None
        if temperature_K is not None:
            energy = BOLTZMANN_EV_PER_K * temperature_K
            bath = Thermostat(energy, friction_per_fs, state.generator.initial_seed())
        self._dynamics = Dynamics(
            self._list.mixture,
            state.positions,
            state.velocities,
            state.cell,
            ACCELERATION / state.masses,
            timestep_fs,
            forces=state.forces,
            thermostat=bath,
            first_step=state.step,
        )
        self._dynamics.on_rebuild.append(self._rebuilt)

    def advance(self, state: State, n_steps: int) -> State:
        """The state `n_steps` later.

        Raises:
            RunStopped: a force is not finite or out of range, a centre has more neighbours than
                the kernels hold, memory ran out, or a listener stopped the run.
        """
        from duetto.kernels.triton.dynamics import ForceRangeError
        from duetto.kernels.triton.neighbor_list import CapacityError

        rebuilds = self.potential.n_rebuilds
        dynamics = self._dynamics
        # A listener may have evaluated the potential elsewhere in the meantime.
        dynamics.mixture.forces.copy_(state.forces)
        dynamics.heat.zero_()
        try:
            dynamics.run(n_steps)
        except (ForceRangeError, CapacityError) as error:
            step = dynamics.step + 1
            raise RunStopped(f"step {step}: {error}; lower timestep_fs") from error
        except torch.OutOfMemoryError as error:
            reason = " ".join(str(error).split())[:200]
            raise RunStopped(
                f"step {dynamics.step + 1}: out of memory with {state.n_atoms} atoms on "
                f"{state.positions.device}: {reason}"
            ) from error
        mixture = dynamics.mixture
        return replace(
            state,
            positions=dynamics.positions.clone(),
            velocities=dynamics.velocities.clone(),
            forces=mixture.forces.clone(),
            energy=float(mixture.energies.sum()),
            energies=mixture.energies.clone(),
            virial=-mixture.virial(),
            list_reference=mixture.neighbors.reference.clone(),
            n_rebuilds=state.n_rebuilds + self.potential.n_rebuilds - rebuilds,
            thermostat_work=state.thermostat_work + float(dynamics.heat.sum()),
            step=state.step + n_steps,
            # A sum of decimal timesteps stays decimal, however many there are.
            time_fs=round(state.time_fs + n_steps * self.timestep_fs, 9),
        )

    def _rebuilt(self, dynamics: Any) -> None:
        self.potential.n_rebuilds += 1
        for callback in list(self.potential.on_rebuild):
            step = getattr(callback, "step", None)
            if step is not None:
                callback.step = dynamics.step + 1
            callback(dynamics.positions, dynamics.cell, self.potential)
        if self.potential.neighbor_list is not self._list:
            raise RunStopped("the partition changed in a run that stays on the device")
