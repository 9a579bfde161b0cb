"""Mixture and full HF at constant energy from one start, and the mixture's force errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from duetto.md.loop import NVE, Langevin, run_md
from duetto.md.state import Potential, State, initial_state, with_forces
from duetto.partition.guard import Guard, Watch
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps
from duetto.validate.case import Case
from duetto.validate.subject import Array

FRICTION_PER_FS = 0.01


def measure(case: Case) -> dict[str, Any]:
    """A thermalized start, then two runs.

    Returns:
        `nve_drift_mev_per_atom_per_ps` of `mixture` and `hf`: slope of a straight line through the
        energy of every step; `force_rmse_mev_per_angstrom`: root mean square of a component of
        mixture − full HF on snapshots of the mixture's run, in the `complex` and the `simple`
        region (null where there is none, the blend as `blend`); `guard`: what the guard says of
        the structure.
    """
    settings, atoms = case.config.dynamics, case.structure
    weights = case.config.regions.weights(atoms)
    mixture = case.subject.potential(atoms, weights)
    state: State = initial_state(
        atoms, mixture, temperature_K=2 * settings.temperature_K, seed=case.config.seed
    )
    bath = Langevin(settings.warm_up_steps, settings.temperature_K, FRICTION_PER_FS)
    states = run_md(state, mixture, [bath], timestep_fs=settings.timestep_fs)
    for reached in _shown(states, settings.warm_up_steps, "warming up"):
        state = reached
    full_hf = case.subject.potential(atoms, np.ones(len(atoms)))
    drift, snapshots = _constant_energy(case, state, mixture, "mixture")
    hf_start = with_forces(replace(state, thermostat_work=0.0), full_hf)
    hf_drift, _ = _constant_energy(case, hf_start, full_hf, "full HF")
    return {
        "nve_drift_mev_per_atom_per_ps": {"mixture": drift, "hf": hf_drift},
        "force_rmse_mev_per_angstrom": _errors(snapshots, full_hf, weights),
        "guard": _findings(case, weights),
    }


def _constant_energy(
    case: Case, state: State, potential: Potential, label: str
) -> tuple[float, list[State]]:
    """Drift, meV/atom/ps, and snapshots at even distances, the last step among them."""
    settings = case.config.dynamics
    kept = set(np.linspace(0, settings.steps, settings.snapshots + 1).astype(int)[1:].tolist())
    first = state.step
    times, energies, snapshots = [state.time_fs], [state.conserved(state.kinetic_energy)], []
    states = run_md(state, potential, [NVE(settings.steps)], timestep_fs=settings.timestep_fs)
    for reached in _shown(states, settings.steps, label):
        times.append(reached.time_fs)
        energies.append(reached.conserved(reached.kinetic_energy))
        if reached.step - first in kept:
            snapshots.append(reached)
    drift = energy_drift_meV_per_atom_per_ps(times, energies, state.n_atoms)
    return drift, snapshots


def _shown(states: Iterable[State], total: int, label: str) -> Iterable[State]:
    return tqdm(states, total=total, desc=label, unit="step", delay=2.0, disable=None, leave=False)


def _errors(snapshots: list[State], full_hf: Potential, weights: Array) -> dict[str, float | None]:
    squares = np.mean(
        [
            (s.forces - full_hf.evaluate(s.positions, s.cell).forces).square().mean(1).numpy()
            for s in snapshots
        ],
        axis=0,
    )
    regions = {
        "complex": weights == 1.0,
        "blend": (weights > 0.0) & (weights < 1.0),
        "simple": weights == 0.0,
    }
    return {
        name: 1e3 * float(np.sqrt(squares[inside].mean())) if inside.any() else None
        for name, inside in regions.items()
        if inside.any() or name != "blend"
    }


def _findings(case: Case, weights: Array) -> list[str]:
    atoms = case.structure
    watch = Watch(Guard.from_config("error"), case.subject.pair, list(atoms.symbols), atoms.pbc)
    now = watch.at(atoms.positions, atoms.cell.array, weights)
    return [finding.message(0) for finding in watch.look(now)]
