"""Weights that follow seeds, on the ranks that `ranks.py` is started with.

Against the engine in one process, against LAMMPS's own finite differences, and against themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111

from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.callback import PairStyle
from duetto.frontends.lammps.check import check
from duetto.frontends.lammps.deck import setup_commands
from duetto.frontends.lammps.session import Session
from duetto.frontends.lammps.system import System
from duetto.md.integrators import velocity_verlet
from duetto.md.state import initial_state
from duetto.potential.following import Following, FollowingPotential
from tests.engine.frontends.lammps.comparison import TIMESTEP_FS, per_atom_virial, plan_for
from tests.engine.frontends.lammps.comparison import ready as made_ready

FOLLOW = (1.4, 2.4)
"""Å, core and blend: both ends of the blend lie among the atoms of these small structures."""

Case = tuple[Atoms, np.ndarray, Any, tuple[float, float]]


def slab(x: float, apart: float = 0.9) -> Atoms:
    """A long rattled slab, which two ranks share along x, with C and O over it at `x`."""
    atoms = fcc111("Pt", (8, 3, 2), a=3.97, vacuum=6.0)
    atoms.pbc = (True, True, False)
    top = atoms.positions[:, 2].max()
    atoms += Atoms("CO", [(x, 3.0, top + 1.5), (x + apart, 3.4, top + 2.1)])
    atoms.rattle(0.08, seed=5)
    return atoms


def cases() -> dict[str, Case]:
    """Structures, weights that do not move, seeds, core and blend."""
    half = slab(0.0).cell[0, 0] / 2
    border, boundary = slab(half - 0.45), slab(-0.45)
    static = np.zeros(len(border))
    static[:6] = (1.0, 0.5, 0.25, 0.0, 0.75, 1.0)
    tiny = bulk("Pt", "fcc", a=3.97).repeat((2, 2, 2))  # seeds see their own images
    tiny.rattle(0.1, seed=3)
    skewed = bulk("Pt", "fcc", a=3.97).repeat((6, 4, 4))
    skewed.set_cell(skewed.cell.array @ (np.eye(3) + np.triu(np.full((3, 3), 0.05))), True)
    skewed.rattle(0.1, seed=4)
    skewed.positions[17] -= 2 * skewed.cell.array[0]  # a seed that is not in the box
    corner = fcc111("Pt", (3, 3, 3), a=3.97, vacuum=40.0)  # most of the box is empty
    corner.pbc = True
    corner.positions[:, 2] -= 39.0
    corner.rattle(0.1, seed=6)

    def seeds(atoms: Atoms) -> Any:
        return np.flatnonzero(atoms.numbers < 78)

    return {
        "border": (border, np.zeros(len(border)), seeds(border), FOLLOW),
        "boundary": (boundary, np.zeros(len(boundary)), seeds(boundary), FOLLOW),
        "static": (border, static, seeds(border), FOLLOW),
        "images": (tiny, np.zeros(8), [0, 5], (1.5, 5.0)),
        "triclinic": (skewed, np.zeros(96), [17, 18, 60], (2.0, 3.0)),
        "empty_ranks": (corner, np.zeros(27), [0], FOLLOW),
        "everywhere": (border, np.zeros(len(border)), seeds(border), (40.0, 1.0)),
    }


def ready(
    lammps: Session, path: Path, case: Case, skin: float = 0.5
) -> tuple[ExpertPair, System, Any]:
    """An empty LAMMPS, and the inputs of a case beside the pair."""
    atoms, weights, seeds, follow = case
    pair, plan = ExpertPair.load(path), replace(plan_for(path), follow=follow, skin_A=skin)
    return pair, made_ready(lammps, atoms, weights, pair, plan, seeds), plan


def at_once(lammps: Session, path: Path) -> dict[str, Any]:
    """The check of every case, and the sum of the atoms' virials."""
    found = {}
    for name, case in cases().items():
        pair, system, plan = ready(lammps, path, case)
        result = check(lammps.instance, lammps.callbacks, system, pair, plan, path.parent)
        found[name] = result.to_dict() if result else {}
        found[name]["per_atom_virial"] = per_atom_virial(lammps)
    return found


def numerical(lammps: Session, path: Path) -> dict[str, float]:
    """Forces against those that LAMMPS finds by moving every atom to and fro."""
    _, system, plan = ready(lammps, path, cases()["border"])
    delta = 1e-4
    lammps.instance.commands_string(
        setup_commands(system, plan, path.parent) + f"fix numerical all numdiff 1 {delta}\nrun 0\n"
    )
    forces = np.array(lammps.instance.gather_atoms("f", 1, 3))
    numerically = np.array(lammps.instance.gather("f_numerical", 1, 3))
    return {
        "error": float(np.abs(forces - numerically).max()),
        "largest": float(np.abs(forces).max()),
    }


def split(lammps: Session, path: Path) -> dict[str, float]:
    """The fast and the slow term as two sub-styles add up to the mixture."""
    _, system, plan = ready(lammps, path, cases()["static"])
    setup = setup_commands(system, plan, path.parent)
    names = f"{path} {' '.join(system.names)}"
    lines = [line for line in setup.splitlines() if not line.startswith(("pair_style", "pair_c"))]
    words = "dtype float64 follow 1.4 2.4"
    overlay = (
        f"\npair_style hybrid/overlay duetto terms fast {words} duetto terms slow {words}\n"
        f"pair_coeff * * duetto 1 {names}\npair_coeff * * duetto 2 {names}\n"
    )
    ours, theirs = (_evaluated(lammps, text) for text in (setup, "\n".join(lines) + overlay))
    return {name: float(np.abs(ours[name] - theirs[name]).max()) for name in ours}


def _evaluated(lammps: Session, setup: str) -> dict[str, np.ndarray]:
    get = lammps.instance
    get.command("clear")
    get.commands_string(setup + "thermo_style custom step pe pxx pyy pzz pxy\nrun 0\n")
    return {
        "forces": np.array(get.gather_atoms("f", 1, 3)),
        "energy": np.array(get.get_thermo("pe")),
        "pressure_GPa": 1e-4 * np.array([get.get_thermo(n) for n in ("pxx", "pyy", "pzz", "pxy")]),
    }


def motion(lammps: Session, path: Path, steps: int) -> dict[str, Any]:
    """A molecule that flies along the slab, across the border and the boundary, at constant energy.

    The neighbor lists have a wide skin and live for many steps: atoms come into the blend in the
    time of a list.
    """
    atoms = slab(slab(0.0).cell[0, 0] / 2 - 1.5, apart=1.5)
    seeds = np.flatnonzero(atoms.numbers < 78)
    atoms.set_masses(np.where(atoms.numbers < 78, 195.0, 195.084))  # too heavy to be turned aside
    atoms.positions[seeds, 2] += 0.5
    rng = np.random.default_rng(7)
    sigma = np.sqrt(units.kB * 300.0 / atoms.get_masses())
    velocities = rng.normal(size=(len(atoms), 3)) * sigma[:, None]
    velocities[seeds] = np.array([60.0, 3.0, 0.0]) / 1000.0 / units.fs
    atoms.set_velocities(velocities)
    case = atoms, np.zeros(len(atoms)), seeds, (1.4, 3.4)
    pair, system, plan = ready(lammps, path, case, skin=2.0)
    get = lammps.instance
    get.commands_string(
        setup_commands(system, plan, path.parent)
        + "fix now all property/atom d_duetto_now\nfix motion all nve\n"
        + "compute unwrapped all property/atom xu yu zu\n"
        + "thermo_style custom step etotal\nthermo 50\nrun 0\n"
    )
    energies, weights = [get.get_thermo("etotal")], [_weights_of(lammps)]
    for _ in range(10):
        get.command(f"run {steps // 10} pre no post no")
        energies.append(get.get_thermo("etotal"))
        weights.append(_weights_of(lammps))
    mine = np.array(get.gather("c_unwrapped", 1, 3)).reshape(-1, 3)
    result: dict[str, Any] = {}
    if lammps.rank == 0:
        result = _in_one_process(pair, system, plan, steps, mine, np.array(weights))
        result["spread_eV"] = float(np.ptp(energies))
    lammps.callbacks.wait_for_all()
    return result


def _weights_of(lammps: Session) -> np.ndarray:
    return np.array(lammps.instance.gather("d_duetto_now", 1, 1))


def _in_one_process(
    pair: ExpertPair, system: System, plan: Any, steps: int, mine: Any, weights: np.ndarray
) -> dict[str, Any]:
    """The same by the engine."""
    atoms = system.atoms
    potential = FollowingPotential(
        pair,
        list(atoms.symbols),
        system.weights,
        atoms.pbc,
        dtype="float64",
        following=Following(system.seeds, *plan.follow),
    )
    state = initial_state(atoms, potential)
    for _ in range(steps):
        state = velocity_verlet(state, potential, TIMESTEP_FS)
    moved = state.positions - torch.from_numpy(atoms.positions)
    return {
        "positions_A": float(np.abs(mine - state.positions.numpy()).max()),
        "weights": float(np.abs(weights[-1] - potential.weights).max()),
        "blended": int(((potential.weights > 0) & (potential.weights < 1)).sum()),
        "seeds_moved_A": float(moved[system.seeds].abs().max()),
        "entered": int(((weights[0] == 0) & (weights.max(axis=0) > 0)).sum()),
        "left": int(((weights[0] > 0) & (weights.min(axis=0) == 0)).sum()),
    }


def broken(lammps: Session, path: Path) -> None:
    """One rank fails where the others wait for its seeds."""
    _, system, plan = ready(lammps, path, cases()["border"])
    if lammps.rank == lammps.n_ranks - 1:
        PairStyle.potential = _divide  # type: ignore[method-assign]
    lammps.instance.commands_string(setup_commands(system, plan, path.parent) + "run 2\n")
    print("a rank went on")


def _divide(self: PairStyle) -> Any:
    raise ZeroDivisionError("the last rank divides")


def work(lammps: Session, path: Path, parts: Sequence[str]) -> dict[str, Any]:
    """The parts that are named, with the pair file at `path`."""
    found: dict[str, Any] = {}
    if "at_once" in parts:
        found["at_once"] = at_once(lammps, path)
    if "numerical" in parts:
        found["numerical"] = numerical(lammps, path)
    if "split" in parts:
        found["split"] = split(lammps, path)
    if "motion" in parts:
        found["motion"] = motion(lammps, path, 220)
    if "broken" in parts:
        broken(lammps, path)
    return found
