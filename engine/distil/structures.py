"""The structures of a fit: read from files, or made of a crystal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import iread

from duetto.atoms.structure import check_atoms
from duetto.atoms.unreadable import unreadable
from duetto.distil.settings import Crystal, DistilSettings, Slow
from duetto.experts.base import Expert
from duetto.experts.pair import ExpertPair
from duetto.files import require_file
from duetto.md.integrators import langevin_baoab, velocity_verlet
from duetto.md.state import initial_state
from duetto.potential.mixture import Potential

_LARGEST_STRAIN = 0.04
_TIMESTEP_FS = 4.0
_FRICTION_PER_FS = 0.01
_STEPS = 60  # from snapshot to snapshot


@dataclass(frozen=True)
class Structure:
    """One structure and where it comes from.

    Attributes:
        atoms: positions, cell; labels, if there are any, stay with it.
        group: structures of one group are never on both sides of a cross-validation.
        family: for the report.
    """

    atoms: Atoms
    group: str
    family: str


def read_structures(
    files: Sequence[str],
    species: Sequence[str],
    known: Sequence[str],
    families: Sequence[str] = ("*",),
    every: int = 1,
) -> list[Structure]:
    """The frames of some files whose atoms are all of these species.

    Args:
        files: in any format that ASE knows.
        species: of the atoms.
        known: to HF; other species are refused.
        families: patterns for a frame's `config_type`.
        every: only every so many of them.

    Raises:
        InputError: a file cannot be read, or holds atoms that no run could start from.
    """
    found = []
    for path in files:
        require_file(path, "structure file")
        try:
            frames = list(iread(path, index=":"))
        except Exception as error:  # ASE's readers raise whatever they meet
            raise unreadable(str(path), error) from error
        for number, atoms in enumerate(frames):
            where = f"{path}, frame {number}"
            check_atoms(atoms, where, species=known)
            family = str(atoms.info.get("config_type", "structures"))
            wanted = any(fnmatch(family, pattern) for pattern in families)
            if wanted and set(atoms.symbols) <= set(species):
                group = str(atoms.info.get("trajectory", where))
                found.append(Structure(atoms, f"{path}:{group}", family))
    return found[::every]


def make_structures(settings: DistilSettings, hf: Expert, a: float) -> list[Structure]:
    """Strained, rattled and defective crystals, and snapshots of HF's dynamics.

    Args:
        settings: how many, of which crystal.
        hf: whose dynamics it is.
        a: its lattice constant, Å.
    """
    crystal, make = settings.crystal, settings.make
    if crystal is None:
        return []
    rng = np.random.default_rng(settings.seed)
    made = []
    for name, count in (
        ("strained", make.strained),
        ("rattled", make.rattled),
        ("vacancy", make.vacancy),
    ):
        for number in range(count):
            atoms = supercell(crystal, a)
            if name == "vacancy":
                del atoms[int(rng.integers(len(atoms)))]
            if name == "strained":
                strain = rng.uniform(-_LARGEST_STRAIN, _LARGEST_STRAIN, (3, 3))
                atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            size = rng.uniform(*make.amplitude)
            atoms.positions += rng.normal(0.0, size, (len(atoms), 3))
            made.append(Structure(atoms, f"{name} {number}", name))
    for temperature in make.temperature_K if make.md else ():
        made += _snapshots(supercell(crystal, a), hf, temperature, make.md, settings.seed)
    return made


def supercell(crystal: Crystal, a: float) -> Atoms:
    """Some dozens of atoms of the crystal."""
    copies = 3 if crystal.lattice != "fcc" else 2
    return bulk(crystal.symbol, crystal.lattice, a=a, cubic=True) * (copies, copies, copies)


def _snapshots(
    atoms: Atoms, hf: Expert, temperature_K: float, count: int, seed: int
) -> list[Structure]:
    """Langevin dynamics on HF; the first tenth of the way is not looked at."""
    pair = ExpertPair(hf, None)
    species = atoms.get_chemical_symbols()
    potential = Potential(pair, species, np.ones(len(atoms)), atoms.pbc)
    state = initial_state(atoms, potential, temperature_K=temperature_K, seed=seed)
    found: list[Structure] = []
    for step in range(1, (count + 2) * _STEPS + 1):
        state = langevin_baoab(
            state,
            potential,
            _TIMESTEP_FS,
            temperature_K=temperature_K,
            friction_per_fs=_FRICTION_PER_FS,
        )
        if step > 2 * _STEPS and step % _STEPS == 0:
            copy = atoms.copy()
            copy.positions[:] = state.positions.detach().cpu().numpy()
            # Blocks of five snapshots: neighbours in time are alike.
            block = len(found) // 5
            family = f"md {temperature_K:g} K"
            found.append(Structure(copy, f"{family} {block}", family))
    return found


def stretch(structure: Structure, hf: Expert, slow: Slow, seed: int) -> Iterator[Structure]:
    """Where HF's own dynamics at constant energy takes a structure.

    Args:
        structure: the start, at random velocities.
        hf: whose dynamics it is.
        slow: how hot, how far apart and how many.
        seed: of the velocities.
    """
    atoms = structure.atoms
    symbols = atoms.get_chemical_symbols()
    potential = Potential(ExpertPair(hf, None), symbols, np.ones(len(atoms)), atoms.pbc)
    state = initial_state(atoms, potential, temperature_K=slow.temperature_K, seed=seed)
    for _ in range(slow.looks):
        for _ in range(slow.steps):
            state = velocity_verlet(state, potential, slow.timestep_fs)
        moved = atoms.copy()
        moved.positions[:] = state.positions.numpy()
        yield replace(structure, atoms=moved)


def tensors_of(atoms: Atoms) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (A, 3) and cell (3, 3), float64."""
    return torch.from_numpy(atoms.positions.copy()), torch.from_numpy(atoms.cell.array.copy())
