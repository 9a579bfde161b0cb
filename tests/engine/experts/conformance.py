"""What every kind of expert must pass, and nothing of any kind in particular.

A test of a kind calls each of these with an expert of its own; `test_conformance.py` does so with
the smallest there can be.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.io import write
from scipy.spatial.transform import Rotation

from duetto.cli.main import main
from duetto.experts.base import Edges, Expert, cutoff_matrix
from duetto.experts.kinds import expert_class
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from tests.pairs import high_fidelity


def random_edges(expert: Expert, counts: list[int], seed: int = 0, nearest: float = 1.6) -> Edges:
    """Centres with so many neighbours each, of all species, inside the cutoffs."""
    rng = np.random.default_rng(seed)
    T, E = len(expert.species), sum(counts)
    types, neighbors = rng.integers(0, T, len(counts)), rng.integers(0, T, E)
    centre = np.repeat(np.arange(len(counts)), counts)
    reach = cutoff_matrix(expert).numpy()[types[centre], neighbors]
    unit = rng.normal(size=(E, 3))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    length = rng.uniform(np.minimum(nearest, 0.5 * reach), 0.98 * reach)
    return Edges(
        torch.tensor(np.concatenate([[0], np.cumsum(counts)])),
        torch.tensor(types),
        torch.tensor(neighbors),
        torch.tensor(unit * length[:, None]),
    )


def moved(edges: Edges, vectors: torch.Tensor) -> Edges:
    return Edges(edges.first, edges.centre_types, edges.neighbor_types, vectors)


def gradients_are_those_of_the_energies(expert: Expert, relative: float = 1e-7) -> None:
    """Fourth-order differences: truncation ~ step⁴, rounding ~ 1e-15 E / step."""
    edges = random_edges(expert, [9, 0, 1, 14])
    energies, gradients = expert.site_energies(edges)
    assert energies.shape == (4,)
    assert energies.dtype == torch.float64
    assert torch.isfinite(energies).all()
    rng, step = np.random.default_rng(1), 1e-4
    for _ in range(3):
        way = torch.tensor(rng.normal(size=tuple(edges.vectors.shape)))
        e = [
            expert.site_energies(moved(edges, edges.vectors + k * step * way))[0].sum()
            for k in (-2, -1, 1, 2)
        ]
        slope = float(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)
        scale = float((gradients * way).abs().sum())
        assert abs(slope - float((gradients * way).sum())) < relative * scale + 1e-9


def energies_have_the_symmetries(expert: Expert) -> None:
    """Rotation, order of neighbours; centres know nothing of each other."""
    edges = random_edges(expert, [12, 7])
    energies, gradients = expert.site_energies(edges)
    scale = float(energies.abs().max())
    turn = torch.tensor(Rotation.from_rotvec([0.3, -0.9, 0.5]).as_matrix())
    turned = expert.site_energies(moved(edges, edges.vectors @ turn.T))
    assert float((turned[0] - energies).abs().max()) < 1e-11 * scale
    assert float((turned[1] - gradients @ turn.T).abs().max()) < 1e-9 * float(gradients.abs().max())
    order = torch.cat([torch.randperm(12), 12 + torch.randperm(7)])
    shuffled = Edges(
        edges.first, edges.centre_types, edges.neighbor_types[order], edges.vectors[order]
    )
    assert float((expert.site_energies(shuffled)[0] - energies).abs().max()) < 1e-11 * scale
    alone = Edges(
        torch.tensor([0, 12]),
        edges.centre_types[:1],
        edges.neighbor_types[:12],
        edges.vectors[:12],
    )
    assert abs(float(expert.site_energies(alone)[0][0] - energies[0])) < 1e-11 * scale


def energy_is_smooth_at_the_cutoff(expert: Expert) -> None:
    """A neighbour that arrives at the cutoff brings no energy and no force with it."""
    edges = random_edges(expert, [8])
    reach = expert.cutoff(
        expert.species[int(edges.centre_types[0])], expert.species[int(edges.neighbor_types[-1])]
    )
    unit = edges.vectors[-1] / edges.vectors[-1].norm()
    without = Edges(
        torch.tensor([0, 7]), edges.centre_types, edges.neighbor_types[:-1], edges.vectors[:-1]
    )
    base = float(expert.site_energies(without)[0])
    scale = float(expert.site_energies(edges)[1].norm(dim=1).max())
    for inside in (1e-3, 1e-4):
        vectors = torch.cat([edges.vectors[:-1], unit[None] * (reach - inside)])
        energies, gradients = expert.site_energies(moved(edges, vectors))
        # At least the force vanishes, linearly; the energy then with the square.
        assert float(gradients[-1].norm()) < 300 * inside * scale
        assert abs(float(energies) - base) < 300 * inside * inside * scale + 1e-12 * abs(base)


def description_and_tensors_are_the_whole_expert(expert: Expert) -> None:
    again = expert_class(expert.kind).from_tensors(expert.to_json(), expert.to_tensors())
    edges = random_edges(expert, [10, 3])
    for mine, other in zip(expert.site_energies(edges), again.site_energies(edges), strict=True):
        assert torch.equal(mine, other)
    assert again.species == expert.species


def rattled(species: tuple[str, ...], lattice: float = 3.98, seed: int = 2) -> Atoms:
    """A dense crystal of one species with the others among it, off their sites."""
    atoms = bulk("Pt", "fcc", a=lattice, cubic=True).repeat((3, 2, 2))
    rng = np.random.default_rng(seed)
    atoms.symbols[:] = rng.choice(species, len(atoms))
    atoms.positions += rng.normal(0.0, 0.06, atoms.positions.shape)
    return atoms


def mixture_with(expert: Expert) -> ExpertPair:
    """Allegro HF of the same species beside it; ZBL keeps atoms apart."""
    from duetto.experts.allegro.architecture import ZBLTerm

    T = len(expert.species)
    hf = high_fidelity(
        type_names=expert.species,
        cutoffs=((4.2,) * T,) * T,
        avg_num_neighbors=(12.0,) * T,
        zbl=ZBLTerm(6.0),
    )
    return ExpertPair(
        hf, expert, {"lf": {"seen_pairs": [[a, b] for a in expert.species for b in expert.species]}}
    )


def mixture_is_a_gradient(expert: Expert, atoms: Atoms | None = None) -> None:
    """Forces, virial and total force of a blended mixture with Allegro HF, in float64."""
    atoms = atoms or rattled(expert.species)
    rng = np.random.default_rng(3)
    weights = np.clip(np.linspace(-0.5, 1.5, len(atoms)), 0.0, 1.0)
    p = Potential(mixture_with(expert), list(atoms.symbols), weights, atoms.pbc, dtype="float64")

    def at(x: np.ndarray, cell: np.ndarray) -> Any:
        return p.evaluate(torch.tensor(x), torch.tensor(cell))

    x, cell, step = atoms.positions, atoms.cell.array, 1e-4
    result = at(x, cell)
    assert float(result.forces.sum(0).abs().max()) < 1e-10
    way = rng.normal(size=x.shape)
    strain = rng.normal(size=(3, 3))
    for change, expected in (
        (lambda k: at(x + k * step * way, cell), -(result.forces.numpy() * way).sum()),
        (
            lambda k: at(
                x @ (np.eye(3) + k * step * strain), cell @ (np.eye(3) + k * step * strain)
            ),
            -(result.virial.numpy() * strain).sum(),
        ),
    ):
        e = [change(k).energy for k in (-2, -1, 1, 2)]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)
        assert abs(slope - expected) < 1e-6 * np.abs(result.forces.numpy() * way).sum() + 1e-8


def runs_conserve_and_resume(expert: Expert, folder: Path, dtype: str = "float64") -> None:
    """`duetto run` with the expert as LF: energy stays, and a run cut in two is the same."""
    pair = mixture_with(expert)
    pair.save(folder / "pair.duetto")
    write(folder / "start.extxyz", rattled(expert.species[:1]))
    config = {
        "structure": "start.extxyz",
        "pair": "pair.duetto",
        "regions": {"complex": {"slab": {"axis": "x", "max": 4.0}}, "blend": {"width": 3.0}},
        "dtype": dtype,
        "timestep_fs": 0.5,
        "initial_temperature_K": 200,
        "stages": [{"ensemble": "nve", "steps": 60}],
        "output": {"dir": "whole", "thermo_every": 5, "checkpoint_every": 20},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["run", str(path)]) == 0
    half = ["output.dir=half", "stages.0.steps=30"]
    assert main(["run", str(path), *half]) == 0
    assert main(["run", str(path), "output.dir=half", "--resume"]) == 0
    whole, again = ((folder / name / "thermo.csv").read_text() for name in ("whole", "half"))
    assert whole == again
    rows = list(csv.DictReader(whole.splitlines()))
    conserved = np.array([float(row["conserved_eV"]) for row in rows])
    kinetic = np.array([float(row["kinetic_energy_eV"]) for row in rows])
    # Velocity Verlet's own error of the energy is of the order (ω h)² of what moves back and forth.
    assert np.ptp(conserved) < 0.02 * max(np.ptp(kinetic), 0.1 * kinetic.max())


ALL = (
    gradients_are_those_of_the_energies,
    energies_have_the_symmetries,
    energy_is_smooth_at_the_cutoff,
    description_and_tensors_are_the_whole_expert,
    mixture_is_a_gradient,
)
"""Every check that takes an expert alone; `runs_conserve_and_resume` takes a folder, too."""
