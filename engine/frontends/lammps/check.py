"""LAMMPS on all ranks against the engine in one process, on the same atoms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import units
from numpy.typing import NDArray

from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.callback import Callbacks
from duetto.frontends.lammps.deck import Plan, setup_commands
from duetto.frontends.lammps.system import System
from duetto.potential.base import Evaluation
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential

Array = NDArray[np.float64]

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""eV/Å, eV per atom and GPa. In float64 sums of some hundred terms of order 1 to 100 in another
order; in float32 the experts' own sums, 6e-8 of energies of some eV and of moments of the same
order, over the layers of the network."""


@dataclass(frozen=True)
class Differences:
    """Largest differences between LAMMPS and the engine.

    Attributes:
        ranks: of LAMMPS.
        atoms: how many.
        atoms_on_ranks: fewest and most atoms on a rank.
        dtype: of the experts.
        forces_ev_per_angstrom: of a component of a force.
        energy_ev_per_atom: of the total energy, over the number of atoms.
        energies_ev: of an atom's energy.
        pressure_gpa: of a component of the virial's pressure.
        tolerance: what each may be.
        agree: whether all are within it.
    """

    ranks: int
    atoms: int
    atoms_on_ranks: tuple[int, int]
    dtype: str
    forces_ev_per_angstrom: float
    energy_ev_per_atom: float
    energies_ev: float
    pressure_gpa: float
    tolerance: float
    agree: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(
    instance: Any, ranks: Callbacks, system: System, pair: ExpertPair, plan: Plan, folder: Path
) -> Differences | None:
    """Evaluate the first configuration both ways, all ranks together.

    Args:
        instance: LAMMPS with the pair style installed; nothing is in it yet.
        ranks: the pair style's, to speak with the other ranks.
        system: the atoms, whose data file is in `folder`.
        pair: the experts.
        plan: potential, precision and skin.
        folder: where the data file is.

    Returns:
        The differences on the first rank, None on the others.
    """
    instance.commands_string(
        setup_commands(system, plan, folder)
        + "compute energies all pe/atom pair\n"
        + "compute virial all pressure NULL virial\n"
        + "thermo_style custom step pe vol c_virial c_virial[1]\n"
        + "run 0\n"
    )
    n = len(system.atoms)
    forces = np.array(instance.gather_atoms("f", 1, 3)).reshape(n, 3)
    energies = np.array(instance.gather("c_energies", 1, 1))
    energy, virial = float(instance.get_thermo("pe")), _virial(instance)
    on_ranks = ranks.gather(float(instance.extract_setting("nlocal")))
    result = None
    if int(instance.extract_setting("world_rank")) == 0:
        expected, R = _single_process(system, pair, plan), system.box.rotation
        difference = virial - R.T @ expected.virial.numpy() @ R
        volume = abs(float(np.linalg.det(system.box.cell)))
        differences = (
            float(np.abs(forces - expected.forces.numpy() @ R).max(initial=0.0)),
            abs(energy - expected.energy) / n,
            float(np.abs(energies - expected.energies.numpy()).max(initial=0.0)),
            float(np.abs(difference).max()) / volume / units.GPa,
        )
        tolerance = TOLERANCE[plan.dtype]
        agree = all(value <= tolerance for value in differences)
        spread = (int(min(on_ranks)), int(max(on_ranks)))
        result = Differences(len(on_ranks), n, spread, plan.dtype, *differences, tolerance, agree)
    ranks.wait_for_all()
    return result


def _virial(instance: Any) -> Array:
    """(3, 3) eV, −dE/dε, from LAMMPS's pressure."""
    from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR

    vector = instance.extract_compute("virial", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    xx, yy, zz, xy, xz, yz = (float(vector[k]) for k in range(6))
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    volume: float = instance.get_thermo("vol")
    return pressure * volume / instance.extract_global("nktv2p")


def _single_process(system: System, pair: ExpertPair, plan: Plan) -> Evaluation:
    """The engine's own answer, in the structure's own frame."""
    atoms = system.atoms
    settings: dict[str, Any] = {"dtype": plan.dtype, "skin": plan.skin_A}
    arguments = pair, atoms.get_chemical_symbols(), system.weights, atoms.pbc
    if plan.follow is None:
        potential = Potential(*arguments, **settings)
    else:
        following = Following(system.seeds, *plan.follow)
        potential = FollowingPotential(*arguments, following=following, **settings)
    return potential.evaluate(
        torch.from_numpy(atoms.positions.copy()),
        torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64)),
    )
