"""Potentials with closed forms, behind the interface of the real one."""

import functools
import os
import signal
from types import SimpleNamespace

import numpy as np
import torch
from ase import Atoms
from ase.geometry import get_distances
from ase.neighborlist import neighbor_list

from duetto.potential.base import Evaluation

LJ = {"epsilon": 0.0104, "sigma": 3.40, "cutoff": 8.0}  # argon: eV, Å, Å


def pair_evaluation(positions, i, j, offset, energy_and_slope, dtype=torch.float64):
    """Energy, forces and virial of pairs, each once, from u(r) and u'(r); summed in list order."""
    vectors = (positions[j] - positions[i] + offset).to(dtype)
    r = vectors.norm(dim=1)
    energy, slope = energy_and_slope(r)
    energies = torch.zeros(len(positions), dtype=dtype)
    energies.index_add_(0, i, 0.5 * energy).index_add_(0, j, 0.5 * energy)
    pull = (slope / r)[:, None] * vectors
    forces = torch.zeros(len(positions), 3, dtype=dtype)
    forces.index_add_(0, i, pull).index_add_(0, j, -pull)
    return Evaluation(
        energy=float(energies.double().sum()),
        energies=energies.double(),
        forces=forces.double(),
        virial=-torch.einsum("ex,ey->xy", pull, vectors).double(),
    )


def lennard_jones(r, epsilon=LJ["epsilon"], sigma=LJ["sigma"], cutoff=LJ["cutoff"]):
    """u(r) and u'(r) of Lennard-Jones, shifted to zero at the cutoff."""
    x6 = (sigma / r) ** 6
    at_cutoff = (sigma / cutoff) ** 6
    energy = 4.0 * epsilon * (x6**2 - x6 - at_cutoff**2 + at_cutoff)
    slope = -24.0 * epsilon * (2.0 * x6**2 - x6) / r
    inside = r < cutoff
    return energy * inside, slope * inside


class Pairs:
    """A pair potential with a Verlet list whose order depends on where it was built."""

    takes_steps_on_device = False

    def __init__(self, weights, pbc, energy_and_slope, *, cutoff, skin=0.4, dtype=torch.float32):
        self.weights = np.array(weights, dtype=np.float64)
        self.pbc = np.array(pbc)
        self.energy_and_slope = energy_and_slope
        self.cutoff, self.skin, self.dtype = cutoff, skin, dtype
        self.n_rebuilds = 0
        self.reference = None

    def evaluate(self, positions, cell):
        if self.reference is None or self._moved(positions):
            self.rebuild(positions, cell)
        i, j, shift = self.pairs
        return pair_evaluation(positions, i, j, shift @ cell, self.energy_and_slope, self.dtype)

    def _moved(self, positions):
        return (positions - self.reference).norm(dim=1).max() >= self.skin / 2

    def rebuild(self, positions, cell):
        atoms = Atoms(numbers=[1] * len(positions), positions=positions, cell=cell, pbc=self.pbc)
        i, j, shift, distance = neighbor_list("ijSd", atoms, self.cutoff + self.skin)
        once = (i < j) | ((i == j) & (shift @ [1.0, np.pi, np.e] > 0))
        order = np.flatnonzero(once)[np.argsort(distance[once], kind="stable")]
        self.pairs = (
            torch.from_numpy(i[order]),
            torch.from_numpy(j[order]),
            torch.from_numpy(shift[order].astype(np.float64)),
        )
        self.reference = positions.clone()
        self.n_rebuilds += 1

    def list_reference(self):
        return self.reference

    def set_weights(self, weights):
        self.weights = np.array(weights, dtype=np.float64)
        self.reference = None

    def self_check(self, positions, cell):
        """Forces against ASE's distances and the closed form, pair by pair."""
        vectors, r = get_distances(
            positions.numpy(), cell=cell.numpy() if self.pbc.any() else None, pbc=self.pbc
        )
        np.fill_diagonal(r, np.inf)
        slope = self.energy_and_slope(torch.from_numpy(r))[1].numpy()
        forces = np.einsum("ij,ijx->ix", slope / r, vectors)
        return float(np.abs(self.evaluate(positions, cell).forces.numpy() - forces).max())


def lj_potential(atoms, cutoff=LJ["cutoff"], kind=Pairs, **options):
    """Lennard-Jones of `atoms` in float64."""
    weights = np.zeros(len(atoms))
    curve = functools.partial(lennard_jones, cutoff=cutoff)
    return kind(weights, atoms.pbc, curve, cutoff=cutoff, dtype=torch.float64, **options)


class Broken(Pairs):
    """Goes wrong at one evaluation, as `DUETTO_TEST_FAULT=what:evaluation` says."""

    count = 0

    def evaluate(self, positions, cell):
        self.count += 1
        evaluation = super().evaluate(positions, cell)
        what, _, when = os.environ.get("DUETTO_TEST_FAULT", ":0").partition(":")
        if self.count != int(when):
            return evaluation
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what in ("SIGINT", "SIGTERM", "SIGSTOP"):
            os.kill(os.getpid(), signal.Signals[what])
        if what == "nan":
            evaluation.forces[5] = torch.nan
        if what == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return evaluation


class ToyModel:
    """Stands where a pair file is opened: Lennard-Jones argon and a heavier twin."""

    species = ("Ar", "Kr")
    device = torch.device("cpu")
    content_hash = "lennard-jones"

    def __init__(self, config):
        self.config = config

    def potential(self, species, weights, pbc):
        dtype = getattr(torch, self.config.dtype)
        potential = Broken(weights, pbc, lennard_jones, cutoff=LJ["cutoff"], dtype=dtype)
        # What the guard looks at: without an LF expert it watches for lost atoms only.
        potential.species = tuple(species)
        potential.pair = SimpleNamespace(hf=None, lf=None, provenance={})
        return potential

    def describe(self):
        return {"device": "cpu", "dtype": self.config.dtype, "backend": "toy"}


def argon(repeat=2, rattle=0.05, seed=0):
    """Rattled fcc argon, 4 repeat³ atoms."""
    from ase.build import bulk

    atoms = bulk("Ar", "fcc", a=5.26, cubic=True).repeat(repeat)
    atoms.rattle(rattle, seed=seed)
    return atoms
