"""CHGNet itself at a vacancy, a linear expert distilled from it everywhere else.

    python examples/chgnet_vacancy/vacancy.py OUT --length 2 --dtype float32    # half a minute
    duetto run OUT/run.yaml       # 5,000 steps at constant energy, a quarter of an hour on one core

Fits the linear LF to CHGNet on platinum (strained, rattled, with a vacancy; lattice and elastic
constants exactly CHGNet's), writes OUT/pair.duetto, OUT/vacancy.extxyz and OUT/run.yaml, and checks
that the mixture's forces are its gradient and what it costs beside CHGNet on all atoms. The pair
holds CHGNet by name and hash; its weights stay in its package.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from duetto.distil.fit import distil
from duetto.distil.report import write_pair
from duetto.distil.settings import settings_of
from duetto.experts.pair import ExpertPair
from duetto.experts.torch_model import open_torch_expert
from duetto.files import atomic_write
from duetto.potential.mixture import Potential

RUN = """\
structure: vacancy.extxyz
pair: pair.duetto
regions:
  complex: {{indices: {hf}}}
dtype: {dtype}
timestep_fs: 2.0
initial_temperature_K: 600
seed: 1
stages:
  - {{ensemble: nve, steps: 5000}}
output: {{dir: run, thermo_every: 10, trajectory_every: 500}}
"""

FIRST_SHELL = 3.2
"""Å around the vacancy: its twelve neighbours are CHGNet's."""


def main() -> None:
    """Fit, write, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=12, help="of each kind, to fit to")
    parser.add_argument("--length", type=int, default=16, help="cells of the rod")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    settings = settings_of(
        {
            "crystal": {"symbol": "Pt", "lattice": "fcc", "a": 3.95},
            "make": dict.fromkeys(("strained", "rattled", "vacancy"), args.frames),
            "folds": 4,
        }
    )
    hf = open_torch_expert("chgnet")
    fit = distil(hf, settings, print)
    pair_file = args.out / "pair.duetto"
    report = write_pair(hf, fit, settings, pair_file, "chgnet", {})
    assert fit.crystal is not None
    atoms, weights = rod(fit.crystal.a, args.length)
    write(args.out / "vacancy.extxyz", atoms)
    run = RUN.format(hf=np.flatnonzero(weights).tolist(), dtype=args.dtype)
    atomic_write(args.out / "run.yaml", run)
    pair = ExpertPair.load(pair_file)
    found = {
        "fit_rmse": report["fit_rmse"],
        "gradient_error": gradient_error(pair, atoms, weights),
        **cost(pair, atoms, weights),
    }
    atomic_write(args.out / "checks.json", json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def rod(a: float, length: int) -> tuple[Atoms, np.ndarray]:
    """A long periodic cell with a vacancy in its middle, rattled, and the weights of HF."""
    atoms = bulk("Pt", "fcc", a=a, cubic=True) * (2, 2, length)
    hole = np.argmin(np.linalg.norm(atoms.positions - atoms.cell.array.sum(axis=0) / 2, axis=1))
    away = atoms.get_distances(int(hole), range(len(atoms)), mic=True)
    weights = (away < FIRST_SHELL).astype(float)
    atoms.rattle(0.05, seed=1)
    atoms.arrays["hf"] = weights
    del atoms[int(hole)]
    return atoms, atoms.arrays["hf"]


def gradient_error(pair: ExpertPair, atoms: Atoms, weights: np.ndarray) -> float:
    """Largest |F + ΔE / 2h| of float64 forces along three random directions, eV/Å."""
    potential = mixture(pair, atoms, weights)
    cell = torch.from_numpy(atoms.cell.array.copy())
    x = torch.from_numpy(atoms.positions.copy())
    forces = potential.evaluate(x, cell).forces
    generator, errors, step = torch.Generator().manual_seed(0), [], 1e-4
    for _ in range(3):
        d = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        d[torch.from_numpy(weights) == 0] *= 0.1  # mostly where the experts meet
        d /= d.norm()
        ends = [potential.evaluate(x + s * step * d, cell).energy for s in (1, -1)]
        errors.append(abs(float((forces * d).sum()) + (ends[0] - ends[1]) / (2 * step)))
    return max(errors)


def cost(pair: ExpertPair, atoms: Atoms, weights: np.ndarray) -> dict[str, Any]:
    """Seconds of an evaluation of the mixture and of CHGNet on all atoms, in turns, the least."""
    cell = torch.from_numpy(atoms.cell.array.copy())
    x = torch.from_numpy(atoms.positions.copy())
    potentials = {
        "mixture_s": mixture(pair, atoms, weights),
        "chgnet_on_all_s": mixture(pair, atoms, np.ones(len(atoms))),
    }
    times: dict[str, list[float]] = {name: [] for name in potentials}
    for _ in range(3):
        for name, potential in potentials.items():
            start = time.perf_counter()
            potential.evaluate(x, cell)
            times[name].append(time.perf_counter() - start)
    least: dict[str, Any] = {name: min(found) for name, found in times.items()}
    least["atoms"], least["hf_atoms"] = len(atoms), int(weights.sum())
    least["speedup"] = least["chgnet_on_all_s"] / least["mixture_s"]
    return least


def mixture(pair: ExpertPair, atoms: Atoms, weights: np.ndarray) -> Potential:
    """In float64."""
    return Potential(pair, atoms.get_chemical_symbols(), weights, atoms.pbc, dtype="float64")


if __name__ == "__main__":
    main()
