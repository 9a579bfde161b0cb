"""Mixture and full HF at constant energy from the same starts, and the mixture's force errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from duetto.atoms.periodic import nearest
from duetto.md.loop import NVE, Langevin, run_md
from duetto.md.state import DrivingPotential, State, initial_state, with_forces
from duetto.partition.guard import Guard, Watch
from duetto.run.thermo import (
    energy_drift_error_meV_per_atom_per_ps,
    energy_drift_meV_per_atom_per_ps,
)
from duetto.validate.case import Case
from duetto.validate.kept import Run, keep, kept, key_of
from duetto.validate.statistics import Samples, compared
from duetto.validate.subject import Array
from duetto.validate.uncertainty import correlation_time, jackknife, of_mean, widening

FRICTION_PER_FS = 0.01

BIN = 1.0
"""Å of depth whose atoms' force errors are averaged."""

FARTHEST = 30.0
"""Å beyond which an atom's depth is not looked for."""

DRIFT_BLOCKS = 20
"""Pieces of a run from whose energies the error of its drift comes."""


def measure(case: Case) -> dict[str, Any]:
    """A thermalized start for every seed, then two runs from it.

    Returns:
        `nve_drift_mev_per_atom_per_ps` of `mixture` and `hf`: slope of a straight line through the
        energy of every step, the mean of the runs; `nve_drift_standard_error_mev_per_atom_per_ps`;
        `force_rmse_mev_per_angstrom`: root mean square of a component of mixture − full HF on
        snapshots of the mixture's runs, in the `complex` and the `simple` region (null where there
        is none, the blend as `blend`), `force_rmse_standard_error_mev_per_angstrom` and
        `force_rmse_snapshots`; `force_error_by_depth` the same by Å from the seam, negative outside
        the complex region; `guard`: what the guard says of the structure; `statistics` where there
        are several seeds, see `compared`.
    """
    settings, atoms = case.config.dynamics, case.structure
    weights = case.config.regions.weights(atoms)
    mixture = case.subject.potential(atoms, weights)
    full_hf = case.subject.potential(atoms, np.ones(len(atoms)))
    mixed: list[Run] = []
    whole: list[Run] = []
    for k in range(settings.seeds):
        seed, label = case.config.seed + k, f" {k + 1}/{settings.seeds}"
        start: State | None = None
        for who, potential, runs in (("mixture", mixture, mixed), ("hf", full_hf, whole)):
            key = key_of(case, weights, seed, who)
            run = kept(case.config.output.dir, key)
            if run is None:
                start = start or _warm(case, mixture, seed, f"warming up{label}")
                first = with_forces(replace(start, thermostat_work=0.0), potential)
                run = _constant_energy(case, first, potential, f"{who}{label}")
                keep(case.config.output.dir, key, run)
            runs.append(run)
    squares = _squared_errors(mixed, full_hf, case.structure.cell.array)
    found = {
        **_drifts({"mixture": mixed, "hf": whole}, len(atoms)),
        **_errors(squares, weights),
        "force_error_by_depth": _by_depth(case, squares, weights),
        "guard": _findings(case, weights),
    }
    if settings.seeds > 1:
        samples = [[run.samples for run in runs] for runs in (mixed, whole)]
        found["statistics"] = compared(samples[0], samples[1], atoms, settings.blocks)
    return found


def _warm(case: Case, mixture: DrivingPotential, seed: int, label: str) -> State:
    settings = case.config.dynamics
    # Half of the energy of atoms at rest becomes potential energy.
    state: State = initial_state(
        case.structure, mixture, temperature_K=2 * settings.temperature_K, seed=seed
    )
    bath = Langevin(settings.warm_up_steps, settings.temperature_K, FRICTION_PER_FS)
    states = run_md(state, mixture, [bath], timestep_fs=settings.timestep_fs)
    for reached in _shown(states, settings.warm_up_steps, label):
        state = reached
    return state


def _constant_energy(case: Case, state: State, potential: DrivingPotential, label: str) -> Run:
    settings = case.config.dynamics
    kept = set(np.linspace(0, settings.steps, settings.snapshots + 1).astype(int)[1:].tolist())
    first = state.step
    times, energies, snapshots = [state.time_fs], [state.conserved(state.kinetic_energy)], []
    sampled: list[tuple[Array, Array, float]] = []
    states = run_md(state, potential, [NVE(settings.steps)], timestep_fs=settings.timestep_fs)
    for reached in _shown(states, settings.steps, label):
        times.append(reached.time_fs)
        energies.append(reached.conserved(reached.kinetic_energy))
        if reached.step - first in kept:
            snapshots.append(reached)
        if (reached.step - first) % settings.sample_every == 0:
            warmth = reached.temperature(reached.kinetic_energy)
            sampled.append((reached.positions.numpy(), reached.velocities.numpy(), warmth))
    drift = energy_drift_meV_per_atom_per_ps(times, energies, state.n_atoms)
    every_fs = settings.sample_every * settings.timestep_fs
    samples = Samples(every_fs, *(np.array([s[k] for s in sampled]) for k in range(3)))
    positions = np.array([s.positions.numpy() for s in snapshots])
    forces = np.array([s.forces.numpy() for s in snapshots])
    return Run(drift, np.array(times), np.array(energies), positions, forces, samples)


def _drifts(runs: dict[str, list[Run]], n_atoms: int) -> dict[str, dict[str, float]]:
    """Means of the runs' drifts, and their standard errors."""
    drifts = {who: [run.drift for run in of_it] for who, of_it in runs.items()}
    errors = {who: [drift_error(run, n_atoms) for run in of_it] for who, of_it in runs.items()}
    return {
        "nve_drift_mev_per_atom_per_ps": {who: float(np.mean(x)) for who, x in drifts.items()},
        "nve_drift_standard_error_mev_per_atom_per_ps": {
            who: of_mean(drifts[who], errors[who]) for who in runs
        },
    }


def drift_error(run: Run, n_atoms: int) -> float:
    """Standard error of a run's drift, meV/atom/ps, its energy's memory allowed for."""
    blocks = min(DRIFT_BLOCKS, max(3, len(run.time_fs) // 3))
    error = energy_drift_error_meV_per_atom_per_ps(run.time_fs, run.conserved_ev, n_atoms, blocks)
    line = np.polynomial.Polynomial.fit(run.time_fs, run.conserved_ev, 1)
    memory = correlation_time([run.conserved_ev - line(run.time_fs)])
    return error * widening(memory, len(run.time_fs) / blocks)


def _shown(states: Iterable[State], total: int, label: str) -> Iterable[State]:
    return tqdm(states, total=total, desc=label, unit="step", delay=2.0, disable=None, leave=False)


def _squared_errors(runs: list[Run], full_hf: DrivingPotential, cell: Array) -> Array:
    """(S, A) of all snapshots: mean over components of (mixture − full HF)², (eV/Å)²."""
    lattice = torch.tensor(cell)
    return np.array(
        [
            ((forces - full_hf.evaluate(torch.tensor(at), lattice).forces.numpy()) ** 2).mean(1)
            for run in runs
            for at, forces in zip(run.positions, run.forces, strict=True)
        ]
    )


def _rms(squares: Array, groups: list[Any]) -> tuple[list[float], list[float | None]]:
    """Root mean squares of groups of atoms and their standard errors, meV/Å.

    Args:
        squares: (S, A), (eV/Å)².
        groups: (A,) each, which atoms.
    """
    values, errors = [], []
    for group in groups:
        found = jackknife(squares[:, group].mean(axis=1)[:, None], lambda mean: 1e3 * np.sqrt(mean))
        values.append(float(found.value[0]))
        errors.append(None if found.standard_error is None else float(found.standard_error[0]))
    return values, errors


def _errors(squares: Array, weights: Array) -> dict[str, Any]:
    regions = {
        "complex": weights == 1.0,
        "blend": (weights > 0.0) & (weights < 1.0),
        "simple": weights == 0.0,
    }
    there = {name: inside for name, inside in regions.items() if inside.any()}
    values, errors = _rms(squares, list(there.values()))
    absent: dict[str, float | None] = {
        name: None for name in ("complex", "simple") if name not in there
    }
    return {
        "force_rmse_mev_per_angstrom": dict(zip(there, values, strict=True)) | absent,
        "force_rmse_standard_error_mev_per_angstrom": dict(zip(there, errors, strict=True))
        | absent,
        "force_rmse_snapshots": len(squares),
    }


def _by_depth(case: Case, squares: Array, weights: Array) -> dict[str, list[Any]]:
    """Root mean square by distance from the nearest atom on the other side of HF's edge."""
    atoms, inside = case.structure, weights == 1.0
    depth = np.full(len(atoms), np.inf)
    for side, sign in ((inside, 1.0), (~inside, -1.0)):
        found = nearest(
            atoms.positions[side], atoms.positions[~side], atoms.cell.array, atoms.pbc, FARTHEST
        )
        depth[side] = sign * found.distance
    bins = np.full(len(atoms), np.iinfo(np.int64).min)
    bins[np.isfinite(depth)] = np.floor(depth[np.isfinite(depth)] / BIN).astype(np.int64)
    kinds = np.unique(bins[np.isfinite(depth)])
    values, errors = _rms(squares, [bins == k for k in kinds])
    return {
        "depth_angstrom": [float((k + 0.5) * BIN) for k in kinds],
        "error_mev_per_angstrom": values,
        "standard_error_mev_per_angstrom": errors,
        "atoms": [int((bins == k).sum()) for k in kinds],
    }


def _findings(case: Case, weights: Array) -> list[str]:
    atoms = case.structure
    watch = Watch(Guard.from_config("error"), case.subject.pair, list(atoms.symbols), atoms.pbc)
    now = watch.at(atoms.positions, atoms.cell.array, weights)
    return [finding.message(0) for finding in watch.look(now)]
