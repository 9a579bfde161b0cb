"""A crystal at a temperature: its size without pressure, and instants of a run in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from duetto.errors import RunStopped
from duetto.md.loop import Langevin, run_md
from duetto.md.state import State, initial_state
from duetto.validate.bulk import at_length
from duetto.validate.case import Case
from duetto.validate.subject import Array

FRICTION_PER_FS = 0.01

EXPANSION_ROUNDS = 3
"""From 8 GPa at 900 K, with a modulus good to a tenth, to what noise leaves."""

EXPANSION_STEPS = 400
"""Of one round, after the warm-up: the pressure of 128 atoms of platinum at 900 K scatters by 0.4
GPa, of which some fifteen independent instants leave a quarter: 1.5e-4 in length."""

LARGEST_EXPANSION = 0.1
"""Of the volume in one round: solids melt at less."""


def expanded(case: Case, crystal: Atoms, temperature: float) -> Atoms:
    """The crystal in the size at which LF, which drives the runs, is without pressure.

    Its shape stays, and the sites are scaled along. Newton's steps, V ← V (1 + P / B) with LF's
    modulus at rest, from the mean pressure of a run, its kinetic part with it.

    Args:
        case: what is measured.
        crystal: sites of any size near.
        temperature: K, above 0.

    Raises:
        RunStopped: it expands by more than a crystal can.
    """
    modulus = case.found["bulk_modulus_gpa"]["lf"]
    for _ in range(EXPANSION_ROUNDS):
        growth = float(np.mean(pressures(case, crystal, temperature, EXPANSION_STEPS))) / modulus
        if not abs(growth) < LARGEST_EXPANSION:
            raise RunStopped(
                f"seam at {temperature:g} K: LF's crystal is under a pressure of "
                f"{growth * modulus:.3g} GPa, {growth:.0%} of its bulk modulus; leave this "
                "temperature out of seam.temperatures_K"
            )
        crystal = at_length(crystal, crystal.cell.lengths()[0] * (1.0 + growth) ** (1 / 3))
    return crystal


def pressures(case: Case, crystal: Atoms, temperature: float, steps: int) -> Array:
    """(steps,) GPa, at every step of a run by LF after the warm-up."""
    warm_up = case.config.seam.warm_up_steps
    run = _run(case, crystal, temperature, warm_up + steps)
    return np.array([pressure_of(state) for state in run if state.step > warm_up])


def snapshots(case: Case, crystal: Atoms, temperature: float) -> tuple[list[Atoms], Array]:
    """Instants of a run by LF, and the pressure of it, GPa, up to each of them.

    The pressure is the mean over the steps since the instant before, of the first over the second
    half of the warm-up.
    """
    seam = case.config.seam
    steps = seam.warm_up_steps + (seam.snapshots - 1) * seam.steps_between
    atoms, means, since = [], [], []
    for state in _run(case, crystal, temperature, steps):
        late = state.step - seam.warm_up_steps
        if 2 * state.step > seam.warm_up_steps:
            since.append(pressure_of(state))
        if late >= 0 and late % seam.steps_between == 0:
            instant = crystal.copy()
            instant.positions = state.positions.numpy()
            atoms.append(instant)
            means.append(float(np.mean(since)))
            since = []
    return atoms, np.array(means)


def pressure_of(state: State) -> float:
    """GPa, of the virial and of the atoms' motion."""
    pressure = state.pressure_GPa(state.kinetic_energy)
    assert pressure is not None  # a crystal has a volume
    return pressure


def _run(case: Case, crystal: Atoms, temperature: float, steps: int) -> Iterator[State]:
    """A Langevin run by LF, which is cheap, from the sites."""
    potential = case.subject.potential(crystal, np.zeros(len(crystal)))
    # Half of the energy of atoms on their sites becomes potential energy.
    state = initial_state(crystal, potential, temperature_K=2 * temperature, seed=case.config.seed)
    bath = Langevin(steps, temperature, FRICTION_PER_FS)
    return run_md(state, potential, [bath], timestep_fs=case.config.seam.timestep_fs)
