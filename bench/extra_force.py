"""How large the part of the forces is by which following weights depend on positions.

    python bench/extra_force.py

The shipped co-trained pair beside its independently trained twin: −Σ_i (E_i^HF − E_i^LF) ∂w_i/∂R on
the atoms of `examples/ptco/follow.yaml` as they are after a short run at 300 K.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from duetto.experts.pair import ExpertPair
from duetto.md import Langevin, initial_state, run_md
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential
from duetto.run.config import load_config

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
PAIRS = {"co-trained": "ptco.duetto", "twin": "ptco_independent.duetto"}


def potential_of(pair: ExpertPair) -> tuple[FollowingPotential, torch.Tensor, torch.Tensor]:
    """The potential of the example by a pair, and the example's positions and cell."""
    config = load_config(EXAMPLE / "follow.yaml")
    atoms = read(config.structure.file)
    follow = config.regions.follow
    assert follow is not None
    following = Following(follow.select(atoms), follow.core, follow.blend)
    potential = FollowingPotential(
        pair,
        list(atoms.symbols),
        config.regions.static_weights(atoms),
        atoms.pbc,
        dtype="float64",
        skin=0.8,
        following=following,
    )
    return potential, torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)


def warm(pair: ExpertPair, steps: int) -> torch.Tensor:
    """Positions of the example after `steps` steps at 300 K."""
    potential, _, _ = potential_of(pair)
    atoms = read(load_config(EXAMPLE / "follow.yaml").structure.file)
    state = initial_state(atoms, potential, temperature_K=600.0, seed=1)
    stages = [Langevin(steps, 300.0, 0.02)]
    *_, last = run_md(state, potential, stages, timestep_fs=1.0)
    return last.positions


def row(pair: ExpertPair, positions: torch.Tensor) -> tuple[float, float, float]:
    """Spread of E^HF − E^LF in the blend (meV), largest and rms extra force there (meV/Å)."""
    potential, _, cell = potential_of(pair)
    moving = potential.evaluate(positions, cell)
    fixed = Potential(
        pair, potential.species, potential.weights, potential.pbc, dtype="float64"
    ).evaluate(positions, cell)
    extra = 1000.0 * (moving.forces - fixed.forces).norm(dim=1).numpy()
    blend = (potential.weights > 0.0) & (potential.weights < 1.0)
    sites = moving.site_energies
    difference = 1000.0 * (sites["hf"] - sites["lf"]).numpy()[blend]
    root = float(np.sqrt((extra[blend] ** 2).mean()))
    return float(np.sqrt((difference**2).mean())), float(extra.max()), root


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="of warming up; default: 200")
    args = parser.parse_args()
    pairs = {name: ExpertPair.load(EXAMPLE / file) for name, file in PAIRS.items()}
    positions = warm(pairs["co-trained"], args.steps)
    print("| pair | E_HF − E_LF in the blend, rms | extra force, rms in the blend | largest |")
    print("|---|---|---|---|")
    for name, pair in pairs.items():
        difference, largest, root = row(pair, positions)
        print(f"| {name} | {difference:.2f} meV | {root:.2f} meV/Å | {largest:.2f} meV/Å |")


if __name__ == "__main__":
    main()
